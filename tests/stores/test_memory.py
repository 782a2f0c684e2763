from __future__ import annotations

from collections.abc import Callable

from groundswell.kinds import Kinds
from groundswell.stores.memory import MemoryStore
from groundswell.testing import StoreConformance, wall_ms


class TestMemoryStore(StoreConformance):
    async def make(
        self, kinds: Kinds, *, rollups_kept: int = 1_000, now_ms: Callable[[], int] = wall_ms
    ) -> MemoryStore:
        return MemoryStore(kinds, rollups_kept=rollups_kept, now_ms=now_ms)
