"""What is committed now: calls that arrive while a statement runs share the next one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from groundswell.model import Counter, Document, Key
from groundswell.revision import Revision
from groundswell.rollup import RollupWorker
from groundswell.shared import COUNTERS_AT_ONCE, DOCUMENTS_AT_ONCE, Shared, shared_rows
from groundswell.store import Store

Found = tuple[list[Counter], Revision]


class Current:
    """What the primary has, including all that was committed before the call.

    For counters it asks for what is rolled up and what waits to be, in one statement; where too much waits
    it has it rolled up first.
    """

    def __init__(self, store: Store, worker: RollupWorker) -> None:
        self._store = store
        self._worker = worker
        self._counters = Shared[Sequence[Key], Found](self._find, len, COUNTERS_AT_ONCE)
        self._documents = shared_rows(store.documents, DOCUMENTS_AT_ONCE)

    async def counters(self, keys: Sequence[Key]) -> Found:
        """These counters in one state. Raises StoreUnavailable."""
        return await self._counters(keys)

    async def documents(self, ids: Sequence[str]) -> tuple[list[Document], Revision]:
        """These objects in one state; those that do not exist with `data` None. The same errors."""
        read = await self._documents(ids)
        rows = zip(ids, read.rows, strict=True)
        return [row or Document(id_, "", 0, 0, None) for id_, row in rows], read.revision

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
