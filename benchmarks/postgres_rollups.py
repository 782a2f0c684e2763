"""What rollups cost: by likes and by keys, and how a backlog is worked off.

    python benchmarks/postgres_rollups.py write --store URL --seconds 60
    python benchmarks/postgres_rollups.py work --store URL

are the processes of `stall`: one that commits while no worker runs, and then a worker alone.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import contextlib
import itertools
import os
import random
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(1, str(Path(__file__).parents[1] / "tests"))

from benchmarks.common import Figure
from benchmarks.postgres_server import Server, memory_kib

from groundswell.config import Settings
from groundswell.kinds import Kinds
from groundswell.model import Add
from groundswell.rollup import RollupWorker
from groundswell.store import Batch, Rolled
from groundswell.stores.postgres import PostgresStore
from groundswell.stores.postgres.queues import Queue
from groundswell.telemetry import Telemetry

COMMIT: Final = 1_000  # likes in a bulk commit
GROUP: Final = 100  # likes in a commit of a busy node
TARGETS: Final = 10_000  # among which those are spread, the n-th getting 1/n of the likes
EVENTS_MAX: Final = Settings().events_max


class Timed(PostgresStore):
    """Keeps what its rollups did, and how long each took."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rolled: list[tuple[float, int]] = []  # milliseconds, events

    async def rollup(self, events_max: int) -> Rolled | None:
        began_s = time.perf_counter()
        rolled = await super().rollup(events_max)
        if rolled is not None:
            self.rolled.append(((time.perf_counter() - began_s) * 1000, rolled.events))
        return rolled


@contextlib.asynccontextmanager
async def _opened(url: str) -> Any:
    store = await Timed.open(url, Kinds(), connections=1)  # what it has planned stays planned
    try:
        yield store
    finally:
        await store.close()


# --- by keys, not by likes ----------------------------------------------------------------------


class Cost(NamedTuple):
    """What it took to fold so many likes of so many targets."""

    likes: int
    targets: int
    events: int
    rollups: int
    longest_ms: float
    took_s: float


async def costs(server: Server, sizes: Iterable[int]) -> list[Cost]:
    """The same likes on one target, on as many as a commit has, and on as many as there are likes."""
    queue: Queue = "pgq" if server.pgq else "outbox"
    found = []
    for likes in sizes:
        for targets in (1, COMMIT, likes):
            async with server.migrated(queue) as url, _opened(url) as store:
                found.append(await _fold(store, likes, targets))
                await _check(server, url)
    return found


async def _fold(store: Timed, likes: int, targets: int) -> Cost:
    await store.commit([Batch((Add("like", 0, -1),))])
    await store.rollup(EVENTS_MAX)  # the first one is planned
    store.rolled.clear()
    for start in range(0, likes, COMMIT):
        await store.commit(
            [Batch(tuple(Add("like", n % targets, n) for n in range(start, start + COMMIT)))]
        )
    rolled = True
    while rolled:
        last = await store.rollup(EVENTS_MAX)
        rolled = last is not None and last.more
    return Cost(
        likes,
        targets,
        sum(events for _, events in store.rolled),
        len(store.rolled),
        max(ms for ms, _ in store.rolled),
        sum(ms for ms, _ in store.rolled) / 1000,
    )


def show_costs(found: list[Cost]) -> None:
    head = "targets", "likes", "events", "rollups", "longest ms", "in all ms", "us/like", "us/event"
    print("".join(f"{title:>12}" for title in head))
    for cost in sorted(found, key=lambda cost: (cost.targets == cost.likes, cost.targets)):
        us = cost.took_s * 1_000_000
        print(
            f"{cost.targets:12,}{cost.likes:12,}{cost.events:12,}{cost.rollups:12,}"
            f"{cost.longest_ms:12,.1f}{cost.took_s * 1000:12,.1f}"
            f"{us / cost.likes:12,.2f}{us / cost.events:12,.1f}"
        )


async def _check(server: Server, url: str) -> None:
    with server.connect(url) as connection:
        [[wrong]] = connection.execute(
            """
            SELECT count(*) FROM (
                SELECT target::text, count(*) FROM groundswell.edge_like GROUP BY target
            ) AS e FULL JOIN groundswell.counter AS c USING (target)
            WHERE e.count IS DISTINCT FROM c.count
            """
        ).fetchall()
    if wrong:
        raise RuntimeError(f"{wrong} counters differ from what is stored")


# --- a backlog ----------------------------------------------------------------------------------


class Wrote(msgspec.Struct):
    """What the writer did."""

    likes: int
    commits: int


class Caught(msgspec.Struct):
    """What the worker did."""

    seconds: float
    events: int
    rollups: int
    longest_ms: float
    before_kib: int  # its resident memory
    peak_kib: int


class Stalled(NamedTuple):
    """Both of them, and the server."""

    wrote: Wrote
    caught: Caught
    backend_kib: int  # the most that the worker's connections held, beside what all share


async def stall(server: Server, stop_s: float) -> Stalled:
    """Commits for so long without a worker, then a worker that has it all to do."""
    queue: Queue = "pgq" if server.pgq else "outbox"
    async with server.migrated(queue) as url:
        arguments = ["write", "--store", url, "--seconds", str(stop_s)]
        wrote = msgspec.json.decode(await _run(arguments), type=Wrote)
        working = asyncio.create_task(_run(["work", "--store", url]))
        backend_kib = 0
        with server.connect() as connection:
            while not working.done():
                pids = connection.execute(
                    "SELECT pid FROM pg_stat_activity WHERE application_name = 'groundswell'"
                ).fetchall()
                backend_kib = max(backend_kib, *(memory_kib(pid, "RssAnon") for [pid] in pids), 0)
                await asyncio.sleep(0.1)
        caught = msgspec.json.decode(await working, type=Caught)
        await _check(server, url)
    return Stalled(wrote, caught, backend_kib)


def stall_figures(found: Stalled) -> list[Figure]:
    wrote, caught = found.wrote, found.caught

    def figure(what: str, unit: str, value: float, target: float | None = None) -> Figure:
        return Figure(what, unit, target, [value], at_most=True)

    return [
        figure("backlog", "events", caught.events),
        figure("backlog", "likes", wrote.likes),
        figure("catch-up", "s", caught.seconds)._replace(digits=1),
        figure("catch-up", "events/s", caught.events / caught.seconds),
        figure("catch-up", "likes/s", wrote.likes / caught.seconds),
        figure("catch-up, longest rollup", "ms", caught.longest_ms),
        figure("worker before, resident", "MiB", caught.before_kib / 1024)._replace(digits=1),
        figure("worker at its peak, resident", "MiB", caught.peak_kib / 1024)._replace(digits=1),
        figure("worker's memory grew", "%", 100 * caught.peak_kib / caught.before_kib - 100, 10),
        figure("its backend at its peak, unshared", "MiB", found.backend_kib / 1024),
    ]


async def _run(arguments: list[str]) -> bytes:
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, *arguments, stdout=asyncio.subprocess.PIPE
    )
    try:
        said = (await process.communicate())[0]
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise RuntimeError(f"{arguments[0]} failed")
    return said


async def write(url: str, seconds: float) -> Wrote:
    """Commits of a busy node, one after the other."""
    targets = _spread(random.Random(20120704))
    done = Wrote(0, 0)
    async with _opened(url) as store:
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            sources = range(done.likes, done.likes + GROUP)
            await store.commit([Batch((Add("like", next(targets), n),), True) for n in sources])
            done.likes += GROUP
            done.commits += 1
    return done


def _spread(rng: random.Random) -> Iterator[int]:
    """Targets, as popular as their rank says."""
    weights = list(itertools.accumulate(1 / rank for rank in range(1, TARGETS + 1)))
    while True:
        yield bisect.bisect(weights, rng.random() * weights[-1])


async def work(url: str) -> Caught:
    """A node's worker, and nothing else of a node, until it has caught up."""
    settings = Settings()
    async with _opened(url) as store:
        worker = RollupWorker(
            store,
            Telemetry(),
            events_max=settings.events_max,
            pause_s=settings.rollup_pause_ms / 1000,
            poll_s=settings.poll_ms / 1000,
        )
        Path("/proc/self/clear_refs").write_text("5")  # from here on the peak counts
        before_kib = memory_kib(os.getpid(), "VmRSS")
        began_s = time.monotonic()
        working = asyncio.create_task(worker.run())
        await worker.cover()
        seconds = time.monotonic() - began_s
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        return Caught(
            seconds,
            sum(events for _, events in store.rolled),
            len(store.rolled),
            max((ms for ms, _ in store.rolled), default=0.0),
            before_kib,
            memory_kib(os.getpid(), "VmHWM"),
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["write", "work"])
    parser.add_argument("--store", required=True)
    parser.add_argument("--seconds", type=float, default=60.0)
    asked = parser.parse_args()
    if asked.what == "write":
        made: Wrote | Caught = uvloop.run(write(asked.store, asked.seconds))
    else:
        made = uvloop.run(work(asked.store))
    sys.stdout.buffer.write(msgspec.json.encode(made))
