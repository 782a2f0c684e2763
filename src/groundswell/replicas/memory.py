"""A replica in this process's memory, bounded by an estimate of the bytes it takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import islice
from typing import Final, Generic, TypeVar

import msgspec

from groundswell.consistency import Standing
from groundswell.model import Counter, Document, Id, Key
from groundswell.replica import Held
from groundswell.revision import NOTHING
from groundswell.store import Counters, Documents, Rollup

COUNTER_BYTES: Final = 250  # measured: dictionary slot, key and value, on CPython 3.11
DOCUMENT_BYTES: Final = 600  # the same, without the data
EVICTED_SHARE: Final = 16  # one row in so many goes when the replica is full

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Rows(Generic[K, V]):
    """A dictionary that forgets the rows longest not used once they outweigh their bytes.

    A second chance instead of a strict order: reads only mark, so that they stay cheap (the CLOCK
    idea, Corbato 1968).
    """

    def __init__(self, bytes_max: int, weight: Callable[[V], int]) -> None:
        self._rows: dict[K, V] = {}
        self._used: set[K] = set()
        self._bytes = 0
        self._bytes_max = bytes_max
        self._weight = weight

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, keys: Sequence[K]) -> list[V | None]:
        found = []
        for key in keys:
            row = self._rows.get(key)
            if row is not None:
                self._used.add(key)
            found.append(row)
        return found

    def peek(self, keys: Iterable[K]) -> list[V | None]:
        return list(map(self._rows.get, keys))

    def __contains__(self, key: K) -> bool:
        return key in self._rows

    def __setitem__(self, key: K, row: V) -> None:
        old = self._rows.get(key)
        self._bytes += self._weight(row) - (self._weight(old) if old is not None else 0)
        self._rows[key] = row
        if self._bytes > self._bytes_max:
            self._evict(keep=key)

    def _evict(self, keep: K) -> None:
        while self._bytes > self._bytes_max and len(self._rows) > 1:
            for key in list(islice(self._rows, len(self._rows) // EVICTED_SHARE + 1)):
                row = self._rows.pop(key)
                if key in self._used or key == keep:
                    self._used.discard(key)
                    self._rows[key] = row  # once more round the clock
                else:
                    self._bytes -= self._weight(row)

    def clear(self) -> None:
        self._rows.clear()
        self._used.clear()
        self._bytes = 0


class MemoryReplica:
    """See `groundswell.replica.Replica` for what the methods promise."""

    def __init__(self, name: str, *, bytes_max: int) -> None:
        self.name = name
        self.standing = Standing(0, 0, NOTHING, -math.inf)
        self._counters: _Rows[Key, Counter] = _Rows(bytes_max // 2, lambda row: COUNTER_BYTES)
        self._documents: _Rows[Id, Document] = _Rows(
            bytes_max // 2,
            lambda row: DOCUMENT_BYTES + (memoryview(row.data).nbytes if row.data else 0),
        )

    def apply(self, rollup: Rollup) -> None:  # noqa: D102
        if rollup.number <= self.standing.rollup:
            return
        if rollup.number != self.standing.rollup + 1:
            raise ValueError(f"rollup {rollup.number} does not follow {self.standing.rollup}")
        for change in rollup.counts:
            self._counters[change.kind, change.target] = Counter(change.count, change.sum)
        for document in rollup.documents:
            self._documents[document.id] = document
        self.standing = msgspec.structs.replace(
            self.standing, rollup=rollup.number, revision=rollup.revision
        )

    def reset(self, epoch: int, at: Rollup) -> None:  # noqa: D102
        self._counters.clear()
        self._documents.clear()
        self.standing = Standing(epoch, at.number, at.revision, -math.inf)

    def certify(self, fresh_at_s: float) -> None:  # noqa: D102
        self.standing = msgspec.structs.replace(self.standing, fresh_at_s=fresh_at_s)

    async def counters(self, keys: Sequence[Key]) -> Held[Counter]:  # noqa: D102
        return Held(self.standing, self._counters.get(keys))

    def peek(self, keys: Sequence[Key]) -> list[Counter | None]:  # noqa: D102
        return self._counters.peek(keys)

    async def documents(self, ids: Sequence[str]) -> Held[Document]:  # noqa: D102
        return Held(self.standing, self._documents.get(ids))

    def fill_counters(self, keys: Sequence[Key], read: Counters) -> None:  # noqa: D102
        here = self.standing.rollup
        if here > read.rollup:
            return
        for key, row in zip(keys, read.rows, strict=True):
            if key in self._counters:
                continue  # the feed was faster
            if row.changed <= here:
                self._counters[key] = row.counter
            elif row.born > here:
                self._counters[key] = Counter(0)  # it did not exist yet

    def fill_documents(self, ids: Sequence[str], read: Documents) -> None:  # noqa: D102
        if self.standing.rollup > read.rollup:
            return
        for id_, row in zip(ids, read.rows, strict=True):
            if id_ in self._documents:
                continue
            if row is None:
                self._documents[id_] = Document(id_, "", 0, 0, None)
            elif self.standing.revision.sees(row.xid):
                self._documents[id_] = row
            elif row.version == 1:
                self._documents[id_] = Document(id_, "", 0, 0, None)  # it did not exist yet
