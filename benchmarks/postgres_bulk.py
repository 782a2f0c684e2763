"""Follows of one target, thousands in a request, beside the bare INSERT that they end in."""

from __future__ import annotations

import asyncio
import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import psycopg
from benchmarks.common import Figure
from benchmarks.postgres_http import SETTLE, Bench

from groundswell.bench.keepalive import Client, request
from groundswell.demo import child
from groundswell.stores.postgres.queues import Queue

ROWS: Final = 2_000  # in a request, and in a statement
CONNECTIONS: Final = 4
TURN: Final = 40  # requests, or statements, until it is the other's turn
TARGET: Final = 7
WARM_UP: Final = 8

BARE: Final = "CREATE TABLE bare (LIKE groundswell.edge_follow INCLUDING ALL)"
INSERT: Final = b"""
    INSERT INTO bare (target, source, created_at)
    SELECT %s, source, now() FROM unnest(%s::bigint[]) AS w (source)
    ON CONFLICT DO NOTHING RETURNING source
"""


class Batches:
    """The same fans, as bodies of requests and as parameters of statements."""

    def __init__(self, batches: int) -> None:
        fans = random.Random(20120704).sample(range(10**12), batches * ROWS)
        parts = [fans[start : start + ROWS] for start in range(0, len(fans), ROWS)]
        self.parameters = ["{" + ",".join(map(str, part)) + "}" for part in parts]
        self.requests = [request("POST", "/v1/writes", _body(part)) for part in parts]


def _body(fans: list[int]) -> bytes:
    writes = ",".join(
        f'{{"op":"add","kind":"follow","target":{TARGET},"source":{fan}}}' for fan in fans
    )
    return f'{{"writes":[{writes}]}}'.encode()


async def bulk(bench: Bench, turns: int, target: float) -> list[Figure]:
    """Both ways into one database, turn by turn, so that what else the machine does hits both."""
    batches = Batches(WARM_UP + turns * TURN)
    queues: tuple[Queue, ...] = ("pgq", "outbox") if bench.server.pgq else ("outbox",)
    bare: dict[Queue, list[float]] = {queue: [] for queue in queues}
    ours: dict[Queue, list[float]] = {queue: [] for queue in queues}
    for _ in range(bench.runs):
        for queue in queues:
            async with (
                bench.server.migrated(queue) as store,
                child.node(["--store", store]) as node,
            ):
                times = await asyncio.to_thread(_race, store, node.url, batches, turns)
                rows = turns * TURN * ROWS
                bare[queue].append(rows / times[0])
                ours[queue].append(rows / times[1])
                _check(bench, store, node.url, len(batches.requests) * ROWS)
    figures: list[Figure] = []
    for queue in queues:
        share = [100 * a / b for a, b in zip(ours[queue], bare[queue], strict=True)]
        wanted = target if queue == queues[0] else None
        figures += [
            Figure(f"bare INSERT of {ROWS:,} (beside {queue})", "rows/s", None, bare[queue]),
            Figure(f"follows in requests of {ROWS:,}, {queue}", "edges/s", None, ours[queue]),
            Figure(f"the same, {queue}", "% of the bare INSERT", wanted, share),
        ]
    return figures


def _race(store: str, url: str, batches: Batches, turns: int) -> tuple[float, float]:
    """The seconds that the statements took in all, and the requests."""
    clients = [Client(url) for _ in range(CONNECTIONS)]
    with (
        psycopg.connect(store, autocommit=True) as connection,
        ThreadPoolExecutor(CONNECTIONS) as threads,
    ):
        connection.execute(BARE)
        connection.execute("SET synchronous_commit = on")
        bare_s = ours_s = 0.0
        _insert(connection, batches.parameters[:WARM_UP])
        _post(threads, clients, batches.requests[:WARM_UP])
        for turn in range(turns):
            part = slice(WARM_UP + turn * TURN, WARM_UP + (turn + 1) * TURN)
            bare_s += _insert(connection, batches.parameters[part])
            ours_s += _post(threads, clients, batches.requests[part])
    for client in clients:
        client.close()
    return bare_s, ours_s


def _insert(connection: psycopg.Connection[tuple[int]], parameters: list[str]) -> float:
    began_s = time.perf_counter()
    for fans in parameters:
        if len(connection.execute(INSERT, (TARGET, fans), prepare=True).fetchall()) != ROWS:
            raise RuntimeError("the INSERT met rows that were there")
    return time.perf_counter() - began_s


def _post(threads: ThreadPoolExecutor, clients: list[Client], requests: list[bytes]) -> float:
    """Each connection takes the next request as soon as it has its answer."""
    left = iter(requests)

    def work(client: Client) -> None:
        for raw in left:  # a list's iterator may be shared by threads
            if client.send(raw).count(b'{"changed":true}') != ROWS:
                raise RuntimeError("the node met edges that were there")

    began_s = time.perf_counter()
    list(threads.map(work, clients))
    return time.perf_counter() - began_s


def _check(bench: Bench, store: str, url: str, follows: int) -> None:
    """Raise unless all of it is stored, told and, after the rollup that may still be due, counted."""
    with Client(url) as client, bench.server.connect(store) as connection:
        told = client.send(request("GET", f"/v1/counts/follow/{TARGET}?consistency=linearizable"))
        for _ in range(SETTLE):
            [[bare, stored, counted]] = connection.execute(
                "SELECT (SELECT count(*) FROM bare), (SELECT count(*) FROM groundswell.edge_follow), "
                "(SELECT sum(count) FROM groundswell.counter)"
            ).fetchall()
            if bare == stored == counted == follows and f'"count":{follows},'.encode() in told:
                return
            time.sleep(0.1)
    raise RuntimeError(f"{follows} follows, {bare}, {stored} stored, {counted}; told {told!r}")
