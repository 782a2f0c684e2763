"""What is written in keys: text that people and other programs can read. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from groundswell.model import Counter, Document, Newest
from groundswell.revision import Revision
from groundswell.store import Item


class Published(msgspec.Struct, frozen=True):
    """Where the replica stands: `epoch rollup revision`."""

    raw: bytes
    epoch: int
    rollup: int
    revision: Revision

    @classmethod
    def parse(cls, raw: bytes) -> Published:
        """What `publish.lua` wrote."""
        epoch, rollup, revision = raw.split(b" ")
        return cls(raw, int(epoch), int(rollup), _revision(revision))


class Mark(msgspec.Struct, frozen=True):
    """Where a bucket stands: `epoch generation rollup busy revision`."""

    raw: bytes
    epoch: int
    generation: bytes
    rollup: int
    revision: bytes

    @classmethod
    def parse(cls, raw: bytes) -> Mark:
        """What `apply.lua` and `begin.lua` wrote."""
        epoch, generation, rollup, _, revision = raw.split(b" ")
        return cls(raw, int(epoch), generation, int(rollup), revision)


def _revision(text: bytes) -> Revision:
    _, xmax, xip = text.decode().split(":")
    return Revision.of(int(xmax), tuple(map(int, xip.split(","))) if xip else ())


class Listed(msgspec.Struct, frozen=True, array_like=True):
    """A target's count and newest edges, as they are until something about it changes."""

    asked: int  # how many were asked for: where fewer are held, there are no more
    counter: Counter
    edges: tuple[Newest, ...]

    def holds(self, newest: int) -> bool:
        """Whether so many edges can be taken from it, or there are no more."""
        return newest <= self.asked or len(self.edges) < self.asked


class _Head(msgspec.Struct, frozen=True, array_like=True):
    """An object's version; its data follow in a line of their own."""

    type: str
    version: int
    xid: int


NO_COUNT: Final = b"0 0"
YES: Final = b"1"
NO: Final = b"0"
_HEADS: Final = msgspec.json.Decoder(_Head)
_LISTS: Final = msgspec.json.Decoder(Listed)
_ENCODER: Final = msgspec.json.Encoder()


def counter(count: int, sum_: int) -> bytes:
    """The payload of a row."""
    return b"%d %d" % (count, sum_)


def counter_of(payload: bytes) -> Counter:
    """The counter of a row."""
    count, sum_ = payload.split(b" ")
    return Counter(int(count), int(sum_))


def document(row: Document) -> bytes:
    """The payload of an object; of one that is deleted, or never was, without data."""
    data = b"" if row.data is None else bytes(row.data)
    return _ENCODER.encode(_Head(row.type, row.version, row.xid)) + b"\n" + data


def document_of(id_: str, payload: bytes) -> Document:
    """The object."""
    head, _, data = payload.partition(b"\n")
    at = _HEADS.decode(head)
    return Document(id_, at.type, at.version, at.xid, msgspec.Raw(data) if data else None)


def listed(item: Item, asked: int) -> bytes:
    """The payload of a list."""
    return _ENCODER.encode(Listed(asked, item.counter, item.newest))


def listed_of(payload: bytes) -> Listed:
    """The list."""
    return _LISTS.decode(payload)
