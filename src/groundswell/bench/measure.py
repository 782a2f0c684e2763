"""Measures one load on a running system: what all workloads share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from groundswell.bench import check
from groundswell.bench.cost import Meter
from groundswell.bench.keepalive import Client, request
from groundswell.bench.load import Load
from groundswell.bench.results import Run
from groundswell.bench.servers import Databases
from groundswell.bench.systems import CHECKED, Running, Tuning

PROBE_S: Final = 0.25
LOOK_S: Final = 0.01  # its looks must not be a load of their own

T = TypeVar("T")


class Bench(NamedTuple):
    """The settings of a benchmark, and what its parts share."""

    databases: Databases
    folder: Path
    seconds: float  # of load in one run
    quick: bool
    data: Path | None  # where real traces and definitions are
    tunings: dict[str, Tuning]  # with which a peer was fastest
    turn: int = 0  # how many have gone before

    def subfolder(self, name: str) -> Path:
        """For a client that works beside others."""
        made = self.folder / name
        made.mkdir(exist_ok=True)
        return made

    def file(self, name: str) -> Path | None:
        """A file of real data, if there is such a folder and it is in it."""
        found = self.data / name if self.data is not None else None
        return found if found is not None and found.exists() else None


def rotated(of: Sequence[T], turn: int) -> list[T]:
    """All of them, beginning with another one in each turn."""
    first = turn % len(of)
    return [*of[first:], *of[:first]]


class Probe:
    """Likes a post that nobody else likes, looks until it shows, and keeps how long that took."""

    def __init__(self, url: str) -> None:
        self._client = Client(url)
        self._likes = check.USERS  # those of the check
        self._stopped = False
        self.took_ms: list[float] = []

    def run(self) -> None:
        """Again and again until stopped; to be called in a thread."""
        with self._client:
            while not self._stopped:
                self._once()
                time.sleep(PROBE_S)

    def _once(self) -> None:
        self._likes += 1
        self._client.send(request("PUT", f"/v1/edges/like/{CHECKED[-1]}/{self._likes}"))
        acknowledged_s = time.perf_counter()
        while (
            check.counts(self._client, CHECKED[-1:], "?consistency=eventual")[0] < self._likes
            and not self._stopped
        ):
            time.sleep(LOOK_S)
        self.took_ms.append((time.perf_counter() - acknowledged_s) * 1000)

    def stop(self) -> None:
        """Let it end; one under way is counted as having taken until now."""
        self._stopped = True


@asynccontextmanager
async def probing(url: str) -> AsyncIterator[Probe]:
    """A probe at work beside the block; it needs what `check.before` has left behind."""
    probe = Probe(url)
    working = asyncio.create_task(asyncio.to_thread(probe.run))
    try:
        yield probe
    finally:
        probe.stop()
        await working


async def reads(running: Running, load: Awaitable[Load], *, times: int = 1) -> Run:
    """A load that changes nothing; each request is `times` operations."""
    async with Meter(running.program, running.database) as meter:
        met = await load
    return _run(met, meter, met.requests * times)


async def likes(
    system: str,
    running: Running,
    load: Awaitable[Load],
    operations: int | None = None,
    distinct: int | None = None,
) -> Run:
    """Likes, one in a request, checked afterwards; where it is known how many there are, exactly."""
    before = await asyncio.to_thread(running.bytes_used)
    async with Meter(running.program, running.database) as meter, probing(running.url) as probe:
        met = await load
    made = operations or met.requests
    edges = await check.after(system, running, at_least=distinct or made, exactly=distinct)
    used = await asyncio.to_thread(running.bytes_used) - before
    return _run(
        met, meter, made, bytes_per_edge=used / edges, staleness_ms=max(probe.took_ms, default=None)
    )


def _run(met: Load, meter: Meter, operations: int, **more: float | None) -> Run:
    return Run(
        operations=operations,
        seconds=met.seconds,
        p50_ms=met.p50_ms,
        p95_ms=met.p95_ms,
        p99_ms=met.p99_ms,
        cpu_s=meter.program_s + meter.database_s,
        client_s=meter.client_s,
        memory_mib=meter.peak_mib,
        **more,
    )
