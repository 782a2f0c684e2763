"""Nodes that are fed from a standby, while it or the primary is paused or killed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from clusters import Cluster, Installation
from nodes import Answer, Node, problem
from pg_load import LEVELS, Load
from pg_nodes import check_nodes, eventual, migrated, on_both_queues, serving, shows, until

pytestmark = pytest.mark.anyio

WAIT_MS: Final = 100  # what a read waits for a replica, where it does not say
REFUSED_S: Final = WAIT_MS / 1000 + 1
MARGIN_S: Final = 2.0  # for a busy machine
LIST: Final = "/v1/edges/like/1"


class Pair(NamedTuple):
    primary: Cluster
    standby: Cluster
    url: str

    @property
    def standby_url(self) -> str:
        return self.standby.url(self.url.rpartition("/")[2])


@contextlib.asynccontextmanager
async def made(installation: Installation, queue: Any) -> AsyncIterator[Pair]:
    """A primary with a store, and its standby."""
    with Cluster(installation, in_memory=True) as primary:
        url = await migrated(primary, queue)
        yield Pair(primary, await asyncio.to_thread(primary.standby), url)


@pytest.fixture
async def pair(installation: Installation, queue: str) -> AsyncIterator[Pair]:
    async with made(installation, queue) as pair:
        yield pair


@contextlib.contextmanager
def fed(folder: Path, pair: Pair) -> Iterator[Node]:
    """A node with the standby, at work with it."""
    with serving(folder, "fed", pair.url, standby=pair.standby_url) as node:
        yield node


def served_by(node: Node, path: str, level: str = "eventual") -> str | int:
    """Who answers; if nobody does, the status."""
    answer = node.request("GET", f"{path}?consistency={level}")
    return str(answer.json["read"]["served_by"]) if answer.status == 200 else answer.status


def lists_from(node: Node, server: str | int) -> bool:
    return served_by(node, LIST) == server


async def get(node: Node, path: str, token: str | None = None) -> Answer:
    return await asyncio.to_thread(node.request, "GET", path, tokens=token)


# --- both at work -------------------------------------------------------------------------------


@on_both_queues
async def test_a_standby_feeds_counts_of_every_level_and_shows_lists_at_eventual(
    pair: Pair, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    with fed(tmp_path, pair) as node:
        # What the standby does not show yet.
        await asyncio.to_thread(pair.standby.pause_replay)
        written = node.request("PUT", f"{LIST}/1")
        for level in ("read_your_writes", "causal"):
            found = await get(node, f"/v1/counts/like/1?consistency={level}", written.token)
            assert (found.json["count"], found.json["pending"]) == (1, 1), found
            assert found.json["read"]["served_by"] == "replica-a"
        assert eventual(node, "like", 1) == 0
        assert node.request("GET", f"{LIST}?consistency=eventual").json["edges"] == []
        assert len(node.request("GET", LIST, tokens=written.token).json["edges"]) == 1
        seen = await get(node, "/v1/counts/like/1?consistency=linearizable", written.token)
        assert seen.json["count"] == 1
        found = await get(node, "/v1/counts/like/1?consistency=monotonic", seen.token)
        assert (found.json["count"], found.json["read"]["served_by"]) == (1, "primary")
        found = await get(node, "/v1/counts/like/1?max_age_ms=1&wait_ms=0&fallback=none")
        problem(found, 503, "replica-late")
        await asyncio.to_thread(pair.standby.resume_replay)
        await until(partial(shows, node, 1, 1), "the like by way of the standby")
        path = "/v1/counts/like/1?consistency=monotonic&wait_ms=20000"
        found = await get(node, path, seen.token)
        assert (found.json["count"], found.json["read"]["served_by"]) == (1, "replica-a")
        assert served_by(node, LIST) == served_by(node, f"{LIST}/1") == "standby"
        assert served_by(node, "/v1/edges/like") == 400
        for level in LEVELS[1:]:
            assert served_by(node, LIST, level) == served_by(node, f"{LIST}/1", level) == "primary"
        # The same while it is held up again and again.
        load = Load([node.url], rng)
        load.likes.add((1, 1))
        load.sent.add((1, 1))
        async with load.running():
            for _ in range(5):
                await load.answered(50)
                await asyncio.to_thread(pair.standby.pause_replay)
                await load.answered(rng.randrange(10, 100))
                await asyncio.to_thread(pair.standby.resume_replay)
        await load.check(pair.url)
        await check_nodes(pair.url, node)


# --- without the standby ------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["killed", "paused"])
@pytest.mark.parametrize("queue", ["outbox"])
async def test_without_its_standby_the_primary_does_everything(
    pair: Pair, tmp_path: Path, how: str
) -> None:
    with fed(tmp_path, pair) as node:
        assert node.request("PUT", f"{LIST}/1").status == 200
        await until(partial(shows, node, 1, 1), "the like by way of the standby")
        assert served_by(node, LIST) == "standby"
        await asyncio.to_thread(pair.standby.kill if how == "killed" else pair.standby.pause)
        await until(partial(lists_from, node, "primary"), "a list of the primary")
        written = node.request("PUT", f"{LIST}/2")
        await until(partial(shows, node, 1, 2), "the like by way of the primary")
        assert eventual(node, "like", 2) == 0  # filled from the primary
        for level in LEVELS:
            found = await get(node, f"/v1/counts/like/1?consistency={level}", written.token)
            assert found.json["count"] == 2
        await asyncio.to_thread(pair.standby.start if how == "killed" else pair.standby.resume)
        await until(partial(lists_from, node, "standby"), "a list of the standby")
        assert node.request("PUT", f"{LIST}/3").status == 200
        await until(partial(shows, node, 1, 3), "the like by way of the standby")
        await check_nodes(pair.url, node)


# --- without the primary ------------------------------------------------------------------------


async def refused(node: Node, method: str, path: str, token: str | None, body: Any = None) -> None:
    def asked() -> tuple[float, Answer]:
        began_s = time.monotonic()  # in the thread: there are more of these calls than threads
        answer = node.request(method, path, body, tokens=token)
        return time.monotonic() - began_s, answer

    took_s, answer = await asyncio.to_thread(asked)
    problem(answer, 503, "store-unavailable")
    assert took_s < REFUSED_S + MARGIN_S, f"{method} {path}"


async def check_refusals(node: Node, ahead: str | None) -> None:
    """What needs the primary is refused in time; `ahead` is the token of a session beyond the standby."""
    counted = "/v1/counts/like/1?consistency="
    only_if_ahead = [("GET", f"{counted}{level}") for level in ("monotonic", "causal")]
    without_standby = [("GET", f"{path}?consistency=eventual") for path in (LIST, f"{LIST}/1")]
    await asyncio.gather(
        refused(node, "PUT", "/v1/edges/like/1/7", None),
        refused(node, "POST", "/v1/writes", None, {"writes": [{"op": "put", **PUT}]}),
        refused(node, "GET", f"{counted}linearizable", None),
        refused(node, "GET", f"{counted}eventual&max_age_ms=0", None),
        refused(node, "GET", f"{LIST}?consistency=causal", None),
        refused(node, "GET", f"{LIST}/1", None),
        refused(node, "GET", "/v1/status", None),
        *(refused(node, *asked, ahead) for asked in (only_if_ahead if ahead else without_standby)),
    )


PUT: Final = {"id": "x", "type": "t", "data": {}}


@pytest.mark.parametrize("how", ["killed", "paused"])
@on_both_queues
async def test_without_the_primary_eventual_goes_on_and_the_rest_is_refused_in_time(
    pair: Pair, tmp_path: Path, how: str
) -> None:
    with (
        fed(tmp_path, pair) as with_standby,
        serving(tmp_path, "alone", pair.url) as alone,
    ):
        assert alone.request("PUT", f"{LIST}/1").status == 200
        for node in (with_standby, alone):
            await until(partial(shows, node, 1, 1), "the first like")
        await asyncio.to_thread(pair.standby.pause_replay)
        assert alone.request("PUT", f"{LIST}/2").status == 200
        ahead = (await get(alone, "/v1/counts/like/1?consistency=linearizable")).token
        await asyncio.to_thread(pair.primary.kill if how == "killed" else pair.primary.pause)
        await asyncio.gather(check_refusals(with_standby, ahead), check_refusals(alone, None))
        # The same when it is known.
        await asyncio.gather(check_refusals(with_standby, ahead), check_refusals(alone, None))
        for node in (with_standby, alone):
            assert eventual(node, "like", 1) in (1, 2)
            assert served_by(node, "/v1/counts/like/1", "causal") == "replica-a"
            assert served_by(node, LIST) == ("standby" if node is with_standby else 503)
            assert node.request("GET", "/healthz").status == 200
        assert eventual(with_standby, "like", 55) == 0  # filled from the standby
        await asyncio.to_thread(pair.standby.resume_replay)
        await asyncio.to_thread(pair.primary.start if how == "killed" else pair.primary.resume)
        for node in (with_standby, alone):
            await until(partial(is_writable, node), "a node that takes writes again")
            await until(partial(served, node, ahead), "a replica that is not behind any more")
        await until(partial(lists_from, with_standby, "standby"), "a list of the standby")
        await check_nodes(pair.url, with_standby, alone)


def is_writable(node: Node) -> bool:
    return node.request("PUT", f"{LIST}/3").status == 200


def served(node: Node, token: str) -> bool:
    path = "/v1/counts/like/1?consistency=monotonic&wait_ms=0&fallback=none"
    return node.request("GET", path, tokens=token).status == 200


# --- all at once --------------------------------------------------------------------------------


@on_both_queues
async def test_whatever_happens_to_primary_and_standby_nothing_is_lost_and_no_level_is_faked(
    pair: Pair, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    with (
        fed(tmp_path, pair) as one,
        serving(tmp_path, "two", pair.url, "--replicas=2", replica_delay_ms="0,80") as two,
    ):
        load = Load([one.url, two.url], rng)
        async with load.running():
            for _ in range(6):
                await load.answered(rng.randrange(20, 150))
                faults = [(pair.standby.pause_replay, pair.standby.resume_replay)]
                for server in (pair.primary, pair.standby):
                    faults += [(server.kill, server.start), (server.pause, server.resume)]
                begin, end = rng.choice(faults)
                await asyncio.to_thread(begin)
                await asyncio.sleep(
                    rng.uniform(0, 1.5)
                )  # shorter or longer than it takes to notice
                await asyncio.to_thread(end)
            await load.answered(200)
        await load.check(pair.url)
        await check_nodes(pair.url, one, two)
    assert set(load.reads) == set(LEVELS)
