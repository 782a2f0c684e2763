"""docs/scale.md, regions: nodes far from the primary, with a standby of their own, 80 ms away."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from clusters import Cluster, Installation
from groundswell.verify.nemesis import Fault
from groundswell.verify.proxy import Proxy
from groundswell.verify.run import Plan, Progress, verify
from groundswell.verify.topology import Topology
from nodes import Answer, Node, problem
from pg_nodes import check_nodes, migrated, serving, shows, until

ONE_WAY_S: Final = 0.04
READS: Final = 40
ALONE_S: Final = 3.0
AT_ONCE_S: Final = 2.0  # on a busy machine

pytestmark = pytest.mark.anyio


class Region:
    """Its node and its standby; all that comes from the primary's region comes by way of proxies."""

    def __init__(self, url: str, near: Node, far: Node, ways: list[Proxy]) -> None:
        self.url = url
        self.near = near
        self.far = far
        self._ways = ways

    def cut_off(self) -> None:
        """Nothing comes through any more, and nobody is told."""
        for way in self._ways:
            way.stall()

    def reconnect(self) -> None:
        """As it was; connections that both ends have kept go on."""
        for way in self._ways:
            way.heal()
            way.delay(ONE_WAY_S)


@pytest.fixture
async def region(installation: Installation, tmp_path: Path) -> AsyncIterator[Region]:
    async with contextlib.AsyncExitStack() as stack:
        primary = stack.enter_context(Cluster(installation, in_memory=True))
        url = await migrated(primary, "auto")
        standby = await asyncio.to_thread(primary.standby)
        ways = [Proxy(primary.port), Proxy(primary.port)]
        for way in ways:
            await way.start()
            stack.push_async_callback(way.close)
            way.delay(ONE_WAY_S)
        of_node, of_standby = ways
        await asyncio.to_thread(stream_by, standby, primary, of_standby.port)
        far_url = url.replace(f":{primary.port}/", f":{of_node.port}/")
        local = standby.url(url.rpartition("/")[2])
        near = stack.enter_context(serving(tmp_path, "near", url))
        # Where it starts the proxies are needed, which are in this thread.
        far = await asyncio.to_thread(
            stack.enter_context, serving(tmp_path, "far", far_url, standby=local)
        )
        yield Region(url, near, far, ways)


def stream_by(standby: Cluster, primary: Cluster, port: int) -> None:
    """Let a standby get its log by way of this port."""
    way = f"host=127.0.0.1 port={port} user=postgres password={primary.password}"
    standby.execute(f"ALTER SYSTEM SET primary_conninfo = '{way}'")
    standby.execute("SELECT pg_reload_conf()")
    standby.catch_up()


async def ask(node: Node, method: str, path: str, token: str | None = None) -> tuple[float, Answer]:
    """The seconds it took, and the answer."""
    began_s = time.perf_counter()
    answer = await asyncio.to_thread(node.request, method, path, tokens=token)
    return time.perf_counter() - began_s, answer


async def read(node: Node, level: str, token: str | None = None) -> tuple[float, Any, str | None]:
    """The seconds it took, the count of likes of 1, and the token."""
    took_s, answer = await ask(node, "GET", f"/v1/counts/like/1?consistency={level}", token)
    assert answer.status == 200, answer
    return took_s, answer.json, answer.headers.get("groundswell-session")


async def like(node: Node, source: int, token: str | None = None) -> tuple[float, str]:
    took_s, answer = await ask(node, "PUT", f"/v1/edges/like/1/{source}", token)
    assert answer.status == 200, answer
    return took_s, answer.token


async def test_reads_of_a_far_region_are_local_where_their_level_allows_it(region: Region) -> None:
    for source in range(5):
        _, theirs = await like(region.near, source)
    await until(lambda: shows(region.far, 1, 5), "what was written near")
    levels = {"eventual": None, "causal": theirs, "linearizable": None}
    took_s: dict[str, list[float]] = {level: [] for level in levels}
    for _ in range(READS):
        for level, token in levels.items():
            seconds, found, _ = await read(region.far, level, token)
            assert found["count"] == 5
            assert found["read"]["served_by"] == ("primary" if "lin" in level else "replica-a")
            took_s[level].append(seconds)
    assert min(took_s["linearizable"]) > 2 * ONE_WAY_S
    for level in ("eventual", "causal"):
        check_local(took_s[level], took_s["linearizable"])


def check_local(took_s: list[float], far_s: list[float]) -> None:
    """Without the round trip that the others made, however busy the machine is."""
    assert statistics.median(took_s) + ONE_WAY_S < statistics.median(far_s)


async def test_own_likes_count_at_once_and_others_as_soon_as_they_have_come(region: Region) -> None:
    took_s, writes_s = [], []
    token: str | None = None
    for source in range(10):
        seconds, token = await like(region.far, source, token)
        writes_s.append(seconds)
        seconds, found, token = await read(region.far, "causal", token)
        assert found["count"] == source + 1
        assert found["read"]["served_by"] == "replica-a"
        took_s.append(seconds)
    check_local(took_s, writes_s)
    for more in range(10):  # of somebody else, far away, who hands a token over
        _, theirs = await like(region.near, 100 + more)
        _, found, token = await read(region.far, "causal", f"{token},{theirs}")
        assert found["count"] == 10 + more + 1


async def test_a_region_that_is_cut_off_goes_on_and_comes_back_without_a_restart(
    region: Region,
) -> None:
    _, token = await like(region.far, 1)
    await until(lambda: shows(region.far, 1, 1), "the like")
    pid = region.far.pid
    region.cut_off()
    began_s = time.monotonic()
    for source in range(100, 110):
        await like(region.near, source)
    while time.monotonic() - began_s < ALONE_S:
        for level, known in (("eventual", None), ("causal", token)):
            seconds, found, _ = await read(region.far, level, known)
            assert (found["count"], found["read"]["served_by"]) == (1, "replica-a")
            assert seconds < AT_ONCE_S
    _, refused = await ask(region.far, "PUT", "/v1/edges/like/1/2")
    problem(refused, 503, "store-unavailable")
    region.reconnect()
    await until(lambda: shows(region.far, 1, 11), "what was written meanwhile")

    again = lambda: region.far.request("PUT", "/v1/edges/like/1/3").status == 200  # noqa: E731
    await until(again, "writes are taken again")
    assert region.far.pid == pid
    await check_nodes(region.url, region.near, region.far)


@pytest.mark.timeout(600)
async def test_no_level_is_violated_across_regions(region: Region, seed: int) -> None:
    cut = Fault("cut off", "region", region.cut_off, region.reconnect)
    topology = Topology("two regions", [region.near.url, region.far.url], [cut])
    # In the shorter time a slow machine does too little.
    for seconds, sessions in ((25, 2), (100, 6)):
        plan = Plan(seconds=seconds, seed=seed, faults=True, sessions=sessions)
        report = await verify(topology, plan, Progress())
        if report.verdict != "unknown":
            break
    assert report.verdict == "passed", report.findings
    assert report.faults
