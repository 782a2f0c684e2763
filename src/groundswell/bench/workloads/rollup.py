"""`rollup`: a backlog of events, each for another post, folded into counters."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Final

from groundswell.bench.check import Miscounted
from groundswell.bench.cost import Meter
from groundswell.bench.measure import Bench
from groundswell.bench.results import Run
from groundswell.bench.servers import rows
from groundswell.bench.workload import Workload, way
from groundswell.config import Settings
from groundswell.kinds import Kinds
from groundswell.model import Add
from groundswell.store import Batch
from groundswell.stores.postgres import PostgresStore

EVENTS: Final = 100_000
EVENTS_QUICK: Final = 20_000
COMMIT: Final = 1_000


async def node(bench: Bench) -> Run:
    """The worker's calls, one after the other, nothing else at work."""
    events = EVENTS_QUICK if bench.quick else EVENTS
    async with bench.databases.migrated() as url:
        store = await PostgresStore.open(url, Kinds(), connections=1)
        try:
            await store.commit([Batch((Add("like", 0, 1),))])
            await store.rollup(Settings().events_max)  # what it has planned stays planned
            for start in range(0, events, COMMIT):
                writes = tuple(
                    Add("like", post, 1) for post in range(start + 1, start + COMMIT + 1)
                )
                await store.commit([Batch(writes)])
            async with Meter(lambda: [os.getpid()], bench.databases.processes) as meter:
                began_s = time.perf_counter()
                more = True
                while more:
                    rolled = await store.rollup(Settings().events_max)
                    more = rolled is not None and rolled.more
                took_s = time.perf_counter() - began_s
        finally:
            await store.close()
        counted = "SELECT count(*), sum(count) FROM groundswell.counter WHERE kind = 'like'"
        [found] = await asyncio.to_thread(rows, url, counted)
    return _run("groundswell", events, found, events + 1, took_s, meter)


async def outbox(bench: Bench) -> Run:
    """The peer's worker, over as many events."""
    import asyncpg  # type: ignore[import-untyped]

    from groundswell.bench.peers.outbox_per_like import OutboxPerLike, fold

    events = EVENTS_QUICK if bench.quick else EVENTS
    async with bench.databases.empty() as url:
        await asyncio.to_thread(rows, url, OutboxPerLike.SCHEMA)
        fill = "INSERT INTO outbox (post_id) SELECT generate_series(1, %s)"
        await asyncio.to_thread(rows, url, fill, events)
        await asyncio.to_thread(rows, url, "VACUUM ANALYZE outbox")
        connection = await asyncpg.connect(url)
        async with Meter(lambda: [os.getpid()], bench.databases.processes) as meter:
            began_s = time.perf_counter()
            while await fold(connection):
                pass
            took_s = time.perf_counter() - began_s
        await connection.close()
        [found] = await asyncio.to_thread(rows, url, "SELECT count(*), sum(like_count) FROM posts")
    return _run("outbox-per-like", events, found, events, took_s, meter)


def _run(
    system: str, events: int, found: tuple[int, ...], due: int, took_s: float, meter: Meter
) -> Run:
    if found != (due, due):
        raise Miscounted(f"{system}: {found[0]} counters of {due}, {found[1]} likes in them.")
    return Run(
        operations=events,
        seconds=took_s,
        cpu_s=meter.program_s + meter.database_s,
        client_s=0.0,
        memory_mib=meter.peak_mib,
    )


ROLLUP: Final = Workload(
    "rollup",
    "Events of distinct posts folded into counters",
    "events",
    [way("groundswell", node), way("outbox-per-like", outbox)],
    f"A backlog of {EVENTS:,} ({EVENTS_QUICK:,} with --quick); the memory is that of the benchmark.",
)
