"""What one like, read, rollup and replica cost, as docs/scale.md plans with: CPU, log and disk.

    python benchmarks/unit_costs.py [--seconds 5] > costs.toml

On this machine, with a private PostgreSQL and load from wrk. Beside them stands what the machine gives for
an endpoint that does nothing: figures of two machines, or hours, can be compared by it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import uvloop

from groundswell.bench import check
from groundswell.bench.cost import Meter, cpu_s
from groundswell.bench.keepalive import request
from groundswell.bench.load import Load, write_requests, wrk
from groundswell.bench.servers import HOST, Databases, databases, listening, rows
from groundswell.bench.systems import SYSTEMS, Running, program
from groundswell.bench.workloads import day, page
from groundswell.config import Settings
from groundswell.kinds import Kinds
from groundswell.model import Add
from groundswell.server.run import free_port
from groundswell.store import Batch
from groundswell.stores.postgres import PostgresStore

CLIENTS: Final = 64
KEYS: Final = 100  # in a request of many counts
EVENTS: Final = 100_000  # folded, and followed
COMMIT: Final = 1_000
ENOUGH: Final = 1_000_000  # requests, more than there is time for


class Used(NamedTuple):
    """What a load took, in all."""

    node_s: float  # CPU
    database_s: float
    log: int  # bytes of PostgreSQL's write-ahead log
    disk: int  # bytes of the database
    commits: int


class Costs:
    """Measures one thing after the other, each on a store of its own."""

    def __init__(self, there: Databases, folder: Path, seconds: float) -> None:
        self._there = there
        self._folder = folder
        self._seconds = seconds

    async def all(self) -> dict[str, dict[str, float]]:
        """By name, microseconds and bytes."""
        return {
            "machine": {"nothing_per_s": await self._nothing()},
            "like": await self._likes(),
            "bulk_like": await self._bulk(),
            **await self._reads(),
            "rollup": await self._rollups(),
            "replica": await self._replica(),
        }

    async def _nothing(self) -> float:
        port = free_port(HOST, 0)
        async with program("bare", ["--port", str(port)]):
            await listening(port)
            url = f"http://{HOST}:{port}"
            return round((await self._get(url, [request("GET", "/v1/counts/like/1")])).rate)

    async def _get(self, url: str, asked: list[bytes]) -> Load:
        file = write_requests(self._folder / "requests", asked)
        return await wrk(self._folder, url, "cycle", file, clients=CLIENTS, seconds=self._seconds)

    async def _likes(self) -> dict[str, float]:
        async with SYSTEMS["groundswell"].running(self._there) as running, using(running) as used:
            first = time.time_ns() // 10**6 % 10**9 * 10**6
            load = await wrk(
                *(self._folder, running.url, "likes", 1, first),
                clients=CLIENTS,
                seconds=self._seconds,
            )
        return of_writes(used[0], load.requests)

    async def _bulk(self) -> dict[str, float]:
        async with SYSTEMS["groundswell"].running(self._there) as running, using(running) as used:
            load = await wrk(
                *(self._folder, running.url, "follows", ENOUGH, day.ROWS, 0),
                clients=day.CONNECTIONS,
                seconds=self._seconds,
            )
        return of_writes(used[0], load.requests * day.ROWS)

    async def _reads(self) -> dict[str, dict[str, float]]:
        keys = [("like", post) for post in range(1, KEYS + 1)]
        body = {"keys": page.KEYS, "newest": page.NEWEST}
        asked = {
            "read": (1, [request("GET", "/v1/counts/like/1")]),
            "read_100": (
                KEYS,
                [request("POST", "/v1/counts", msgspec.json.encode({"keys": keys}))],
            ),
            "page": (
                1,
                [
                    request("POST", "/v1/page", msgspec.json.encode(body | {"viewer": viewer}))
                    for viewer in range(1, page.VIEWERS + 1)
                ],
            ),
        }
        found = {}
        async with SYSTEMS["groundswell"].running(self._there) as running:
            await asyncio.to_thread(page.fill, running.url)
            await asyncio.to_thread(check.settle, "groundswell", running.url, {1: page.LIKES})
            for name, (times, requests) in asked.items():
                await self._get(running.url, requests)  # what it has looked up stays looked up
                async with using(running) as used:
                    load = await self._get(running.url, requests)
                made = load.requests * times
                found[name] = {
                    "node_us": round(1e6 * used[0].node_s / made, 2),
                    "database_us": round(1e6 * used[0].database_s / made, 2),
                }
        return found

    async def _rollups(self) -> dict[str, float]:
        """Of events of distinct posts that have counts: what a spread load changes."""
        async with self._there.migrated() as url:
            store = await PostgresStore.open(url, Kinds(), connections=1)
            try:
                for user in range(2):
                    await _like_each(store, user)
                    before = cpu_s(self._there.processes()), _log(url)
                    await _fold(store)
                    after = cpu_s(self._there.processes()), _log(url)
            finally:
                await store.close()
            [[published]] = rows(url, _PUBLISHED)
        return {
            "database_us": round(1e6 * (after[0] - before[0]) / EVENTS, 2),
            "log_bytes": round((after[1] - before[1]) / EVENTS),
            "feed_bytes": round(float(published)),
        }

    async def _replica(self) -> dict[str, float]:
        """Of a node that nobody asks, per count that changes: to fetch it, and to hold it."""
        async with SYSTEMS["groundswell"].running(self._there) as running:
            store = await PostgresStore.open(running.store, Kinds(), connections=1)
            try:
                await _like_each(store, 0)
                await asyncio.to_thread(check.settle, "groundswell", running.url, {1: 1})
                async with using(running) as used:
                    await _like_each(store, 1)
                    await asyncio.to_thread(check.settle, "groundswell", running.url, {EVENTS: 2})
            finally:
                await store.close()
        return {"node_us": round(1e6 * used[0].node_s / EVENTS, 2)}


@contextlib.asynccontextmanager
async def using(running: Running) -> AsyncIterator[list[Used]]:
    """Filled with one, when the block ends."""
    found: list[Used] = []
    before = await asyncio.to_thread(_stored, running)
    async with Meter(running.program, running.database) as meter:
        yield found
    after = await asyncio.to_thread(_stored, running)
    log, disk, commits = (late - soon for late, soon in zip(after, before, strict=True))
    found.append(Used(meter.program_s, meter.database_s, log, disk, commits))


def of_writes(used: Used, made: int) -> dict[str, float]:
    """Of one of so many."""
    return {
        "node_us": round(1e6 * used.node_s / made, 1),
        "database_us": round(1e6 * used.database_s / made, 1),
        "log_bytes": round(used.log / made),
        "disk_bytes": round(used.disk / made),
        "commits": round(used.commits / made, 5),
    }


def _stored(running: Running) -> tuple[int, int, int]:
    [[commits]] = rows(running.store, _COMMITS)
    return _log(running.store), running.bytes_used(), int(commits)


def _log(url: str) -> int:
    [[written]] = rows(url, "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")
    return int(written)


async def _like_each(store: PostgresStore, user: int) -> None:
    for start in range(0, EVENTS, COMMIT):
        writes = tuple(Add("like", post, user) for post in range(start + 1, start + COMMIT + 1))
        await store.commit([Batch(writes)])


async def _fold(store: PostgresStore) -> None:
    while (rolled := await store.rollup(Settings().events_max)) is not None and rolled.more:
        pass


_COMMITS: Final = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
_PUBLISHED: Final = "SELECT sum(length(counts)) / sum(changes) FROM groundswell.rollup"


def toml(costs: dict[str, dict[str, float]]) -> str:
    lines = []
    for name, values in costs.items():
        pairs = ", ".join(f"{key} = {value:g}" for key, value in values.items())
        lines.append(f"{name} = {{ {pairs} }}")
    return "\n".join(lines)


async def main(seconds: float) -> None:
    with databases() as there, tempfile.TemporaryDirectory(prefix="groundswell-") as folder:
        sys.stdout.write(toml(await Costs(there, Path(folder), seconds).all()) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5)
    uvloop.run(main(parser.parse_args().seconds))
