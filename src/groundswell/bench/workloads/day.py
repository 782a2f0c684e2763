"""`day`: the goalkeeper's: millions follow one account, thousands in a request; and what then is slower."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from groundswell.bench import check
from groundswell.bench.cost import Meter
from groundswell.bench.keepalive import Client, request
from groundswell.bench.load import wrk
from groundswell.bench.measure import Bench, probing
from groundswell.bench.results import Run
from groundswell.bench.servers import rows
from groundswell.bench.systems import SYSTEMS, Running
from groundswell.bench.workload import Workload, way

FOLLOWS: Final = 8_000_000
FOLLOWS_QUICK: Final = 200_000
ROWS: Final = 2_000  # in a request
CONNECTIONS: Final = 8  # two commits of two requests each, and as much to come
LIMIT_S: Final = 900.0
TARGET: Final = 7

# Called with the follows there are, between two parts of the day; its time is not the day's.
Between = Callable[[int, Running], Awaitable[None]]


class Part(msgspec.Struct, frozen=True):
    """Some of the day."""

    follows: int
    seconds: float


class Day(msgspec.Struct, frozen=True):
    """The whole of it."""

    run: Run
    parts: list[Part]
    memory_mib: list[tuple[float, float]]  # of the node: seconds, MiB resident
    staleness_ms: list[float]  # of each look


async def follow(bench: Bench, running: Running, made: int, until: int) -> Part:
    """Follow on until there are so many, with nothing else to do."""
    load = await wrk(
        *(bench.folder, running.url, "follows", (until - made) // ROWS, ROWS, made),
        clients=CONNECTIONS,
        seconds=LIMIT_S,
    )
    return Part(until - made, load.seconds)


async def live(bench: Bench, marks: list[int], between: Between | None = None) -> Day:
    """The day with a stop at each of these numbers of follows, the last of which is all."""
    async with SYSTEMS["groundswell"].running(bench.databases) as running:
        await check.before("groundswell", running)
        empty = await asyncio.to_thread(running.bytes_used)
        parts: list[Part] = []
        memory: list[tuple[float, float]] = []
        looks: list[float] = []
        costs = [0.0, 0.0]
        made, passed_s = 0, 0.0
        for mark in marks:
            async with (
                Meter(running.program, running.database) as meter,
                probing(running.url) as probe,
            ):
                parts.append(await follow(bench, running, made, mark))
            made = mark
            began_s = memory[-1][0] if memory else 0.0  # a meter outlives its part by a little
            memory += [(round(began_s + at_s, 1), mib) for at_s, mib in meter.memory_mib]
            passed_s += parts[-1].seconds
            looks += probe.took_ms
            costs[0] += meter.program_s + meter.database_s
            costs[1] += meter.client_s
            await _exact(running, made)
            if between is not None:
                await between(made, running)
        used = await asyncio.to_thread(running.bytes_used) - empty
    run = Run(
        operations=made,
        seconds=passed_s,
        cpu_s=costs[0],
        client_s=costs[1],
        memory_mib=max(mib for _, mib in memory),
        bytes_per_edge=used / made,
        staleness_ms=max(looks),
    )
    return Day(run, parts, memory, looks)


async def _exact(running: Running, follows: int) -> None:
    """The node's count is that of the rows, and of what was sent; Miscounted else."""
    count = f"SELECT count(*) FROM groundswell.edge_follow WHERE target = {TARGET}"
    [[stored]] = await asyncio.to_thread(rows, running.store, count)
    asked = request("GET", f"/v1/counts/follow/{TARGET}?consistency=linearizable")

    def ask() -> int:
        with Client(running.url) as client:
            return int(msgspec.json.decode(client.send(asked))["count"])

    told = await asyncio.to_thread(ask)
    if not stored == told == follows:
        raise check.Miscounted(f"{follows} follows: {stored} stored, {told} counted.")
    until_s = time.monotonic() + check.SETTLE_S
    while time.monotonic() < until_s:
        [[counted]] = await asyncio.to_thread(
            rows, running.store, "SELECT sum(count) FROM groundswell.counter WHERE kind = 'follow'"
        )
        if counted == follows:
            return
        await asyncio.sleep(0.1)
    raise check.Miscounted(f"{follows} follows: the counter stays at {counted}.")


async def day(bench: Bench) -> Run:
    """Without a stop."""
    return (await live(bench, [FOLLOWS_QUICK if bench.quick else FOLLOWS])).run


DAY: Final = Workload(
    "day",
    "The goalkeeper's day: distinct follows of one account, two thousand in a request",
    "follows",
    [way("groundswell", day)],
    f"{FOLLOWS:,} follows ({FOLLOWS_QUICK:,} with --quick), {CONNECTIONS} connections; "
    "once, whatever --runs says. Staleness is that of likes of another post, by a client of its own, all "
    "through the day.",
)
