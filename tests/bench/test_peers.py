"""Every system that is compared counts right, and one that does not is found out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from clusters import Cluster
from groundswell.bench import check, systems
from groundswell.bench.keepalive import Client, request
from groundswell.bench.servers import Databases, redis_missing, rows
from groundswell.bench.systems import SYSTEMS, Tuning

pytestmark = pytest.mark.anyio

if absent := systems.missing():
    pytest.skip(f"not installed: {', '.join(absent)}", allow_module_level=True)

SLOWER = {name: system.tried[-1] for name, system in SYSTEMS.items() if len(system.tried) > 1}


@pytest.fixture
def databases(cluster: Cluster) -> Databases:
    return Databases(cluster)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(check, "SETTLE_S", 0.3)
    yield


def skip_without(name: str) -> None:
    if name == "redis" and (why := redis_missing()):
        pytest.skip(why)


@pytest.mark.parametrize("name", SYSTEMS)
async def test_likes_sent_several_times_at_once_count_once(name: str, databases: Databases) -> None:
    skip_without(name)
    async with SYSTEMS[name].running(databases) as running:
        await check.before(name, running)
        assert running.edges() == dict.fromkeys(systems.CHECKED, check.USERS)
        assert running.bytes_used() > 0
        assert running.program()


@pytest.mark.parametrize("name", SLOWER)
async def test_every_tuning_that_is_tried_counts_right(name: str, databases: Databases) -> None:
    skip_without(name)
    async with SYSTEMS[name].running(databases, SLOWER[name], lists=name != "redis") as running:
        await check.before(name, running)
        assert len(running.program()) >= SLOWER[name].workers


async def test_a_counter_that_is_off_is_found_out(databases: Databases, hasty: None) -> None:
    async with SYSTEMS["inline"].running(databases, Tuning(2)) as running:
        await check.before("inline", running)
        await check.after("inline", running, at_least=0)
        rows(running.store, "UPDATE posts SET like_count = like_count + 1 WHERE id = 901")
        with pytest.raises(check.Miscounted, match="counts"):
            await check.after("inline", running, at_least=0)


async def test_a_like_that_was_lost_is_found_out(databases: Databases, hasty: None) -> None:
    async with SYSTEMS["scan"].running(databases, Tuning(2)) as running:
        await check.before("scan", running)
        with Client(running.url) as client:
            client.send(request("PUT", "/v1/edges/like/1/1"))
        assert await check.after("scan", running, at_least=1, exactly=1) == 1
        rows(running.store, "DELETE FROM likes WHERE post_id = 1")
        with pytest.raises(check.Miscounted, match="stored 0"):
            await check.after("scan", running, at_least=1)


async def test_a_like_too_many_is_found_out(databases: Databases, hasty: None) -> None:
    async with SYSTEMS["scan"].running(databases, Tuning(2)) as running:
        rows(running.store, "INSERT INTO likes (post_id, user_id) VALUES (1, 1), (1, 2)")
        with pytest.raises(check.Miscounted, match="stored 2"):
            await check.after("scan", running, at_least=1, exactly=1)


async def test_an_endpoint_that_only_says_so_is_found_out(databases: Databases) -> None:
    async with SYSTEMS["slotted"].running(databases, Tuning(2)) as running:
        rows(running.store, "CREATE RULE forget AS ON INSERT TO slots DO INSTEAD NOTHING")
        with pytest.raises(check.Miscounted), pytest.MonkeyPatch.context() as patch:
            patch.setattr(check, "SETTLE_S", 0.3)
            await check.before("slotted", running)


def test_redis_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert "redis-server is not installed" in redis_missing()
