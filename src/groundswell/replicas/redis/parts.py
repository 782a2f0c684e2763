"""A rollup as scripts: what it changes in each bucket, in parts that do not hold the server long."""

from __future__ import annotations

from typing import Final, NamedTuple

from groundswell.replicas.redis import cells
from groundswell.replicas.redis.names import Names
from groundswell.replicas.redis.scripts import Command, script
from groundswell.store import Rollup

PART: Final = 500  # changes in one script


class _Change(NamedTuple):
    """What one change writes and drops."""

    cell: bytes
    payload: bytes
    plain: tuple[bytes, int] | None = None  # the count beside it
    dropped: bytes | None = None


class Parts:
    """One rollup, by bucket."""

    def __init__(self, names: Names, epoch: int, rollup: Rollup) -> None:
        self._marks = names.marks
        self._epoch = epoch
        self._rollup = rollup
        self._changes: dict[int, list[_Change]] = {}
        for change in rollup.counts:
            key = (change.kind, change.target)
            bucket, cell = names.row(key)
            payload = cells.counter(change.count, change.sum)
            self._changes.setdefault(bucket, []).append(
                _Change(cell, payload, (names.count(key), change.count), names.newest(key).key)
            )
        for document in rollup.documents:
            bucket, cell = names.object(document.id)
            made = _Change(cell, cells.document(document))
            self._changes.setdefault(bucket, []).append(made)

    def scripts(self, bucket: int) -> list[Command]:
        """What brings a bucket that stands right before this rollup to it."""
        changes = self._changes.get(bucket, [])
        parts = [changes[at : at + PART] for at in range(0, len(changes), PART)] or [[]]
        return [self._script(bucket, part, last=part is parts[-1]) for part in parts]

    def _script(self, bucket: int, part: list[_Change], *, last: bool) -> Command:
        counts = [change.plain for change in part if change.plain is not None]
        payloads = [change.payload for change in part]
        keys = [
            self._marks[bucket],
            *(change.cell for change in part),
            *(name for name, _ in counts),
            *(change.dropped for change in part if change.dropped is not None),
        ]
        sizes = ("1" if last else "0", len(payloads), len(counts))
        where = (self._epoch, self._rollup.number, str(self._rollup.revision))
        return script("apply", keys, *where, *sizes, *payloads, *(count for _, count in counts))
