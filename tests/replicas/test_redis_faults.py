"""What befalls Redis: forgetting, going back, being cut off. Never an older answer than is said."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from groundswell.errors import ReplicaUnavailable
from groundswell.kinds import Kinds
from groundswell.model import Counter, Key
from groundswell.replicas.redis import RedisReplica, feeder
from groundswell.replicas.redis.parts import Parts
from groundswell.testing.base import likes
from groundswell.testing.replicas import KEYS, LIKE, Stage, advance, begin
from groundswell.verify.proxy import Proxy
from redises import (
    RedisCluster,
    RedisServer,
    Replicas,
    clustered,
    needs_redis,
    replicas,
    server,
)

pytestmark = [pytest.mark.anyio, needs_redis]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with server(tmp_path / "redis") as one:
        yield one


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    with clustered(tmp_path / "cluster") as one:
        yield one


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage(Kinds(), rollups_kept=20)
    await made.note()
    yield made
    await made.close()


async def begun(made: Replicas, stage: Stage, count: int = 1) -> list[RedisReplica]:
    """So many nodes' replicas, at the beginning, with a like of every key in the first rollup."""
    found = [made.make(stage) for _ in range(count)]
    await asyncio.gather(*(begin(replica, stage) for replica in found))
    await rolled(stage, found)
    return found


async def rolled(stage: Stage, found: list[RedisReplica], times: int = 1) -> None:
    """Rollups with one more like of every key, which every replica follows."""
    for _ in range(times):
        number = stage.past[-1].number + 1
        await stage.roll(*(like for _, target in KEYS for like in likes(target, [number])))
        await asyncio.gather(*(advance(replica, stage) for replica in found))


async def exact(replica: RedisReplica, stage: Stage, keys: list[Key] = KEYS) -> int:
    """Every row is that of where the replica says it stands; where that is."""
    held = await replica.counters(keys)
    for key, row in zip(keys, held.rows, strict=True):
        assert row is None or row == stage.counter(key, held.standing.rollup), key
    return held.standing.rollup


async def patiently(work: Callable[[], Awaitable[None]]) -> None:
    """Until it succeeds."""
    for _ in range(1_000):
        try:
            return await work()
        except ReplicaUnavailable:
            await asyncio.sleep(0.05)
    await work()
    return None


async def noticed(replica: RedisReplica, stage: Stage) -> bool:
    """Whether a replica comes to say that writes were lost; what it shows until then is exact."""
    for _ in range(1_000):
        try:
            await exact(replica, stage)
        except ReplicaUnavailable as error:
            if "lost writes" in error.detail:
                return True
        await asyncio.sleep(0.02)
    return False


# --- forgetting


async def test_a_flush_is_noticed_and_what_was_held_is_filled_again(
    redis: RedisServer, stage: Stage
) -> None:
    async with replicas(redis.url) as made:
        [replica] = await begun(made, stage)
        redis.ask("FLUSHALL")
        with pytest.raises(ReplicaUnavailable):
            await replica.counters(KEYS)
        assert replica.away
        await replica.reach(1, stage.shown)
        assert not replica.away
        held = await replica.counters(KEYS)
        assert held.standing.rollup == stage.shown
        assert held.rows == [None] * len(KEYS)
        await replica.fill_counters(KEYS, await stage.counters(KEYS))
        assert (await replica.counters(KEYS)).rows == [Counter(1)] * len(KEYS)
        await rolled(stage, [replica])
        assert (await replica.counters(KEYS)).rows == [Counter(2)] * len(KEYS)


async def test_marks_and_standing_may_be_evicted(redis: RedisServer, stage: Stage) -> None:
    async with replicas(redis.url) as made:
        [replica] = await begun(made, stage)
        for name in ("mark", "standing"):
            [key] = redis.ask("KEYS", f"*:{name}")
            redis.ask("DEL", key)
            with pytest.raises(ReplicaUnavailable):
                await replica.counters(KEYS)
            await rolled(stage, [replica])
            assert await exact(replica, stage) == stage.shown


async def test_a_mark_that_is_lost_makes_the_cells_beside_it_worthless(
    redis: RedisServer, stage: Stage
) -> None:
    """Between the loss and the new beginning rollups were missed."""
    async with replicas(redis.url) as made:
        [replica] = await begun(made, stage)
        [key] = redis.ask("KEYS", "*:mark")
        redis.ask("DEL", key)
        number = stage.past[-1].number + 1
        await stage.roll(*likes(1, [number]))
        await begin(replica, stage)
        held = await replica.counters(KEYS)
        assert held.rows == [None] * len(KEYS)


async def test_the_plain_count_is_one_get_away_and_goes_when_it_cannot_be_trusted(
    redis: RedisServer, stage: Stage
) -> None:
    async with replicas(redis.url) as made:
        [replica] = await begun(made, stage)
        count, row = "test{0}:count:like:1", f"test{{0}}:{stage.identity[:8]}:row:like:1"
        assert redis.ask("GET", count) == "1"
        assert redis.ask("GET", row).split()[1:] == ["1", "1", "0"]
        await rolled(stage, [replica])
        assert redis.ask("GET", count) == "2"
        redis.ask("DEL", redis.ask("KEYS", "*:mark")[0])
        await replica.reach(1, stage.shown)

        async def swept() -> None:
            await replica.reach(1, stage.shown)
            if redis.ask("EXISTS", count, row):
                raise ReplicaUnavailable("not yet")

        await patiently(swept)
        await replica.fill_counters([LIKE], await stage.counters([LIKE]))
        assert redis.ask("GET", count) == "2"


# --- going back


@pytest.mark.parametrize("missed", [3, 60], ids=["the feed leads on", "it does not"])
async def test_an_old_dump_is_a_consistent_old_state_until_it_has_caught_up(
    redis: RedisServer, stage: Stage, missed: int
) -> None:
    async with replicas(redis.url) as made:
        found = await begun(made, stage, 2)
        for replica in found:
            replica.certify(1.0)
        redis.save()
        old = stage.shown
        await rolled(stage, found, missed)
        redis.kill()
        redis.start()
        for replica in found:
            assert await exact(replica, stage) == old
            held = await replica.counters([LIKE])
            assert held.standing.revision == stage.past[old].revision
            assert held.standing.fresh_at_s < 0  # nothing is known of its age
            assert replica.standing.rollup == stage.shown
        await asyncio.gather(*(replica.reach(1, stage.shown) for replica in found))
        for replica in found:
            assert await exact(replica, stage) == stage.shown
        await rolled(stage, found)
        for replica in found:
            assert await exact(replica, stage) == stage.shown


async def test_a_fill_from_before_a_dump_was_restored_is_not_taken(
    redis: RedisServer, stage: Stage
) -> None:
    async with replicas(redis.url) as made:
        [replica] = await begun(made, stage)
        redis.save()
        slow = await stage.counters(KEYS)
        await rolled(stage, [replica], 3)
        redis.kill()
        redis.start()
        await patiently(lambda: replica.reach(1, stage.shown))
        redis.ask("DEL", *redis.ask("KEYS", "*:row:*"))
        await replica.fill_counters(KEYS, slow)
        assert (await replica.counters(KEYS)).rows == [None] * len(KEYS)


async def test_a_master_that_fails_over_with_lost_writes(
    cluster: RedisCluster, stage: Stage
) -> None:
    """The other masters have what it lost, and say so."""
    async with replicas(cluster.url) as made:
        found = await begun(made, stage, 2)
        for _ in range(3):
            mark = f"test{{{random.randrange(16)}}}:x"
            master = cluster.master_of(mark)
            heir = cluster.replica_of(master)
            cluster.cut_off(heir, master)
            await rolled(stage, found, 2)
            cluster.take_over(heir, master)
            for replica in found:
                assert await noticed(replica, stage)

            async def back() -> None:
                await asyncio.gather(*(replica.reach(1, stage.shown) for replica in found))

            await patiently(back)
            for replica in found:
                assert await exact(replica, stage) == stage.shown
            master.start()
            cluster.settle()
            await patiently(back)
            await rolled(stage, found)


async def test_a_master_is_killed_and_its_replica_takes_over(
    cluster: RedisCluster, stage: Stage
) -> None:
    async with replicas(cluster.url) as made:
        [replica] = await begun(made, stage)
        cluster.master_of("test{0}:x").kill()

        async def goes_on() -> None:
            await rolled(stage, [replica])

        await patiently(goes_on)
        assert await exact(replica, stage) == stage.shown


async def test_a_store_that_was_put_back_is_noticed(redis: RedisServer, stage: Stage) -> None:
    """Its numbers will stand for other states; what is in Redis is of those that are gone."""
    async with replicas(redis.url) as made:
        [replica] = await begun(made, stage)
        await rolled(stage, [replica], 5)
        older = Stage(Kinds())
        older.identity = stage.identity
        await older.note()
        await older.roll(*likes(1, [77]))
        again = made.make(older)
        await begin(again, older)
        assert (await again.counters([LIKE])).rows == [None]
        for number in range(2, 8):
            await older.roll(*likes(2, [number]))
            await advance(again, older)
            assert await exact(again, older) == number
        await again.fill_counters([LIKE], await older.counters([LIKE]))
        assert (await again.counters([LIKE])).rows == [Counter(1)]


# --- several at once


async def test_whoever_feeds_it_in_whatever_order(
    redis: RedisServer, stage: Stage, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Nobody is elected: all feed at once, each as slow as it likes, and scripts come twice."""
    draw = random.Random(seed)
    monkeypatch.setattr("groundswell.replicas.redis.parts.PART", 2)
    async with replicas(redis.url) as made:
        found = await begun(made, stage, 4)
        for replica in found:
            everybody_feeds(replica, draw)
        late: list[asyncio.Task[None]] = []
        for _ in range(25):
            number = stage.past[-1].number + 1
            some = draw.sample(KEYS, draw.randrange(1, len(KEYS)))
            await stage.roll(*(like for _, target in some for like in likes(target, [number])))
            stage.shown = number
            late += [asyncio.create_task(replica.reach(1, number)) for replica in found]
            read = await stage.counters(KEYS)
            late.append(asyncio.create_task(found[0].fill_counters(KEYS, read)))
            await asyncio.sleep(draw.random() * 0.01)
            for replica in found:
                with contextlib.suppress(ReplicaUnavailable):  # nobody has published it yet
                    await exact(replica, stage)
        await asyncio.gather(*late)
        assert await exact(found[0], stage) == stage.shown
        await found[0].fill_counters(KEYS, await stage.counters(KEYS))
        rows = (await found[0].counters(KEYS)).rows
        assert rows == [stage.counter(key, stage.shown) for key in KEYS]


def everybody_feeds(replica: RedisReplica, draw: random.Random) -> None:
    """Let a replica feed without being elected, with pauses, and some of its scripts come again."""
    assert replica._parts is not None
    fed = replica._parts.feeder
    look, run = fed.look, fed._run

    async def elected() -> feeder.Seen:
        return feeder.Seen((await look()).published, elected=True)

    async def again(commands: list[list[object]]) -> list[object]:
        await asyncio.sleep(draw.random() * 0.01)
        answers: list[object] = []
        for command in commands:
            answers += await run([command])
            if draw.random() < 0.3:
                await asyncio.sleep(draw.random() * 0.005)
                asyncio.get_running_loop().create_task(run([command]))
        return answers

    fed.look, fed._run = elected, again  # type: ignore[method-assign]


async def test_one_feeds_and_when_it_is_gone_another_one_does(
    redis: RedisServer, stage: Stage
) -> None:
    async with replicas(redis.url) as made:
        found = await begun(made, stage, 3)
        [key] = redis.ask("KEYS", "*:feeder")
        names = [replica._parts.feeder._me for replica in found if replica._parts]
        first = names.index(redis.ask("GET", key))
        others = [replica for replica in found if replica is not found[first]]
        await rolled(stage, others)  # the first one is silent, and does not say goodbye
        assert redis.ask("GET", key) in names[:first] + names[first + 1 :]
        for replica in others:
            assert await exact(replica, stage) == stage.shown


# --- being cut off


async def test_redis_behind_a_partition_or_slow_is_left_alone_until_it_is_back(
    redis: RedisServer, stage: Stage
) -> None:
    proxy = Proxy(urlsplit(redis.url).port or 0)
    await proxy.start()
    try:
        async with replicas(f"redis://127.0.0.1:{proxy.port}") as made:
            [replica] = await begun(made, stage)
            for harm in (proxy.stall, lambda: proxy.delay(1.6), proxy.deafen, proxy.cut):
                harm()
                with pytest.raises(ReplicaUnavailable):
                    await replica.counters(KEYS)
                assert replica.away
                proxy.heal()
                number = stage.past[-1].number + 1
                await stage.roll(*likes(1, [number]))

                async def back() -> None:
                    await advance(replica, stage)

                await patiently(back)
                assert await exact(replica, stage) == stage.shown
                assert not replica.away
    finally:
        await proxy.close()


async def test_a_password_is_told_to_nobody(redis: RedisServer, stage: Stage) -> None:
    redis.ask("CONFIG", "SET", "requirepass", "right-one")
    async with replicas(redis.url) as made:
        wrong = made.make(stage, url=f"redis://:wrong-one@127.0.0.1:{redis.port}")
        with pytest.raises(ReplicaUnavailable) as refused:
            await wrong.reach(1, 0)
        assert "wrong-one" not in str(refused.value)
        right = made.make(stage, url=f"redis://:right-one@127.0.0.1:{redis.port}")
        await begin(right, stage)
        assert (await right.counters([LIKE])).standing.rollup == 0


async def test_a_script_that_comes_late_does_nothing(redis: RedisServer, stage: Stage) -> None:
    async with replicas(redis.url) as made:
        [replica] = await begun(made, stage)
        await rolled(stage, [replica], 2)
        assert replica._parts is not None
        names, _, fed = replica._parts
        for rollup in stage.past[1:3]:
            await fed._run(Parts(names, 1, rollup).scripts(0))
            assert await exact(replica, stage) == stage.shown == 3


async def test_nothing_is_filled_in_between_two_parts_of_a_rollup(
    redis: RedisServer, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the cell that was written and evicted the store's older value would seem to be the newest."""
    monkeypatch.setattr("groundswell.replicas.redis.parts.PART", 1)
    async with replicas(redis.url) as made:
        [replica] = await begun(made, stage)
        slow = await stage.counters(KEYS)
        await stage.roll(*likes(1, [70]), *likes(2, [70]))
        assert replica._parts is not None
        names, _, fed = replica._parts
        first, *rest = Parts(names, 1, stage.past[-1]).scripts(0)
        await fed._run([first])
        redis.ask("DEL", *redis.ask("KEYS", "*:row:*"))
        await replica.fill_counters(KEYS, slow)
        await fed._run(list(rest))
        await advance(replica, stage)
        assert await exact(replica, stage) == stage.shown == 2
