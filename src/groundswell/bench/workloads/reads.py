"""`reads`, `reads-100` and `spike`: counts, alone, a hundred at a time, and while everybody writes."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Final

import msgspec

from groundswell.bench import check, measure
from groundswell.bench.keepalive import Client, request
from groundswell.bench.load import Load, write_requests, wrk
from groundswell.bench.measure import Bench
from groundswell.bench.results import Run
from groundswell.bench.systems import SYSTEMS, Running
from groundswell.bench.workload import Way, Workload
from groundswell.model import Level

CLIENTS: Final = 64
READERS: Final = 16
WRITERS: Final = 48
KEYS: Final = 100
LIKED: Final = 200  # likes of post 1 before it is read


def _token(url: str) -> str:
    """Of a session that has liked post 1; empty where there are no sessions."""
    with Client(url) as client:
        for user in range(1, LIKED + 1):
            client.send(request("PUT", f"/v1/edges/like/1/{user}"))
        client.send(request("GET", "/v1/counts/like/1"))
        return client.token


def _count(level: str, token: str) -> bytes:
    query = f"?consistency={level}" if level else ""
    return request("GET", f"/v1/counts/like/1{query}", token="" if level == "eventual" else token)


def _counts(level: str, token: str) -> bytes:
    keys = [("like", post) for post in range(1, KEYS + 1)]
    return request(
        "POST", f"/v1/counts?consistency={level}", msgspec.json.encode({"keys": keys}), token
    )


async def alone(bench: Bench, system: str, level: str, *, many: bool) -> Run:
    """Reads and nothing else, after the count has settled."""
    posts = range(1, KEYS + 1)
    tuning = bench.tunings.get(system)
    async with SYSTEMS[system].running(bench.databases, tuning, posts=posts) as running:
        await check.before(system, running)
        token = await asyncio.to_thread(_token, running.url)
        await asyncio.to_thread(check.settle, system, running.url, {1: LIKED})
        file = write_requests(
            bench.folder / "requests", [(_counts if many else _count)(level, token)]
        )
        load = wrk(bench.folder, running.url, "cycle", file, clients=CLIENTS, seconds=bench.seconds)
        return await measure.reads(running, load, times=KEYS if many else 1)


async def beside(bench: Bench, system: str, level: str) -> Run:
    """Reads of the post that all others like at the same time."""
    tuning = bench.tunings.get(system)
    async with SYSTEMS[system].running(bench.databases, tuning) as running:
        await check.before(system, running)
        token = await asyncio.to_thread(_token, running.url)
        writing = asyncio.create_task(_write(bench, running))
        await asyncio.sleep(0.3)
        file = write_requests(bench.folder / "requests", [_count(level, token)])
        load = wrk(bench.folder, running.url, "cycle", file, clients=READERS, seconds=bench.seconds)
        run = await measure.reads(running, load)
        written = await writing
        await check.after(system, running, at_least=written.requests)
        return msgspec.structs.replace(run, beside_per_s=written.rate)


async def _write(bench: Bench, running: Running) -> Load:
    first = time.time_ns() // 1_000_000 % 10**9 * 10**6
    return await wrk(
        *(bench.subfolder("beside"), running.url, "likes", 1, first),
        clients=WRITERS,
        seconds=bench.seconds + 1,
    )


def _alone(*, many: bool) -> list[Way]:
    ways = [("groundswell, causal", "groundswell", "causal")]
    ways += [("groundswell, eventual", "groundswell", "eventual")]
    ways += [(name, name, "") for name in ("inline", "inline-sqlalchemy", "redis")]
    return [
        Way(label, system, partial(alone, system=system, level=level, many=many))
        for label, system, level in ways
    ]


READS: Final = Workload(
    "reads",
    "One count, read again and again",
    "reads",
    _alone(many=False),
    f"{CLIENTS} clients; `causal` with the token of a session that has written.",
)
READS_MANY: Final = Workload(
    "reads-100", f"{KEYS} counts in a request", "counts", _alone(many=True), f"{CLIENTS} clients."
)
SPIKE: Final = Workload(
    "spike",
    "Reads of the hot count while everybody likes the post",
    "reads",
    [
        *(
            Way(
                f"groundswell, {level}",
                "groundswell",
                partial(beside, system="groundswell", level=level),
            )
            for level in Level
        ),
        *(
            Way(name, name, partial(beside, system=name, level=""))
            for name in ("scan", "inline", "redis")
        ),
    ],
    f"{READERS} clients that read, {WRITERS} that like. Systems write at their own speed: see the writes "
    "beside; CPU is that of both.",
)
