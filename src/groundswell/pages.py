"""Pages: many counts, newest edges and single edges, all in one state.

A replica shows what it holds. What it lacks is read from the store once, for everybody who asks
meanwhile; that read answers them, and fills every replica for which it is valid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from groundswell.errors import StoreUnavailable
from groundswell.model import NEWEST_MAX
from groundswell.replica import Held, Replica
from groundswell.revision import Revision
from groundswell.rollup import RollupWorker
from groundswell.shared import Shared
from groundswell.store import Item, Items, Sight, Store

AT_ONCE: Final = 1_000  # sights in one statement
NEWEST_READ: Final = 10  # edges read at least, so that a page with a few more misses nothing
TRIES: Final = 5  # where every look at the queue finds it too long

Found = tuple[list[Item], Revision]


class Pages:
    """Reads pages from replicas and from the store."""

    def __init__(self, store: Store, replicas: Sequence[Replica], worker: RollupWorker) -> None:
        self._store = store
        self._replicas = replicas
        self._worker = worker
        self._shared = Shared[Sequence[Sight], Found](self._find, len, AT_ONCE)

    async def held(self, replica: Replica, sights: Sequence[Sight]) -> Held[Item] | None:
        """All these items at the replica's standing, if it holds them: never asks the store."""
        held = await replica.items(sights)
        return None if None in held.rows else held

    async def filled(self, replica: Replica, sights: Sequence[Sight]) -> Held[Item] | None:
        """The same, after one look at the store for what the replica lacks."""
        held = await self.held(replica, sights)
        if held is None:
            await self._shared(sights)
            held = await self.held(replica, sights)
        return held

    async def current(self, sights: Sequence[Sight]) -> Found:
        """These items with all that was committed before the call. Raises StoreUnavailable."""
        return await self._shared(sights)

    async def _find(self, group: Sequence[Sequence[Sight]]) -> Callable[[Sequence[Sight]], Found]:
        asked = list(dict.fromkeys(_deep(sight) for sights in group for sight in sights))
        read = await self._read(asked)
        for replica in self._replicas:
            if replica.standing.epoch == read.epoch:  # rollups are numbered in one
                await replica.fill_items(asked, read)
        found = {sight: row.item for sight, row in zip(asked, read.rows, strict=True)}
        return lambda sights: ([_cut(found[_deep(s)], s) for s in sights], read.revision)

    async def _read(self, sights: Sequence[Sight]) -> Items:
        for _ in range(TRIES):
            read = await self._store.items(sights)
            if read is not None:
                return read
            await self._worker.cover()
        raise StoreUnavailable(
            "More is written than the rollup keeps up with, so that no page can be read; nothing was "
            "changed. Try again."
        )


def _deep(sight: Sight) -> Sight:
    """The sight with as many edges as are read for it: few different numbers, for few statements."""
    if not sight.newest and sight.viewer is None:
        return sight
    return Sight(
        sight.key, sight.viewer, NEWEST_READ if sight.newest <= NEWEST_READ else NEWEST_MAX
    )


def _cut(item: Item, sight: Sight) -> Item:
    return Item(item.counter, item.newest[: sight.newest], item.viewer)
