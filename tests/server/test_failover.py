"""A standby takes the primary's place: nodes find it, begin a new epoch, and no token misleads them."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from clusters import Cluster, Installation
from groundswell.revision import SessionToken
from nodes import Answer, Node, problem
from pg_load import LEVELS, Load
from pg_nodes import check_nodes, check_store, migrated, on_both_queues, serving, shows, until

pytestmark = pytest.mark.anyio


class Pair(NamedTuple):
    primary: Cluster
    standby: Cluster
    database: str

    @property
    def url(self) -> str:
        """Whichever of the two is the primary."""
        at = f"127.0.0.1:{self.primary.port},127.0.0.1:{self.standby.port}"
        login = f"postgres:{self.primary.password}"
        return f"postgresql://{login}@{at}/{self.database}?target_session_attrs=read-write"


@pytest.fixture
async def pair(installation: Installation, queue: str) -> Any:
    with Cluster(installation, in_memory=True) as primary:
        url = await migrated(primary, queue)
        standby = await asyncio.to_thread(primary.standby)
        yield Pair(primary, standby, url.rpartition("/")[2])


async def fail_over(pair: Pair, *nodes: Node) -> None:
    """Kill the primary, promote the standby, and wait until the nodes have found it."""
    before = [epoch(node) for node in nodes]
    await asyncio.to_thread(pair.primary.kill)
    for node in nodes:
        refused = await asyncio.to_thread(node.request, "GET", "/v1/edges/like/1")
        problem(refused, 503, "store-unavailable")
    await asyncio.to_thread(pair.standby.promote)
    for node, was in zip(nodes, before, strict=True):
        await until(partial(is_ready_beyond, node, was), "a node ready in another epoch")


def is_ready_beyond(node: Node, before: int) -> bool:
    return epoch(node) > before and node.request("GET", "/readyz").status == 200


def epoch(node: Node) -> int:
    answer = node.request("GET", "/v1/status")
    return int(answer.json["epoch"]) if answer.status == 200 else 0


def count(node: Node, level: str, token: str | None = None) -> Answer:
    answer = node.request("GET", f"/v1/counts/like/1?consistency={level}", tokens=token)
    assert answer.status == 200, answer
    return answer


@on_both_queues
async def test_a_failover_under_load_to_a_standby_that_has_everything(
    pair: Pair, tmp_path: Path, seed: int
) -> None:
    """Nothing acknowledged is lost, and no session notices more than refusals."""
    rng = random.Random(seed)
    pair.primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
    pair.primary.execute("SELECT pg_reload_conf()")
    synchronous = "SELECT FROM pg_stat_replication WHERE sync_state = 'sync'"
    await until(lambda: pair.primary.execute(synchronous), "a synchronous standby")
    with serving(tmp_path, "one", pair.url) as one, serving(tmp_path, "two", pair.url) as two:
        written = one.request("PUT", "/v1/edges/like/1/99999999")
        seen = count(two, "causal", written.token)
        load = Load([one.url, two.url], rng)
        load.likes.add((1, 99999999))
        load.sent.add((1, 99999999))
        async with load.running():
            await load.answered(300)
            await fail_over(pair, one, two)
            await load.answered(300)
            for node in (one, two):
                old = count(node, "causal", seen.token)
                assert old.json["read"]["served_by"] == "primary"
                assert SessionToken.decode(old.token).epoch == epoch(node)
                again = count(node, "causal&wait_ms=20000", old.token)
                assert again.json["read"]["served_by"] != "primary"
            await load.answered()
        await load.check(pair.url)
        await check_nodes(pair.url, one, two)


@pytest.mark.parametrize("fed", ["by the primary", "by the standby"])
@on_both_queues
async def test_what_a_failover_has_lost_is_shown_by_no_replica_and_asked_for_by_no_token(
    pair: Pair, tmp_path: Path, fed: str
) -> None:
    """Though there are no writes after it, replicas begin anew: also those that the new primary feeds."""
    by_standby = fed == "by the standby"
    standby = pair.standby.url(pair.database) if by_standby else ""
    with serving(tmp_path, "one", pair.url, standby=standby) as node:
        assert [put(node, source).status for source in range(5)] == [200] * 5
        await until(lambda: shows(node, 1, 5), "five likes")
        await asyncio.to_thread(pair.standby.catch_up)
        kept = put(node, 0)
        # From here on the standby gets nothing.
        pair.standby.execute("ALTER SYSTEM SET primary_conninfo = ''")
        pair.standby.execute("SELECT pg_reload_conf()")
        receiving = "SELECT FROM pg_stat_wal_receiver"
        await until(lambda: not pair.standby.execute(receiving), "the end of the stream")
        lost = put(node, 100)
        for source in range(101, 110):
            lost = put(node, source, lost.token)
        shown = 5 if by_standby else 15
        await until(lambda: shows(node, 1, shown), "likes that will be lost")
        await until(lambda: len(listed(node)) == 15, "a list of them")
        lost = count(node, "linearizable", lost.token)
        assert lost.json["count"] == 15
        before = epoch(node)

        await fail_over(pair, node)
        for _ in range(10):
            assert sorted(listed(node)) == list(range(5))
        await until(lambda: shows(node, 1, 5), "the new truth")
        check_tokens(node, [kept.token, lost.token], 5)
        # New transactions take the ids of those that were lost, and more.
        new = put(node, 200)
        for source in range(201, 220):
            new = put(node, source, new.token)
        check_tokens(node, [kept.token, lost.token], 25)
        both = count(node, "causal", f"{lost.token},{new.token}")
        assert both.json["count"] == 25
        assert SessionToken.decode(both.token).epoch == epoch(node) > before
        await until(lambda: len(listed(node)) == 25, "the new likes on the replica's list")
        await check_nodes(pair.url, node)
    assert await check_store(pair.url) == {(1, n) for n in (*range(5), *range(200, 220))}


def put(node: Node, source: int, token: str | None = None) -> Answer:
    answer = node.request("PUT", f"/v1/edges/like/1/{source}", tokens=token)
    assert answer.status == 200, answer
    return answer


def listed(node: Node) -> list[int]:
    """Who likes it, as a replica has it, or the primary; as many as it counts, with the viewer or not."""
    body = {"keys": [["like", 1]], "viewer": 100, "newest": 50}
    answer = node.request("POST", "/v1/page?consistency=eventual", body)
    assert answer.status == 200, answer
    [item] = answer.json["items"]
    sources = [edge["source"] for edge in item["newest"]]
    assert len(sources) == item["count"]
    assert item["viewer"] == (100 in sources)
    return sources


def check_tokens(node: Node, tokens: list[str], truth: int) -> None:
    """Whatever a token says of the old epoch, the answer is what is true in this one."""
    for token in tokens:
        for level in LEVELS[1:]:
            found = count(node, level, token)
            assert (found.json["count"], found.json["pending"]) == (truth, 0), found
            assert found.json["read"]["served_by"] == "primary"
            assert SessionToken.decode(found.token).epoch == epoch(node)
