"""Counters as they are committed now: calls that arrive while a statement runs share the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from groundswell.model import KEYS_MAX, Counter, Key
from groundswell.revision import Revision
from groundswell.rollup import RollupWorker
from groundswell.store import Store

AT_ONCE: Final = 4 * KEYS_MAX  # keys in one statement

Found = tuple[list[Counter], Revision]
Waiting = tuple[Sequence[Key], "asyncio.Future[Found]"]


class Current:
    """What the primary counts, including all that was committed before the call.

    Asks for what is rolled up and what waits to be, in one statement; where too much waits it has it
    rolled up first.
    """

    def __init__(self, store: Store, worker: RollupWorker) -> None:
        self._store = store
        self._worker = worker
        self._waiting: list[Waiting] = []
        self._running: asyncio.Task[None] | None = None

    async def counters(self, keys: Sequence[Key]) -> Found:
        """These counters in one state. Raises StoreUnavailable."""
        future: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self._waiting.append((keys, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="current counters")
        return await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._answer(self._take())
        finally:
            self._running = None

    def _take(self) -> list[Waiting]:
        taken, size = 0, 0
        while taken < len(self._waiting) and (not taken or size < AT_ONCE):
            size += len(self._waiting[taken][0])
            taken += 1
        group, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return group

    async def _answer(self, group: list[Waiting]) -> None:
        asked = list(dict.fromkeys(key for keys, _ in group for key in keys))
        try:
            rows, revision = await self._ask(asked)
        except Exception as error:
            for _, future in group:
                if not future.done():
                    future.set_exception(error)
            return
        found = dict(zip(asked, rows, strict=True))
        for keys, future in group:
            if not future.done():
                future.set_result(([found[key] for key in keys], revision))

    async def _ask(self, keys: Sequence[Key]) -> tuple[Sequence[Counter], Revision]:
        current = await self._store.current(keys)
        if current is not None:
            return current
        await self._worker.cover()
        read = await self._store.counters(keys)
        return [row.counter for row in read.rows], read.revision
