"""Nodes with a replica in Redis: who serves, when it is there and when it is not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import groundswell
from groundswell import config
from groundswell.errors import BadSettings
from groundswell.session import Groundswell, Session
from redises import RedisServer, needs_redis, server

pytestmark = [pytest.mark.anyio, needs_redis]

LIKES = [("like", target) for target in range(10)]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with server(tmp_path / "redis") as one:
        yield one


def store(folder: Path) -> str:
    return f"sqlite:///{folder / 'test.db'}"


async def served(gs: Groundswell, by: str) -> float:
    """Counts are read until they are served by this one; how long that took."""
    began_s = time.monotonic()
    while (await gs.session().counts(LIKES))[0].served_by != by:
        assert time.monotonic() < began_s + 20, f"never served by {by}"
        await asyncio.sleep(0.02)
    return time.monotonic() - began_s


async def test_counts_objects_and_pages_are_served(tmp_path: Path, redis: RedisServer) -> None:
    async with groundswell.open(store(tmp_path), redis=redis.url, replicas=0) as gs:
        me = gs.session()
        await me.add("like", target=1, source=7)
        await me.put("o", "t", {"a": 1})
        await served(gs, "redis")
        assert [count.value for count in await me.counts(LIKES)][:3] == [0, 1, 0]
        assert (await me.get("o")).data == {"a": 1}
        for _ in range(100):
            [item] = await me.page([("like", 1)], viewer=7, newest=2, wait_ms=1_000)
            assert (item.value, item.viewer) == (1, True)
            if item.served_by == "redis":
                break
        assert item.served_by == "redis"


async def test_without_redis_a_node_starts_and_the_primary_serves_at_once(
    tmp_path: Path, redis: RedisServer
) -> None:
    redis.kill()
    async with groundswell.open(store(tmp_path), redis=redis.url, replicas=0) as gs:
        me = gs.session()
        await me.add("like", target=1, source=7)
        for _ in range(5):
            count = await me.count("like", 1, wait_ms=20_000)
            assert (count.value, count.served_by) == (1, "primary")
        redis.start()
        await served(gs, "redis")
        assert (await me.count("like", 1)).value == 1


async def test_with_a_replica_in_memory_reads_go_there(tmp_path: Path, redis: RedisServer) -> None:
    async with groundswell.open(store(tmp_path), redis=redis.url) as gs:
        await served(gs, "redis")
        redis.pause()
        try:
            await served(gs, "replica-a")
            began_s = time.monotonic()
            names = {(await gs.session().count("like", 1)).served_by for _ in range(20)}
            assert time.monotonic() - began_s < 5
            assert names == {"replica-a"}
        finally:
            redis.resume()
        await served(gs, "redis")


async def test_a_node_that_starts_finds_what_another_one_left(
    tmp_path: Path, redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with groundswell.open(store(tmp_path), redis=redis.url, replicas=0) as gs:
        me = gs.session()
        await me.add("like", target=1, source=7)
        await served(gs, "redis")
        assert (await me.count("like", 1)).value == 1
    assert "begin anew" in caplog.text
    caplog.clear()
    async with groundswell.open(store(tmp_path), redis=redis.url, replicas=0) as gs:
        await served(gs, "redis")
        await gs.session().add("like", target=1, source=8)
    assert "begin anew" not in caplog.text


def _flush(redis: RedisServer) -> None:
    redis.ask("FLUSHALL")


def _restore(redis: RedisServer) -> None:
    redis.kill()
    redis.start()


def _restart_empty(redis: RedisServer) -> None:
    redis.kill()
    redis.forget()
    redis.start()


@pytest.mark.parametrize("harm", [_flush, _restore, _restart_empty])
async def test_no_session_goes_back(
    tmp_path: Path, redis: RedisServer, harm: Callable[[RedisServer], None]
) -> None:
    """Two nodes; each session reads what it wrote and what it read, from whoever it asks."""
    url = store(tmp_path)
    async with (
        groundswell.open(url, redis=redis.url, replicas=0) as one,
        groundswell.open(url, redis=redis.url, replicas=0) as two,
    ):
        running = True
        seen = 0

        async def reader(gs: Groundswell, level: str) -> None:
            nonlocal seen
            session = gs.session()
            last = 0
            while running:
                value = (await session.count("like", 1, level=level)).value
                assert value >= last, level
                last, seen = value, seen + 1

        async def writer(session: Session) -> None:
            written = 0
            while running:
                written += 1
                await session.add("like", target=1, source=written)
                await session.add("like", target=2, source=written)
                assert (await session.count("like", 2)).value == written

        async with asyncio.TaskGroup() as group:
            group.create_task(writer(one.session()))
            for gs in (one, two):
                for level in ("monotonic", "causal", "linearizable"):
                    group.create_task(reader(gs, level))
            for _ in range(3):
                redis.save()
                await asyncio.sleep(0.4)
                await asyncio.to_thread(harm, redis)
                await asyncio.sleep(0.6)
            running = False
        assert seen > 50
        await served(one, "redis")
        await served(two, "redis")


async def test_a_stream_that_follows_redis_never_goes_back(
    tmp_path: Path, redis: RedisServer
) -> None:
    url = store(tmp_path)
    async with (
        groundswell.open(url, redis=redis.url, replicas=0) as one,
        groundswell.open(url, redis=redis.url, replicas=0, poll_ms=500) as two,
    ):
        last = -1
        writes = asyncio.create_task(_likes(one.session(), 60))
        async for counts in two.session().stream([("like", 1)]):
            assert counts[0].value >= last
            last = counts[0].value
            if last == 60:
                break
        await writes


async def _likes(session: Session, total: int) -> None:
    for source in range(total):
        await session.add("like", target=1, source=source)


WRONG = [
    ({"redis": "http://:secret@one/0"}, "is no Redis"),
    ({"replicas": 0}, "needs `redis`"),
    ({"redis": "redis://one", "redis_prefix": "a{b}"}, "redis_prefix"),
]


@pytest.mark.parametrize(("given", "said"), WRONG)
def test_settings_that_do_not_fit(given: dict[str, object], said: str) -> None:
    with pytest.raises(BadSettings) as refused:
        config.load_only(given)
    assert said in refused.value.detail
    assert "secret" not in refused.value.detail
