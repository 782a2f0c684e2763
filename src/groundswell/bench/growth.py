"""How the cost of an operation grows: with the edges of a target, with targets, nodes and replicas."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import aiohttp

from groundswell.bench import check, measure
from groundswell.bench.keepalive import Client, request
from groundswell.bench.load import Load, write_requests, wrk
from groundswell.bench.measure import Bench
from groundswell.bench.results import Chart, Line
from groundswell.bench.servers import rows
from groundswell.bench.systems import SYSTEMS, Running
from groundswell.bench.workloads import day
from groundswell.demo import child

TARGETS: Final = (1, 1_000, 1_000_000)
NODES: Final = (1, 2, 3, 4)
REPLICAS: Final = (1, 2, 4, 8, 16)
READ: Final = 997  # posts whose counts are read
LOOKS: Final = 1_000  # one after the other; some twenty writes come to a rollup
CLIENTS: Final = 64
FAN: Final = 2**41  # ids from here on are nobody's in the day
SECONDS: Final = 1.0


class Point(NamedTuple):
    """What was measured where something was so large."""

    x: float
    y: dict[str, float]


def chart(name: str, title: str, x: str, y: str, points: Sequence[Point]) -> Chart:
    """A line for each thing that was measured."""
    return Chart(
        name=name,
        title=title,
        x=x,
        y=y,
        lines=[
            Line(
                label, [point.x for point in points], [round(point.y[label], 4) for point in points]
            )
            for label in points[0].y
        ],
    )


class Edges:
    """Between two parts of the day: what operations cost on the account that has so many followers."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.points: list[Point] = []

    async def __call__(self, follows: int, running: Running) -> None:
        """Measure, and leave all as it was."""
        # The server's upkeep of what has just been written would go on beside what is measured.
        for upkeep in ("VACUUM ANALYZE groundswell.edge_follow", "CHECKPOINT"):
            await asyncio.to_thread(rows, running.store, upkeep)
        before_s, before, _ = await rolled(running.url)
        found = await asyncio.to_thread(_alone, running.url)
        seconds, rollups, _ = await rolled(running.url)
        found["rollup"] = 1_000 * (seconds - before_s) / max(rollups - before, 1)
        reads = await reading(self._bench, running, f"/v1/counts/follow/{day.TARGET}")
        found["count read, CPU"] = 1_000 * reads
        self.points.append(Point(follows, found))

    def charts(self, lived: day.Day) -> list[Chart]:
        """Of what was measured, and of the day itself."""
        times, memory = zip(*lived.memory_mib, strict=True)
        made = 0
        rates = []
        for part in lived.parts:
            made += part.follows
            rates.append(Point(made, {"follows per second": part.follows / part.seconds}))
        return [
            chart(
                "growth-edges",
                "Cost of an operation by the followers that the account has",
                "followers of the account",
                "ms (medians; of rollups the mean)",
                self.points,
            ),
            chart("day-rate", "The day's rate", "followers of the account", "per second", rates),
            Chart(
                name="day-memory",
                title="Memory of the node through the day",
                x="seconds",
                y="MiB resident",
                lines=[Line("node", times, memory)],
                logarithmic=False,
            ),
        ]


def _alone(url: str) -> dict[str, float]:
    """Milliseconds of calls one after the other, each the median."""
    asked: dict[str, Callable[[int], bytes]] = {
        "follow": lambda n: request("PUT", f"/v1/edges/follow/{day.TARGET}/{FAN + n}"),
        "unfollow": lambda n: request("DELETE", f"/v1/edges/follow/{day.TARGET}/{FAN + n}"),
        "count, eventual": lambda _: request(
            "GET", f"/v1/counts/follow/{day.TARGET}?consistency=eventual"
        ),
        "count, linearizable": lambda _: request(
            "GET", f"/v1/counts/follow/{day.TARGET}?consistency=linearizable"
        ),
        "newest 50 followers": lambda _: request("GET", f"/v1/edges/follow/{day.TARGET}"),
    }
    found = {}
    with Client(url) as client:
        for label, made in asked.items():
            took = []
            for n in range(LOOKS):
                raw = made(n)
                began_s = time.perf_counter()
                client.send(raw)
                took.append(time.perf_counter() - began_s)
            found[label] = statistics.median(took) * 1_000
    return found


async def reading(bench: Bench, running: Running, path: str) -> float:
    """CPU seconds of the node for a read, from many readings at once."""
    file = write_requests(bench.folder / "requests", [request("GET", path)])
    load = wrk(bench.folder, running.url, "cycle", file, clients=CLIENTS, seconds=SECONDS)
    run = await measure.reads(running, load)
    return run.cpu_s / run.operations


async def rolled(url: str) -> tuple[float, float, float]:
    """Seconds that rollups took, how many there were, and their events, by the node's own metrics."""
    async with aiohttp.ClientSession() as http, http.get(f"{url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    found = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return (
        float(found["groundswell_rollup_seconds_sum"]),
        float(found["groundswell_rollup_seconds_count"]),
        float(found["groundswell_rollup_events_sum"]),
    )


async def targets(bench: Bench) -> Chart:
    """Likes of posts drawn from so many, after each of those has one."""
    points = []
    for number in TARGETS[:2] if bench.quick else TARGETS:
        async with SYSTEMS["groundswell"].running(bench.databases) as running:
            await asyncio.to_thread(_like_each, running.url, number)
            seconds, _, events = await rolled(running.url)
            run = await _likes(bench, [running.url], number, running)
            more_seconds, _, more_events = await rolled(running.url)
            read = {1 + n * 7919 % number for n in range(READ)}
            with Client(running.url) as client:  # so that the replica holds them
                check.counts(client, list(read), "?consistency=eventual")
            posts = [request("GET", f"/v1/counts/like/{post}") for post in read]
            file = write_requests(bench.folder / "requests", posts)
            load = wrk(bench.folder, running.url, "cycle", file, clients=CLIENTS, seconds=SECONDS)
            reads = await measure.reads(running, load)
            per_event = (more_seconds - seconds) / max(more_events - events, 1)
            points.append(
                Point(
                    number,
                    {
                        "like, CPU": 1e6 * run,
                        "count read, CPU": 1e6 * reads.cpu_s / reads.operations,
                        "rollup, per event": 1e6 * per_event,
                    },
                )
            )
    return chart("growth-targets", "Cost by distinct posts", "posts", "microseconds", points)


def _like_each(url: str, number: int) -> None:
    def like(start: int) -> None:
        writes = ",".join(
            f'{{"op":"add","kind":"like","target":{post},"source":1}}'
            for post in range(start + 1, min(start + day.ROWS, number) + 1)
        )
        with Client(url) as client:
            client.send(request("POST", "/v1/writes", f'{{"writes":[{writes}]}}'.encode()))

    with ThreadPoolExecutor(day.CONNECTIONS) as threads:
        list(threads.map(like, range(0, number, day.ROWS)))
    check.settle("groundswell", url, dict.fromkeys(range(number, 0, -day.ROWS), 1))


async def _likes(bench: Bench, urls: Sequence[str], targets: int, running: Running) -> float:
    """CPU seconds of a like, through all of these nodes at once."""
    loads: list[Load] = []

    async def like() -> Load:
        made = [_wrk(bench, url, n, targets, len(urls)) for n, url in enumerate(urls)]
        loads.extend(await asyncio.gather(*made))
        return loads[0]

    run = await measure.reads(running, like())
    return run.cpu_s / sum(load.requests for load in loads)


async def _wrk(bench: Bench, url: str, n: int, targets: int, parts: int) -> Load:
    folder = bench.subfolder(f"node-{n}")
    first = (time.time_ns() // 1_000_000 % 10**8 * 10 + n) * 10**6
    return await wrk(
        *(folder, url, "likes", targets, first), clients=CLIENTS // parts, seconds=2 * SECONDS
    )


async def nodes(bench: Bench) -> Chart:
    """Likes of one post through so many nodes on one database, all on this machine."""
    points = []
    for number in NODES[:2] if bench.quick else NODES:
        async with (
            SYSTEMS["groundswell"].running(bench.databases) as first,
            contextlib.AsyncExitStack() as stack,
        ):
            others = [
                await stack.enter_async_context(child.node(["--store", first.store]))
                for _ in range(number - 1)
            ]
            pids = first.program() + [other.pid for other in others]
            all_of_them = first._replace(program=pids.copy)
            urls = [first.url, *(other.url for other in others)]
            points.append(
                Point(number, {"like, CPU": 1e6 * await _likes(bench, urls, 1, all_of_them)})
            )
            await check.after("groundswell", first, at_least=1)
    made = chart("growth-nodes", "Cost of a like by nodes", "nodes", "microseconds", points)
    return _linear(made)


async def replicas(bench: Bench) -> Chart:
    """Reads and likes of one post with so many replicas in the node."""
    points = []
    for number in REPLICAS[:2] if bench.quick else REPLICAS:
        arguments = ["--replicas", str(number)]
        async with SYSTEMS["groundswell"].running(bench.databases, arguments=arguments) as running:
            like = await _likes(bench, [running.url], 1, running)
            read = await reading(bench, running, "/v1/counts/like/1")
            points.append(Point(number, {"like, CPU": 1e6 * like, "count read, CPU": 1e6 * read}))
    return _linear(
        chart("growth-replicas", "Cost by replicas of a node", "replicas", "microseconds", points)
    )


def _linear(made: Chart) -> Chart:
    return Chart(
        name=made.name, title=made.title, x=made.x, y=made.y, lines=made.lines, logarithmic=False
    )


CHARTS: Final = (targets, nodes, replicas)
