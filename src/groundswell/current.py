"""Counters as they are committed now: calls that arrive while a statement runs share the next one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from groundswell.model import KEYS_MAX, Counter, Key
from groundswell.revision import Revision
from groundswell.rollup import RollupWorker
from groundswell.shared import Shared
from groundswell.store import Store

AT_ONCE: Final = 4 * KEYS_MAX  # keys in one statement

Found = tuple[list[Counter], Revision]


class Current:
    """What the primary counts, including all that was committed before the call.

    Asks for what is rolled up and what waits to be, in one statement; where too much waits it has it
    rolled up first.
    """

    def __init__(self, store: Store, worker: RollupWorker) -> None:
        self._store = store
        self._worker = worker
        self._shared = Shared[Sequence[Key], Found](self._find, len, AT_ONCE)

    async def counters(self, keys: Sequence[Key]) -> Found:
        """These counters in one state. Raises StoreUnavailable."""
        return await self._shared(keys)

    async def _find(self, group: Sequence[Sequence[Key]]) -> Callable[[Sequence[Key]], Found]:
        asked = list(dict.fromkeys(key for keys in group for key in keys))
        rows, revision = await self._ask(asked)
        found = dict(zip(asked, rows, strict=True))
        return lambda keys: ([found[key] for key in keys], revision)

    async def _ask(self, keys: Sequence[Key]) -> tuple[Sequence[Counter], Revision]:
        current = await self._store.current(keys)
        if current is not None:
            return current
        await self._worker.cover()
        read = await self._store.counters(keys)
        return [row.counter for row in read.rows], read.revision
