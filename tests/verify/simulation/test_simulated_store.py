from __future__ import annotations

from collections.abc import Callable
from itertools import count
from random import Random

from groundswell.kinds import Kinds
from groundswell.testing import StoreConformance, wall_ms
from groundswell.verify.simulation.primary import Pace, Primary
from groundswell.verify.simulation.store import SimulatedStore, Way

_SEEDS = count()


class TestSimulatedStore(StoreConformance):
    """Where nothing takes time and nothing fails, it is a store like the others."""

    async def make(
        self, kinds: Kinds, *, rollups_kept: int = 1_000, now_ms: Callable[[], int] = wall_ms
    ) -> SimulatedStore:
        rng = Random(next(_SEEDS))
        primary = Primary(kinds, rng, Pace(), now_ms=now_ms, rollups_kept=rollups_kept)
        return SimulatedStore(primary, Way(rng))
