"""Nodes and PostgreSQL, killed and paused under load: nothing is lost, nothing counted twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from functools import partial
from pathlib import Path
from typing import Final

import psycopg
import pytest

from clusters import Cluster, Installation
from nodes import Node, problem
from pg_load import Load
from pg_nodes import (
    check_nodes,
    eventual,
    migrated,
    on_both_queues,
    paused,
    rows,
    serving,
    shows,
    until,
)

pytestmark = pytest.mark.anyio

ROUNDS: Final = 3
TAKEN_OVER_S: Final = 3.0  # within which another node does the work of one that stands still
MARGIN_S: Final = 4.0  # for a busy machine


def workers(parent: int) -> list[int]:
    """The process ids of a node's workers."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            ppid = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if ppid == parent and b"spawn_main" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:  # it has ended
            continue
    return found


def answers(node: Node) -> bool:
    """Whether anybody takes its requests."""
    try:
        return node.request("GET", "/readyz").status == 200
    except OSError:
        return False


async def shown_after_s(node: Node, target: int) -> float:
    """How long after its acknowledgement one more like shows on the node's replica."""
    before = await asyncio.to_thread(eventual, node, "like", target)
    source = 10_000_000 + time.monotonic_ns() % 1_000_000_000
    answer = await asyncio.to_thread(node.request, "PUT", f"/v1/edges/like/{target}/{source}")
    began_s = time.monotonic()
    assert answer.json == {"changed": True}, answer
    await until(lambda: eventual(node, "like", target) > before, "the like on a replica")
    return time.monotonic() - began_s


# --- killed -------------------------------------------------------------------------------------


@on_both_queues
async def test_nodes_and_workers_killed_under_load_lose_nothing(
    cluster: Cluster, queue: str, tmp_path: Path, seed: int
) -> None:
    """One of two nodes is killed again and again, and so are workers of the other, which goes on."""
    url, rng = await migrated(cluster, queue), random.Random(seed)
    with serving(tmp_path, "one", url) as one, serving(tmp_path, "two", url, "--workers=2") as two:
        load = Load([one.url, two.url], rng)
        async with load.running():
            for _ in range(ROUNDS):
                await load.answered(rng.randrange(50, 300))
                one.kill()
                await load.answered()  # by the other one
                os.kill(rng.choice(workers(two.pid)), signal.SIGKILL)
                await asyncio.to_thread(one.start)
        await load.check(url)
        await until(partial(answers, two), "a worker, where both were killed in a short time")
        await check_nodes(url, one, two)
    assert load.refusals["gone"] > ROUNDS


@on_both_queues
async def test_a_killed_and_restarted_server_has_lost_nothing(
    installation: Installation, queue: str, tmp_path: Path, seed: int
) -> None:
    """Nodes refuse meanwhile what needs it, and go on by themselves."""
    rng = random.Random(seed)
    with Cluster(installation, in_memory=True) as cluster:
        url = await migrated(cluster, queue)
        assert cluster.execute("SHOW fsync") == [("on",)]
        with serving(tmp_path, "one", url) as one, serving(tmp_path, "two", url) as two:
            # What has been asked for once is held, and need not be filled by a server that is gone.
            assert [eventual(node, "like", 1) for node in (one, two)] == [0, 0]
            load = Load([one.url, two.url], rng)
            async with load.running():
                for _ in range(ROUNDS):
                    await load.answered(rng.randrange(100, 400))
                    await asyncio.to_thread(cluster.kill)
                    for node in (one, two):
                        refused = await asyncio.to_thread(
                            node.request, "GET", "/v1/counts/like/1?consistency=linearizable"
                        )
                        problem(refused, 503, "store-unavailable")
                        assert await asyncio.to_thread(eventual, node, "like", 1) >= 0
                    await asyncio.to_thread(cluster.start)
                    await load.answered()
            await load.check(url)
            await check_nodes(url, one, two)
        assert load.refusals["store-unavailable"] > ROUNDS


# --- paused -------------------------------------------------------------------------------------


@on_both_queues
async def test_a_node_paused_at_any_time_is_replaced_and_comes_back(
    cluster: Cluster, queue: str, tmp_path: Path, seed: int
) -> None:
    url, rng = await migrated(cluster, queue), random.Random(seed)
    with serving(tmp_path, "one", url) as one, serving(tmp_path, "two", url) as two:
        load = Load([one.url, two.url], rng)
        async with load.running():
            for _ in range(ROUNDS):
                await load.answered(rng.randrange(50, 300))
                still, other = rng.sample((one, two), 2)
                with paused(still):
                    assert await shown_after_s(other, 77) < TAKEN_OVER_S + MARGIN_S
                    await asyncio.sleep(rng.choice((0, 0.3, 2.5)))  # longer than it may hold locks
                await until(partial(eventual, still, "like", 77), "its replica")
                await load.answered()
        await load.check(url, besides=77)
        await check_nodes(url, one, two)


_OF_ONE: Final = """
    SELECT FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'one' AND {}
"""


@on_both_queues
async def test_a_node_paused_in_a_transaction_is_not_waited_for(
    cluster: Cluster, queue: str, tmp_path: Path
) -> None:
    """PostgreSQL ends the transaction, and with it its locks; nothing of it has happened."""
    url = await migrated(cluster, queue)
    with serving(tmp_path, "one", url) as one, serving(tmp_path, "two", url) as two:
        for source in (1, 2):
            assert one.request("PUT", f"/v1/edges/review/1/{source}", {"value": 3}).status == 200
        add = {"op": "add", "kind": "review", "target": 1, "value": 5}
        writes = {"writes": [add | {"source": 1}, add | {"source": 2}], "atomic": True}
        with psycopg.connect(url) as holder:
            holder.execute("SELECT FROM groundswell.edge_review WHERE source = 2 FOR UPDATE")
            writing = asyncio.create_task(
                asyncio.to_thread(one.request, "POST", "/v1/writes", writes)
            )
            waits = _OF_ONE.format("wait_event_type = 'Lock'")
            await until(lambda: rows(url, waits), "the node's commit at the lock")
            with paused(one):
                holder.rollback()
                idle = _OF_ONE.format("state = 'idle in transaction'")
                await until(lambda: rows(url, idle), "the commit stands still")
                answer = await asyncio.to_thread(
                    two.request, "PUT", "/v1/edges/review/1/1", {"value": 1}
                )
                assert answer.json == {"changed": True}
                assert rows(url, idle) == []
                assert await shown_after_s(two, 1) < TAKEN_OVER_S + MARGIN_S
                assert not writing.done()
        problem(await writing, 503, "store-unavailable")
        assert one.request("GET", "/v1/edges/review/1/2").json["value"] == 3
        assert one.request("GET", "/v1/edges/review/1/1").json["value"] == 1
        path = "/v1/counts/review/1?consistency=linearizable"
        for node in (one, two):
            found = node.request("GET", path).json
            assert (found["count"], found["sum"]) == (2, 4)
        again = one.request("POST", "/v1/writes", writes)
        assert [outcome["changed"] for outcome in again.json["outcomes"]] == [True, True]
        assert two.request("GET", path).json["sum"] == 10
        await check_nodes(url, one, two)


_HELD: Final = """
    SELECT application_name FROM pg_stat_activity
    WHERE datname = current_database() AND query ~ 'roll_up' AND wait_event = 'transactionid'
"""


@on_both_queues
async def test_a_node_paused_in_a_rollup_leaves_it_to_the_server(
    cluster: Cluster, queue: str, tmp_path: Path
) -> None:
    """A rollup is one statement: it comes to its end without the node, and the next is another's."""
    url = await migrated(cluster, queue)
    with serving(tmp_path, "one", url) as one, serving(tmp_path, "two", url) as two:
        named = {"one": one, "two": two}
        assert one.request("PUT", "/v1/edges/like/1/0").status == 200
        for node in (one, two):
            await until(partial(shows, node, 1, 1), "the first like")
        for source in (1, 2, 3):
            with psycopg.connect(url) as holder:
                holder.execute("SELECT FROM groundswell.counter FOR UPDATE")
                assert one.request("PUT", f"/v1/edges/like/1/{source}").status == 200
                await until(lambda: rows(url, _HELD), "a rollup at the lock")
                still = named.pop(rows(url, _HELD)[0][0])
                [other] = named.values()
                with paused(still):
                    holder.rollback()
                    await until(
                        partial(shows, other, 1, source + 1),
                        "the rollup without its node",
                        within_s=TAKEN_OVER_S + MARGIN_S,
                    )
                    assert await shown_after_s(other, 2) < TAKEN_OVER_S + MARGIN_S
            named = {"one": one, "two": two}
            await until(partial(shows, still, 2, source), "its replica")
        await check_nodes(url, one, two)
