"""Likes one by one through HTTP on PostgreSQL: how many, how soon seen; beside the naive way."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

import msgspec
from benchmarks.common import Figure, Load, Wrk
from benchmarks.postgres_server import Server

from groundswell.bench.keepalive import Client, request
from groundswell.bench.peers.inline import Inline
from groundswell.bench.servers import HOST, listening
from groundswell.bench.systems import program
from groundswell.demo import child
from groundswell.server.run import free_port
from groundswell.stores.postgres.queues import Queue

CLIENTS: Final = (64, 256)
POOLS: Final = (1, 4, 8, 16)  # sizes that the peer is tried with
PROBES: Final = 2_000  # at most, in one run
SETTLE: Final = 100  # looks, a tenth of a second apart

TRUTH: Final = """
    SELECT (SELECT count(*) FROM groundswell.edge_like),
           (SELECT sum(count) FROM groundswell.counter WHERE kind = 'like'),
           (SELECT count(*) FROM groundswell.edge_like WHERE target = 1)
"""

SCRIPT: Final = """
math.randomseed(os.time() * 1000 + {salt})
local n, base = 0, math.random(1, 1000000)
function request()
  n = n + 1
  return wrk.format("PUT", string.format("{path}/1/%d%07d", base, n))
end
"""


class Bench:
    """The server, and the settings of the run."""

    def __init__(self, server: Server, wrk: Wrk, seconds: int, runs: int) -> None:
        self.server = server
        self.seconds = seconds
        self.runs = runs
        self._wrk = wrk

    async def load(self, url: str, clients: int, path: str, seconds: float | None = None) -> Load:
        """Likes of one target, from as many clients as keep one request under way each."""
        return await self._wrk(url, clients, seconds or self.seconds, SCRIPT, path=path)

    async def likes(self, queue: Queue, clients: int, workers: int = 1) -> Load:
        """Through a node on a new store."""
        arguments = ["--workers", str(workers)]
        async with (
            self.server.migrated(queue) as store,
            child.node(["--store", store, *arguments]) as node,
        ):
            done = await self.load(node.url, clients, "/v1/edges/like")
            await self.check(store, node.url, done.requests)
        return done

    async def check(self, store: str, url: str, acknowledged: int) -> None:
        """Raise unless edges, counters and node agree, and nothing acknowledged is missing.

        Requests that wrk left behind are still being committed for a moment.
        """
        with Client(url) as client, self.server.connect(store) as connection:
            for _ in range(SETTLE):
                told = count(client, 1, "linearizable")
                [found] = connection.execute(TRUTH.encode()).fetchall()
                edges, counted, hot = found
                if edges == counted and hot == told and edges >= acknowledged:
                    return
                await asyncio.sleep(0.1)
        raise RuntimeError(
            f"{acknowledged} acknowledged, edges, counted, hot: {found}; told {told}"
        )

    async def peer(
        self, clients: int, pool: int, name: str = "inline", seconds: float | None = None
    ) -> Load:
        """Through the naive endpoint, or `inline-cte`."""
        with self.server.empty() as url:
            with self.server.connect(url) as connection:
                connection.execute(Inline.SCHEMA.encode())
                connection.execute("INSERT INTO posts (id) VALUES (1)")
            options = ["--store", url, "--pool", str(pool)]
            async with listens(lambda port: program(name, [*options, "--port", port])) as address:
                done = await self.load(address, clients, "/v1/edges/like", seconds)
            with self.server.connect(url) as connection:
                [[edges, counted]] = connection.execute(
                    "SELECT (SELECT count(*) FROM likes), sum(like_count) FROM posts"
                ).fetchall()
            if edges != counted or edges < done.requests:
                raise RuntimeError(f"peer: {done.requests} acknowledged, {edges}, {counted}")
        return done


@contextlib.asynccontextmanager
async def listens(
    started: Callable[[str], contextlib.AbstractAsyncContextManager[int]],
) -> AsyncIterator[str]:
    """A peer in a process of its own, started on the port that it is told; its address."""
    port = free_port(HOST, 0)
    async with started(str(port)):
        await listening(port)
        yield f"http://{HOST}:{port}"


def count(client: Client, target: int, level: str) -> int:
    body = client.send(request("GET", f"/v1/counts/like/{target}?consistency={level}"))
    found: int = msgspec.json.decode(body)["count"]
    return found


async def best_pool(bench: Bench, clients: int) -> int:
    """The size of the pool with which the peer is fastest, of two short runs each."""
    best: dict[int, float] = dict.fromkeys(POOLS, 0.0)
    for _ in range(2):
        for pool in POOLS:
            done = await bench.peer(clients, pool, seconds=min(bench.seconds, 2))
            best[pool] = max(best[pool], done.rate)
    tried = ", ".join(f"{pool}: {rate:,.0f}/s" for pool, rate in best.items())
    print(f"the peer's pool, {clients} clients: {tried}", flush=True)
    return max(best, key=best.__getitem__)


async def single_likes(bench: Bench, target: float) -> list[Figure]:
    """Each way in turn, again and again; and how many times the peer a node is, run by run."""
    queues: tuple[Queue, ...] = ("pgq", "outbox") if bench.server.pgq else ("outbox",)
    figures: list[Figure] = []
    for clients in CLIENTS:
        pool = await best_pool(bench, clients)
        done: dict[str, list[Load]] = {}
        for _ in range(bench.runs):
            peers = {f"peer, pool of {pool}": "inline", "peer, one statement": "inline-cte"}
            for label, name in peers.items():
                done.setdefault(label, []).append(await bench.peer(clients, pool, name))
            for queue in queues:
                done.setdefault(queue, []).append(await bench.likes(queue, clients))
            two = await bench.likes(queues[0], clients, workers=2)
            done.setdefault(f"{queues[0]}, 2 workers", []).append(two)
        figures += _compared(done, clients, target)
    return figures


def _compared(done: dict[str, list[Load]], clients: int, target: float) -> list[Figure]:
    named = f"likes, {clients} clients, "
    figures = [
        Figure(named + name, "likes/s", None, [one.rate for one in loads])
        for name, loads in done.items()
    ]
    transaction, statement, main, *others = done
    for ours, theirs, wanted in (
        *((name, transaction, target if name == main else None) for name in (main, *others)),
        (main, statement, None),
    ):
        ratios = [a.rate / b.rate for a, b in zip(done[ours], done[theirs], strict=True)]
        than = "peer" if theirs == transaction else theirs
        figures.append(Figure(f"{named}{ours} / {than}", "times", wanted, ratios, digits=1))
    return figures


# --- how soon -----------------------------------------------------------------------------------


async def latencies(bench: Bench, clients: int, lin_ms: float, visible_ms: float) -> list[Figure]:
    """Linearizable counts, and from an acknowledgement to its sight, under the single likes.

    Two nodes on one database; the likes go to the first, and the client that measures is another one.
    """
    lin: dict[str, list[list[float]]] = {"the loaded node": [], "another node": []}
    seen: list[list[float]] = []
    queue: Queue = "pgq" if bench.server.pgq else "outbox"
    for _ in range(bench.runs):
        async with bench.server.migrated(queue) as store:
            arguments = ["--store", store]
            async with child.node(arguments) as first, child.node(arguments) as second:
                urls = first.url, second.url
                acknowledged = 0
                for where, url in zip(lin, urls, strict=True):
                    took, done = await _beside(bench, urls[0], clients, Linearizable(url))
                    lin[where].append(took)
                    acknowledged += done.requests
                took, done = await _beside(bench, urls[0], clients, Visible(urls))
                seen.append(took)
                await bench.check(store, urls[1], acknowledged + done.requests)
    figures = []
    for where, runs in lin.items():
        for percent in (50, 99):
            wanted = percent == 50 and where == "the loaded node"
            figures.append(
                Figure(
                    f"linearizable count at {where}, {clients} clients, p{percent}",
                    "ms",
                    lin_ms if wanted else None,
                    [percentile(run, percent) for run in runs],
                    at_most=True,
                    digits=1,
                )
            )
    for percent in (50, 99):
        figures.append(
            Figure(
                f"acknowledged to visible on both nodes, {clients} clients, p{percent}",
                "ms",
                visible_ms if percent == 99 else None,
                [percentile(run, percent) for run in seen],
                at_most=True,
                digits=1,
            )
        )
    return figures


class Linearizable:
    """Asks for the hot count; it never falls."""

    def __init__(self, url: str) -> None:
        self._client = Client(url)
        self._last = 0

    def __call__(self) -> float:
        began_s = time.perf_counter()
        found = count(self._client, 1, "linearizable")
        took_s = time.perf_counter() - began_s
        if found < self._last:
            raise RuntimeError(f"a linearizable count fell from {self._last} to {found}")
        self._last = found
        return took_s * 1000


class Visible:
    """Likes a new target at the first node, and looks at both until they show it."""

    def __init__(self, urls: tuple[str, ...]) -> None:
        self._clients = [Client(url) for url in urls]
        self._target = 1_000_000

    def __call__(self) -> float:
        self._target += 1
        self._clients[0].send(request("PUT", f"/v1/edges/like/{self._target}/1"))
        acknowledged_s = time.perf_counter()
        waiting = list(self._clients)
        while waiting:
            waiting = [c for c in waiting if not count(c, self._target, "eventual")]
            if waiting:
                time.sleep(0.001)  # leaves the machine to others
        return (time.perf_counter() - acknowledged_s) * 1000


async def _beside(
    bench: Bench, url: str, clients: int, probe: Callable[[], float]
) -> tuple[list[float], Load]:
    """What a probe measures again and again, in a thread, while the likes come in."""
    load = asyncio.create_task(bench.load(url, clients, "/v1/edges/like"))
    await asyncio.sleep(0.5)

    def measure() -> list[float]:
        took: list[float] = []
        while not load.done() and len(took) < PROBES:
            took.append(probe())
        return took

    try:
        took = await asyncio.to_thread(measure)
    finally:
        done = await load
    return took, done


def percentile(values: list[float], percent: int) -> float:
    return sorted(values)[min(len(values) * percent // 100, len(values) - 1)]
