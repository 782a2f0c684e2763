"""A replica in this process's memory, bounded by an estimate of the bytes it takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import count, islice
from typing import Final, Generic, NamedTuple, TypeVar

import msgspec

from groundswell.consistency import Standing
from groundswell.model import Counter, Document, Id, Key, Newest
from groundswell.replica import Held
from groundswell.revision import NOTHING
from groundswell.store import CounterRow, Counters, Documents, Item, ItemRow, Items, Rollup, Sight

COUNTER_BYTES: Final = 250  # measured: dictionary slot, key and value, on CPython 3.11
DOCUMENT_BYTES: Final = 600  # the same, without the data
LISTED_BYTES: Final = 400  # a list without edges
NEWEST_BYTES: Final = 200  # each of its edges, without the data
FLAG_BYTES: Final = 250
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

    def one(self, key: K) -> V | None:
        row = self._rows.get(key)
        if row is not None:
            self._used.add(key)
        return row

    def __contains__(self, key: K) -> bool:
        return key in self._rows

    def __setitem__(self, key: K, row: V) -> None:
        old = self._rows.get(key)
        self._bytes += self._weight(row) - (self._weight(old) if old is not None else 0)
        self._rows[key] = row
        if self._bytes > self._bytes_max:
            self._evict(keep=key)

    def drop(self, key: K) -> None:
        row = self._rows.pop(key, None)
        if row is not None:
            self._bytes -= self._weight(row)
            self._used.discard(key)

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


class _Listed(NamedTuple):
    """A target's count and newest edges, as long as nothing about it changes."""

    counter: Counter
    number: int  # no two lists of a replica ever had the same
    asked: int  # how many were asked for: where fewer are held, there are no more
    edges: tuple[Newest, ...]


class MemoryReplica:
    """See `groundswell.replica.Replica` for what the methods promise."""

    def __init__(self, name: str, *, bytes_max: int) -> None:
        self.name = name
        self.away = False
        self.standing = Standing(0, 0, NOTHING, -math.inf)
        self._counters: _Rows[Key, Counter] = _Rows(bytes_max // 2, lambda row: COUNTER_BYTES)
        self._documents: _Rows[Id, Document] = _Rows(
            bytes_max // 4,
            lambda row: DOCUMENT_BYTES + (memoryview(row.data).nbytes if row.data else 0),
        )
        self._lists: _Rows[Key, _Listed] = _Rows(bytes_max // 8, _list_bytes)
        # Whether a viewer's edge exists, by the number of the list beside which it was read: with the
        # list they all go at once, and those that nobody can ask for any more are forgotten as unused.
        self._flags: _Rows[tuple[int, Id], bool] = _Rows(bytes_max // 8, lambda row: FLAG_BYTES)
        self._numbers = count(1)

    async def reach(self, epoch: int, number: int) -> None:  # noqa: D102
        pass

    def apply(self, rollup: Rollup) -> None:  # noqa: D102
        if rollup.number <= self.standing.rollup:
            return
        if rollup.number != self.standing.rollup + 1:
            raise ValueError(f"rollup {rollup.number} does not follow {self.standing.rollup}")
        for change in rollup.counts:
            key = (change.kind, change.target)
            self._counters[key] = Counter(change.count, change.sum)
            self._lists.drop(key)  # its edges are others now, even where the count is the same
        for document in rollup.documents:
            self._documents[document.id] = document
        self.standing = msgspec.structs.replace(
            self.standing, rollup=rollup.number, revision=rollup.revision
        )

    def reset(self, epoch: int, at: Rollup) -> None:  # noqa: D102
        for rows in (self._counters, self._documents, self._lists, self._flags):
            rows.clear()
        self.standing = Standing(epoch, at.number, at.revision, -math.inf)

    def certify(self, fresh_at_s: float) -> None:  # noqa: D102
        self.standing = msgspec.structs.replace(self.standing, fresh_at_s=fresh_at_s)

    async def counters(self, keys: Sequence[Key]) -> Held[Counter]:  # noqa: D102
        return Held(self.standing, self._counters.get(keys))

    def peek(self, keys: Sequence[Key]) -> list[Counter | None]:  # noqa: D102
        return self._counters.peek(keys)

    async def documents(self, ids: Sequence[str]) -> Held[Document]:  # noqa: D102
        return Held(self.standing, self._documents.get(ids))

    async def items(self, sights: Sequence[Sight]) -> Held[Item]:  # noqa: D102
        return Held(self.standing, [self._item(sight) for sight in sights])

    def _item(self, sight: Sight) -> Item | None:
        wanted, viewer = sight.newest, sight.viewer
        if not wanted and viewer is None:
            counter = self._counters.one(sight.key)
            return None if counter is None else Item(counter)
        listed = self._lists.one(sight.key)
        if listed is None:
            return None
        counter, number, asked, edges = listed
        if wanted > asked and not _holds(listed, wanted):  # nearly never: spared the call
            return None
        if viewer is None:
            return Item(counter, edges[:wanted])
        flag = self._flags.one((number, viewer))
        return None if flag is None else Item(counter, edges[:wanted], flag)

    async def fill_counters(self, keys: Sequence[Key], read: Counters) -> None:  # noqa: D102
        here = self.standing.rollup
        if here > read.rollup:
            return
        for key, row in zip(keys, read.rows, strict=True):
            self._fill_counter(key, row)

    def _fill_counter(self, key: Key, row: CounterRow) -> None:
        if key in self._counters:
            return  # the feed was faster
        if row.changed <= self.standing.rollup:
            self._counters[key] = row.counter
        elif row.born > self.standing.rollup:
            self._counters[key] = Counter(0)  # it did not exist yet

    async def fill_items(self, sights: Sequence[Sight], read: Items) -> None:  # noqa: D102
        if self.standing.rollup > read.rollup:
            return
        for sight, row in zip(sights, read.rows, strict=True):
            self._fill_counter(sight.key, row.row)
            if sight.newest or sight.viewer is not None:
                self._fill_edges(sight, row)

    def _fill_edges(self, sight: Sight, row: ItemRow) -> None:
        here, item = self.standing.rollup, row.item
        if row.row.born > here:
            item = Item(Counter(0), (), None if item.viewer is None else False)  # not one yet
        elif row.waiting or row.row.changed > here:
            return
        listed = self._lists.one(sight.key)
        if listed is None or not _holds(listed, sight.newest):
            number = next(self._numbers) if listed is None else listed.number
            listed = _Listed(item.counter, number, sight.newest, item.newest)
            self._lists[sight.key] = listed
        if sight.viewer is not None and item.viewer is not None:
            self._flags[listed.number, sight.viewer] = item.viewer

    async def fill_documents(self, ids: Sequence[str], read: Documents) -> None:  # noqa: D102
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


def _holds(listed: _Listed, newest: int) -> bool:
    """Whether so many edges can be taken from the list, or there are no more."""
    return newest <= listed.asked or len(listed.edges) < listed.asked


def _list_bytes(listed: _Listed) -> int:
    data = (edge.data for edge in listed.edges if edge.data is not None)
    return (
        LISTED_BYTES
        + NEWEST_BYTES * len(listed.edges)
        + sum(memoryview(raw).nbytes for raw in data)
    )
