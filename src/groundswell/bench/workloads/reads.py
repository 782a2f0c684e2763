"""`reads`, `reads-100` and `spike`: counts, alone, a hundred at a time, and while everybody writes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Final

import msgspec

from groundswell.bench import check, measure
from groundswell.bench.keepalive import Client, request
from groundswell.bench.load import Load, write_requests, wrk
from groundswell.bench.measure import Bench, rotated
from groundswell.bench.results import Run
from groundswell.bench.systems import SYSTEMS, Running
from groundswell.bench.workload import Way, Workload
from groundswell.model import Level

CLIENTS: Final = 64
READERS: Final = 16
WRITERS: Final = 48
KEYS: Final = 100
LIKED: Final = 50  # likes of post 1 before it is read
BEGIN_S: Final = 0.3  # after which the writes are under way


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


async def alone(
    bench: Bench, system: str, labels: Mapping[str, str], *, many: bool
) -> dict[str, Run]:
    """Reads and nothing else, after the count has settled, at the level of each label."""
    runs = {}
    posts = range(1, KEYS + 1)
    tuning = bench.tunings.get(system)
    async with SYSTEMS[system].running(bench.databases, tuning, posts=posts) as running:
        await check.before(system, running)
        token = await asyncio.to_thread(_token, running.url)
        await asyncio.to_thread(check.settle, system, running.url, {1: LIKED})
        for label in rotated(list(labels), bench.turn):
            asked = (_counts if many else _count)(labels[label], token)
            load = _read(bench, running, asked, CLIENTS)
            runs[label] = await measure.reads(running, load, times=KEYS if many else 1)
    return runs


async def beside(bench: Bench, system: str, labels: Mapping[str, str]) -> dict[str, Run]:
    """Reads of the post that all others like at the same time, at the level of each label."""
    tuning = bench.tunings.get(system)
    runs = {}
    written = 0
    async with SYSTEMS[system].running(bench.databases, tuning) as running:
        await check.before(system, running)
        token = await asyncio.to_thread(_token, running.url)
        for label in rotated(list(labels), bench.turn):
            writing = asyncio.create_task(_write(bench, running))
            await asyncio.sleep(BEGIN_S)
            run = await measure.reads(
                running, _read(bench, running, _count(labels[label], token), READERS)
            )
            load = await writing
            written += load.requests
            await check.after(system, running, at_least=written)
            runs[label] = msgspec.structs.replace(run, beside_per_s=load.rate)
    return runs


async def _read(bench: Bench, running: Running, asked: bytes, clients: int) -> Load:
    file = write_requests(bench.folder / "requests", [asked])
    return await wrk(
        bench.folder, running.url, "cycle", file, clients=clients, seconds=bench.seconds
    )


async def _write(bench: Bench, running: Running) -> Load:
    first = time.time_ns() // 1_000_000 % 10**9 * 10**6
    return await wrk(
        *(bench.subfolder("beside"), running.url, "likes", 1, first),
        clients=WRITERS,
        seconds=bench.seconds + 1,
    )


def _ways(
    run: Callable[..., Awaitable[dict[str, Run]]], levels: Iterable[str], *peers: str
) -> list[Way]:
    labels = {f"groundswell, {level}": level for level in levels}
    systems = {"groundswell": labels} | {peer: {peer: ""} for peer in peers}
    return [
        Way(system, list(labels), partial(run, system=system, labels=labels))
        for system, labels in systems.items()
    ]


def _alone(*, many: bool) -> list[Way]:
    levels = (Level.CAUSAL, Level.EVENTUAL)
    return _ways(partial(alone, many=many), levels, "inline", "inline-sqlalchemy", "redis")


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
    _ways(beside, Level, "scan", "inline", "redis"),
    f"{READERS} clients that read, {WRITERS} that like. Systems write at their own speed: see the writes "
    "beside; CPU is that of both.",
)
