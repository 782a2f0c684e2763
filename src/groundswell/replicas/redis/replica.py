"""A replica in Redis, as one node sees it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, NamedTuple, TypeVar

import msgspec

from groundswell.consistency import Standing
from groundswell.errors import ReplicaUnavailable
from groundswell.model import Counter, Document, Key
from groundswell.replica import Held
from groundswell.replicas.redis import cells
from groundswell.replicas.redis.cells import Published
from groundswell.replicas.redis.feeder import Feeder
from groundswell.replicas.redis.fill import Fill
from groundswell.replicas.redis.link import Link
from groundswell.replicas.redis.names import BUCKETS, Name, Names
from groundswell.replicas.redis.reading import Cell, Reading
from groundswell.revision import NOTHING
from groundswell.store import Counters, Documents, Item, Items, Rollup, Sight, Source, Store

READ_S: Final = 0.25  # for an answer of Redis to a read; beyond, reads go elsewhere
WRITE_S: Final = 2.0
REACH_S: Final = 5.0  # for other nodes to bring it where the feed is; then it is said
REACH_PAUSE_S: Final = 0.005
SETTLE_S: Final = 0.05  # for a rollup that a read has met to be published
SETTLE_PAUSE_S: Final = 0.001

T = TypeVar("T")


class _Parts(NamedTuple):
    """What there is once it is known whether it is a cluster."""

    names: Names
    reading: Reading
    feeder: Feeder


class RedisReplica:
    """See `groundswell.replica.Replica` for what the methods promise, and this package for how.

    `standing` follows the feed, as in any replica, once the rows are there; those may be further. It
    is shared by all nodes of the same store and prefix.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        prefix: str,
        store: Store,
        source: Source | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`source` is where it is fed from, if not from the store itself."""
        self.name = name
        self.away = True
        self.standing = Standing(0, 0, NOTHING, -math.inf)
        self._prefix = prefix
        self._store = store
        self._source = source or store
        self._clock = clock
        self._to_read = Link(url, timeout_s=READ_S)
        self._to_write = Link(url, timeout_s=WRITE_S)
        self._parts: _Parts | None = None

    # --- where it stands ------------------------------------------------------------------------

    async def reach(self, epoch: int, number: int) -> None:  # noqa: D102
        try:
            await self._reach(epoch, number)
        except ReplicaUnavailable:
            self.away = True
            raise

    async def _reach(self, epoch: int, number: int) -> None:
        feeder = (await self._connected()).feeder
        until_s = self._clock() + REACH_S
        while True:
            asked_s = self._clock()
            published, elected = await feeder.look()
            is_quick = self._clock() - asked_s < READ_S
            if elected or self.standing.epoch == 0:  # at first, everybody makes sure of all of it
                published = await feeder.feed(epoch, number, published)
            if published is not None and (published.epoch, published.rollup) >= (epoch, number):
                self.away = self.away and not is_quick
                return
            if self._clock() > until_s:
                raise ReplicaUnavailable(
                    f"Nobody has brought the replica in Redis to rollup {number} of epoch {epoch} "
                    f"within {REACH_S:.0f} s. See to the node that feeds it."
                )
            await asyncio.sleep(REACH_PAUSE_S)

    def apply(self, rollup: Rollup) -> None:  # noqa: D102
        if rollup.number <= self.standing.rollup:
            return
        if rollup.number != self.standing.rollup + 1:
            raise ValueError(f"rollup {rollup.number} does not follow {self.standing.rollup}")
        self.standing = msgspec.structs.replace(
            self.standing, rollup=rollup.number, revision=rollup.revision
        )

    def reset(self, epoch: int, at: Rollup) -> None:  # noqa: D102
        self.standing = Standing(epoch, at.number, at.revision, -math.inf)

    def certify(self, fresh_at_s: float) -> None:  # noqa: D102
        self.standing = msgspec.structs.replace(self.standing, fresh_at_s=fresh_at_s)

    async def close(self) -> None:
        """Let another node feed it, and let go of all connections."""
        if self._parts is not None:
            await self._parts.feeder.close()
        await self._to_read.close()
        await self._to_write.close()

    async def _connected(self) -> _Parts:
        if self._parts is None:
            buckets = BUCKETS if await self._to_write.is_cluster() else 1
            names = Names(self._prefix, self._store.identity, buckets)
            feeder = Feeder(self.name, self._to_write, names, self._store, self._source)
            self._parts = _Parts(names, Reading(self._to_read, names), feeder)
        return self._parts

    # --- reading --------------------------------------------------------------------------------

    async def counters(self, keys: Sequence[Key]) -> Held[Counter]:  # noqa: D102
        names, reading, _ = await self._connected()
        asked = [names.row(key) for key in keys]
        published, rows = await self._settled(lambda: reading.counters(asked))
        return Held(self._standing(published), rows)

    def peek(self, keys: Sequence[Key]) -> list[Counter | None]:  # noqa: D102
        return [None] * len(keys)  # nothing of it is here

    async def documents(self, ids: Sequence[str]) -> Held[Document]:  # noqa: D102
        names, reading, _ = await self._connected()
        asked = [names.object(id_) for id_ in ids]
        published, found = await self._settled(lambda: reading.cells(asked))
        rows = [
            None if cell is None else cells.document_of(id_, cell.payload)
            for id_, cell in zip(ids, found, strict=True)
        ]
        return Held(self._standing(published), rows)

    async def items(self, sights: Sequence[Sight]) -> Held[Item]:  # noqa: D102
        names, reading, _ = await self._connected()
        asked = [name for sight in sights for name in _asked(names, sight)]
        published, found = await self._settled(lambda: reading.cells(asked))
        left = iter(found)
        return Held(self._standing(published), [_item(sight, left) for sight in sights])

    async def _settled(
        self, read: Callable[[], Awaitable[tuple[Published, list[T]] | None]]
    ) -> tuple[Published, list[T]]:
        """What is read, at one standing; waits a moment where a rollup is just being published."""
        until_s: float | None = None
        while True:
            try:
                found = await read()
            except ReplicaUnavailable:
                self.away = True  # until a look at it succeeds
                raise
            if found is not None:
                return found
            now_s = self._clock()
            until_s = until_s or now_s + SETTLE_S
            if now_s > until_s:
                raise ReplicaUnavailable(
                    "The replica in Redis has lost writes, and is about to get them again. Reads go "
                    "elsewhere until then."
                )
            await asyncio.sleep(SETTLE_PAUSE_S)

    def _standing(self, published: Published) -> Standing:
        """What was published as a standing, with the age that is known of it."""
        here = self.standing
        if (published.epoch, published.rollup) == (here.epoch, here.rollup):
            return here
        is_later = published.epoch == here.epoch and published.rollup > here.rollup
        fresh_at_s = here.fresh_at_s if is_later else -math.inf
        return Standing(published.epoch, published.rollup, published.revision, fresh_at_s)

    # --- filling --------------------------------------------------------------------------------

    async def fill_counters(self, keys: Sequence[Key], read: Counters) -> None:  # noqa: D102
        if fill := self._fill(read):
            for key, row in zip(keys, read.rows, strict=True):
                fill.counter(key, row)
            await self._filled(fill)

    async def fill_documents(self, ids: Sequence[str], read: Documents) -> None:  # noqa: D102
        if fill := self._fill(read):
            for id_, row in zip(ids, read.rows, strict=True):
                fill.document(id_, row)
            await self._filled(fill)

    async def fill_items(self, sights: Sequence[Sight], read: Items) -> None:  # noqa: D102
        if fill := self._fill(read):
            for sight, row in zip(sights, read.rows, strict=True):
                fill.counter(sight.key, row.row)
                if sight.newest or sight.viewer is not None:
                    fill.edges(sight, row)
            await self._filled(fill)

    def _fill(self, read: Counters | Documents | Items) -> Fill | None:
        if self.away or self._parts is None:
            return None
        return Fill(self._parts.names, read.epoch, read.rollup)

    async def _filled(self, fill: Fill) -> None:
        commands = fill.commands()
        try:
            await self._to_read.run([command[3] for command in commands], commands)
        except ReplicaUnavailable:
            self.away = True


def _asked(names: Names, sight: Sight) -> list[Name]:
    """The cells of a sight."""
    if not sight.newest and sight.viewer is None:
        return [names.row(sight.key)]
    asked = [names.newest(sight.key)]
    return asked if sight.viewer is None else [*asked, names.edge(sight.key, sight.viewer)]


def _item(sight: Sight, left: Iterator[Cell | None]) -> Item | None:
    """The item of a sight from its cells, which are next."""
    first = next(left)
    if not sight.newest and sight.viewer is None:
        return None if first is None else Item(cells.counter_of(first.payload))
    edge = None if sight.viewer is None else next(left)
    if first is None:
        return None
    listed = cells.listed_of(first.payload)
    if not listed.holds(sight.newest):
        return None
    edges = listed.edges[: sight.newest]
    if sight.viewer is None:
        return Item(listed.counter, edges)
    if edge is None or edge.rollup < first.rollup:
        return None  # something may have changed between the two
    return Item(listed.counter, edges, edge.payload == cells.YES)
