"""Brings into a replica what it does not hold: each row is asked of the store once, whoever waits.

Rows that are missed while a statement runs share the next one: where readers go through more rows than a
replica holds, there are as many misses as clients at any time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Final, TypeVar

from groundswell.model import Counter, Document, Key
from groundswell.replica import Held, Replica
from groundswell.shared import COUNTERS_AT_ONCE, DOCUMENTS_AT_ONCE, shared_rows
from groundswell.store import Source

TRIES: Final = 3  # a fill is overtaken when a rollup lands while it is read

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Fills:
    """Reads of a replica that fill what is missing (single flight)."""

    def __init__(self, source: Source) -> None:
        self._counters = shared_rows(source.counters, COUNTERS_AT_ONCE)
        self._documents = shared_rows(source.documents, DOCUMENTS_AT_ONCE)
        self._running: dict[tuple[str, Any], asyncio.Task[None]] = {}

    async def counters(self, replica: Replica, keys: Sequence[Key]) -> Held[Counter] | None:
        """All these counters at one standing; None where the replica cannot show them there."""
        held = await replica.counters(keys)
        if None not in held.rows:  # nearly always: spared what follows
            return held

        async def fill(missing: list[Key]) -> None:
            read = await self._counters(missing)
            if read.epoch == replica.standing.epoch:  # rollups are numbered in one
                await replica.fill_counters(missing, read)

        return await self._filled(replica, keys, held, replica.counters, fill)

    async def documents(self, replica: Replica, ids: Sequence[str]) -> Held[Document] | None:
        """The same for objects."""
        held = await replica.documents(ids)
        if None not in held.rows:
            return held

        async def fill(missing: list[str]) -> None:
            read = await self._documents(missing)
            if read.epoch == replica.standing.epoch:
                await replica.fill_documents(missing, read)

        return await self._filled(replica, ids, held, replica.documents, fill)

    async def _filled(
        self,
        replica: Replica,
        keys: Sequence[K],
        held: Held[T],
        get: Callable[[Sequence[K]], Awaitable[Held[T]]],
        fill: Callable[[list[K]], Awaitable[None]],
    ) -> Held[T] | None:
        """What the replica holds after up to a few fills of what `held` lacks."""
        for _ in range(TRIES):
            missing = [key for key, row in zip(keys, held.rows, strict=True) if row is None]
            await self._fill(replica.name, missing, fill)
            held = await get(keys)
            if None not in held.rows:
                return held
        return None

    async def _fill(
        self, name: str, missing: list[K], fill: Callable[[list[K]], Awaitable[None]]
    ) -> None:
        mine = [key for key in dict.fromkeys(missing) if (name, key) not in self._running]
        waiting = {self._running[name, key] for key in missing if (name, key) in self._running}
        if mine:
            task = asyncio.ensure_future(self._run(name, mine, fill))
            # An error is not to be reported as unheard when all who waited have gone away.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._running.update({(name, key): task for key in mine})
            waiting.add(task)
        # Shielded: a reader that goes away must not take the others' fill with it.
        await asyncio.gather(*(asyncio.shield(task) for task in waiting))

    async def _run(
        self, name: str, keys: list[K], fill: Callable[[list[K]], Awaitable[None]]
    ) -> None:
        try:
            await fill(keys)
        finally:
            for key in keys:
                del self._running[name, key]
