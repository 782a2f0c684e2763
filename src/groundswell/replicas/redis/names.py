"""The names of keys, and which bucket each is in."""

from __future__ import annotations

from binascii import crc_hqx
from typing import Final, NamedTuple

from groundswell.model import Id, Key

BUCKETS: Final = 16  # of a cluster: as many masters at most can share the work
IDENTITY_CHARS: Final = 8  # of the store's identity in names, so that two stores never mix
ROWS_MAX: Final = 50_000  # names that need not be made again


class Name(NamedTuple):
    """The name of a cell."""

    bucket: int
    key: bytes


class Names:
    """Every key of one store's replica.

    What is meant for others to read is the count, `{prefix}{b}:count:{kind}:{target}`. What else there is
    carries the store's identity in its name.
    """

    def __init__(self, prefix: str, identity: str, buckets: int) -> None:
        self._buckets = buckets
        self._rows: dict[Key, Name] = {}
        public = [f"{prefix}{{{bucket}}}:" for bucket in range(buckets)]
        own = [f"{name}{identity[:IDENTITY_CHARS]}:" for name in public]
        self._counts = [f"{name}count:".encode() for name in public]
        self._own = [name.encode() for name in own]
        #: Of each bucket: where it stands.
        self.marks = [name + b"mark" for name in self._own]
        #: Of each bucket: the generation that nothing is left of any other beside.
        self.swept = [name + b"swept" for name in self._own]
        #: Where the replica stands, and who feeds it: in the first bucket.
        self.standing = self._own[0] + b"standing"
        self.feeder = self._own[0] + b"feeder"

    def row(self, key: Key) -> Name:
        """The counter of a (kind, target)."""
        name = self._rows.get(key)
        if name is None:
            if len(self._rows) >= ROWS_MAX:
                self._rows.clear()
            name = self._rows[key] = self._of(b"row:", _text(key))
        return name

    def count(self, key: Key) -> bytes:
        """The plain count of a (kind, target), for others to read."""
        text = _text(key)
        return self._counts[crc_hqx(text, 0) % self._buckets] + text

    def newest(self, key: Key) -> Name:
        """The newest edges of a (kind, target)."""
        return self._of(b"list:", _text(key))

    def edge(self, key: Key, viewer: Id) -> Name:
        """Whether an edge exists, in the bucket of its target."""
        bucket, start = self._of(b"edge:", _text(key))
        return Name(bucket, start + f":{len(str(key[1]))}:{viewer}".encode())

    def object(self, id_: str) -> Name:
        """An object."""
        return self._of(b"object:", id_.encode())

    def _of(self, what: bytes, text: bytes) -> Name:
        bucket = crc_hqx(text, 0) % self._buckets
        return Name(bucket, self._own[bucket] + what + text)

    def patterns(self, bucket: int) -> list[bytes]:
        """What a bucket's cells and counts are called, for SCAN."""
        return [self._own[bucket] + b"*", self._counts[bucket] + b"*"]

    def cell_of(self, bucket: int, key: bytes) -> bytes | None:
        """The cell that tells whether a key is of use: itself, or a count's row; None for a mark."""
        own, counts = self._own[bucket], self._counts[bucket]
        if key.startswith(counts):
            return own + b"row:" + key.removeprefix(counts)
        return key if key.removeprefix(own).partition(b":")[1] else None


def _text(key: Key) -> bytes:
    return f"{key[0]}:{key[1]}".encode()
