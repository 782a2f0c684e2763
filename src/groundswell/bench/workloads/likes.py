"""`likes` and `likes-256`: everybody likes one post, one like in a request."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from groundswell.bench import check, measure
from groundswell.bench.load import wrk
from groundswell.bench.measure import Bench
from groundswell.bench.results import Run
from groundswell.bench.systems import PEERS, SYSTEMS, Tuning
from groundswell.bench.workload import Workload, way

CLIENTS: Final = 64
CROWD: Final = 256


async def like(
    bench: Bench, system: str, tuning: Tuning | None = None, *, clients: int = CLIENTS
) -> Run:
    """Distinct likes of post 1 for some seconds, on a new store."""
    tuned = tuning or bench.tunings.get(system)
    async with SYSTEMS[system].running(bench.databases, tuned) as running:
        await check.before(system, running)
        load = wrk(
            *(bench.folder, running.url, "likes", 1, time.time_ns() // 1_000_000 % 10**9 * 10**6),
            clients=clients,
            seconds=bench.seconds,
        )
        return await measure.likes(system, running, load)


def _workload(name: str, clients: int, peers: Sequence[str]) -> Workload:
    return Workload(
        name,
        f"One hot post, one like in a request, {clients} clients",
        "likes",
        [
            way(system, partial(like, system=system, clients=clients))
            for system in ("groundswell", *peers)
        ],
        "Each client waits for the answer; every like is by somebody else.",
    )


LIKES: Final = _workload("likes", CLIENTS, PEERS)
# Not all, for the time it takes: those that update a row, and the one that does not.
LIKES_CROWD: Final = _workload(
    "likes-256", CROWD, ["inline", "inline-sqlalchemy", "slotted", "outbox-per-like"]
)
