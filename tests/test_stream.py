from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence

import pytest

from groundswell.errors import BadRequest, Overloaded, StoreUnavailable
from groundswell.follower import Follower, Tail
from groundswell.kinds import Kinds
from groundswell.model import Add, Counter, Key, Remove
from groundswell.replicas.memory import MemoryReplica
from groundswell.store import Batch, Counters, Feed
from groundswell.stores.memory import MemoryStore
from groundswell.stream import News, Place, Stream, Streams

pytestmark = pytest.mark.anyio

A: Key = ("like", 1)
B: Key = ("like", 2)


class StubbornStore(MemoryStore):
    """A store that can be away, and whose answers can be held."""

    def __init__(self, *, rollups_kept: int) -> None:
        super().__init__(Kinds(), rollups_kept=rollups_kept)
        self.away = False
        self.held: asyncio.Event | None = None
        self.fed = 0

    async def counters(self, keys: Sequence[Key]) -> Counters:
        if self.away:
            raise StoreUnavailable("gone")
        read = await super().counters(keys)
        if self.held is not None:
            await self.held.wait()
        return read

    async def feed(self, after: int, changes_max: int) -> Feed:
        self.fed += 1
        feed = await super().feed(after, changes_max)
        if self.held is not None:
            await self.held.wait()
        return feed


class Rig:
    def __init__(
        self, *, replicas: int = 1, rollups_kept: int = 1000, streams_max: int = 9
    ) -> None:
        self.store = StubbornStore(rollups_kept=rollups_kept)
        self.replicas = [MemoryReplica(name, bytes_max=10**6) for name in "abc"[:replicas]]
        self.streams = Streams(self.store, self.store, self.replicas, streams_max=streams_max)
        tail = Tail(self.store)
        self.followers = [
            Follower(tail, replica, poll_s=9, watches=(room,))
            for replica, room in zip(self.replicas, self.streams.rooms, strict=True)
        ]
        self.sources = 0

    async def like(self, *targets: int) -> None:
        """One more like of each, in one rollup."""
        self.sources += 1
        writes = tuple(Add("like", target, self.sources) for target in targets)
        await self.store.commit([Batch(writes)])
        await self.store.rollup(10**6)

    async def follow(self, *which: int) -> None:
        for number in which or range(len(self.followers)):
            while not await self.followers[number].step():
                pass

    async def open(self, *keys: Key, after: Place | None = None) -> Stream:
        return await self.streams.open(keys, after)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    await made.follow()
    yield made
    made.streams.close()


async def told(stream: Stream) -> dict[int, int]:
    """The next news, which there must be: target to count."""
    async with asyncio.timeout(5):
        news = await stream.next()
    assert news is not None
    return {int(target): row.count for (_, target), row in news.rows.items()}


async def silent(stream: Stream) -> bool:
    """Whether there is nothing to tell now."""
    try:
        async with asyncio.timeout(0.12):
            await stream.next()
    except TimeoutError:
        return True
    return False


# --- the first news, and those that follow


async def test_the_first_news_are_all_counts_at_one_standing(rig: Rig) -> None:
    await rig.like(1)
    await rig.follow()
    stream = await rig.open(A, B)
    news = await stream.next()
    assert news == News({A: Counter(1), B: Counter(0)}, rig.replicas[0].standing)
    assert news.place == Place(1, 1)
    assert await silent(stream)


async def test_each_rollup_tells_what_it_changed(rig: Rig) -> None:
    stream = await rig.open(A, B)
    assert await told(stream) == {1: 0, 2: 0}
    for targets, expected in (((1,), {1: 1}), ((1, 2), {1: 2, 2: 1}), ((2,), {2: 2})):
        await rig.like(*targets)
        await rig.follow()
        assert await told(stream) == expected
    await rig.like(3)
    await rig.follow()
    assert await silent(stream)


async def test_who_is_slow_is_told_the_newest_only(rig: Rig) -> None:
    stream = await rig.open(A, B)
    await told(stream)
    for _ in range(500):
        await rig.like(1)
        await rig.follow()
    await rig.like(2)
    await rig.follow()
    assert len(stream._changed) == 2
    assert await told(stream) == {1: 500, 2: 1}
    assert await silent(stream)


async def test_what_changes_while_the_first_counts_are_read_is_told_once(rig: Rig) -> None:
    await rig.like(1)
    await rig.follow()
    rig.store.held = asyncio.Event()
    opening = asyncio.create_task(rig.open(A, B))  # B has to be filled
    await asyncio.sleep(0.01)
    held, rig.store.held = rig.store.held, None
    await rig.like(1)
    await rig.follow()
    held.set()
    stream = await opening
    assert await told(stream) == {1: 2, 2: 0}
    assert await silent(stream)


async def test_a_call_for_news_that_is_cancelled_loses_none(rig: Rig) -> None:
    stream = await rig.open(A)
    await told(stream)
    assert await silent(stream)
    await rig.like(1)
    await rig.follow()
    assert await told(stream) == {1: 1}


# --- coming back


async def test_who_comes_back_is_told_what_changed_since(rig: Rig) -> None:
    for targets in ((1, 2), (2,), (1,), (1,)):
        await rig.like(*targets)
    await rig.follow()
    keys = (A, B, ("like", 3))
    assert await told(await rig.open(*keys, after=Place(1, 1))) == {1: 3, 2: 2}
    assert await told(await rig.open(*keys, after=Place(1, 2))) == {1: 3}
    assert await silent(await rig.open(*keys, after=Place(1, 4)))


async def test_who_comes_back_where_it_was_is_told_the_next_change(rig: Rig) -> None:
    await rig.like(1)
    await rig.follow()
    fed = rig.store.fed
    stream = await rig.open(A, after=Place(1, 1))
    assert rig.store.fed == fed
    await rig.like(1)
    await rig.follow()
    assert await told(stream) == {1: 2}


async def test_what_changes_while_the_feed_is_read_is_told_too(rig: Rig) -> None:
    await rig.like(1, 2)
    await rig.like(1)
    await rig.follow()
    rig.store.held = asyncio.Event()
    opening = asyncio.create_task(rig.open(A, B, after=Place(1, 1)))
    await asyncio.sleep(0.01)
    held, rig.store.held = rig.store.held, None
    await rig.like(2)
    await rig.follow()
    held.set()
    assert await told(await opening) == {1: 2, 2: 2}


async def test_what_the_feed_has_forgotten_is_told_as_all_counts() -> None:
    rig = Rig(rollups_kept=2)
    await rig.follow()
    for _ in range(5):
        await rig.like(1)
        await rig.follow()
    assert await told(await rig.open(A, B, after=Place(1, 1))) == {1: 5, 2: 0}
    assert await told(await rig.open(A, B, after=Place(1, 4))) == {1: 5}


async def test_a_long_absence_is_told_as_all_counts(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("groundswell.stream.RESUME_CHANGES_MAX", 2)
    for _ in range(5):
        await rig.like(1)
    await rig.follow()
    assert await told(await rig.open(A, B, after=Place(1, 1))) == {1: 5, 2: 0}


async def test_a_place_of_an_earlier_epoch_is_told_all_counts(rig: Rig) -> None:
    rig.store.epoch = 2
    await rig.like(1)
    await rig.follow()
    assert await told(await rig.open(A, B, after=Place(1, 1))) == {1: 1, 2: 0}


@pytest.mark.parametrize("after", [Place(1, 99), Place(7, 0)])
async def test_a_place_that_never_was_is_told_all_counts(rig: Rig, after: Place) -> None:
    await rig.like(1)
    await rig.follow()
    assert await told(await rig.open(A, B, after=after)) == {1: 1, 2: 0}


async def test_a_replica_that_is_behind_says_nothing_until_it_has_caught_up(rig: Rig) -> None:
    """The client has seen more on another node."""
    for _ in range(3):
        await rig.like(1)
    stream = await rig.open(A, after=Place(1, 3))
    assert await silent(stream)
    await rig.like(1)
    await rig.follow()
    assert await told(stream) == {1: 4}


async def test_a_replica_of_an_older_epoch_says_nothing_until_it_has_caught_up(rig: Rig) -> None:
    rig.store.epoch = 2
    await rig.like(1)
    stream = await rig.open(A, after=Place(2, 1))
    assert await silent(stream)
    await rig.follow()
    assert await told(stream) == {1: 1}


async def test_who_comes_back_is_given_a_replica_that_has_come_so_far() -> None:
    rig = Rig(replicas=3)
    await rig.follow()
    await rig.like(1)
    await rig.follow(1)
    for _ in range(4):
        stream = await rig.open(A, after=Place(1, 1))
        assert stream.served_by == "b"
    assert {(await rig.open(A)).served_by for _ in range(3)} == {"a", "b", "c"}


@pytest.mark.parametrize(
    "text", ["", "1", "1-", "-1", "1-x", "a-1", "1-1-1", "1-²", "1-" + "9" * 30]
)
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        Place.decode(text)


def test_a_place_is_read_back() -> None:
    assert Place.decode(Place(3, 4711).encode()) == Place(3, 4711)


# --- beginning anew


async def test_another_epoch_is_told_as_all_counts(rig: Rig) -> None:
    await rig.like(1, 2)
    await rig.follow()
    stream = await rig.open(A, B)
    await told(stream)
    rig.store.epoch = 2
    await rig.like(1)
    await rig.follow()
    async with asyncio.timeout(5):
        news = await stream.next()
    assert news is not None
    assert news.place == Place(2, 2)
    assert news.rows == {A: Counter(2), B: Counter(1)}


async def test_a_replica_that_begins_anew_while_the_store_is_away_is_told_later(rig: Rig) -> None:
    stream = await rig.open(A)
    await told(stream)
    rig.store.epoch = 2
    await rig.like(1)
    await rig.follow()
    rig.store.away = True
    assert await silent(stream)
    rig.store.away = False
    assert await told(stream) == {1: 1}


async def test_a_stream_cannot_begin_while_the_store_is_away(rig: Rig) -> None:
    rig.store.away = True
    with pytest.raises(StoreUnavailable):
        await rig.open(A)
    assert len(rig.streams) == 0


# --- limits, and the end


async def test_only_so_many_are_open() -> None:
    rig = Rig(streams_max=2)
    await rig.follow()
    streams = [await rig.open(A) for _ in range(2)]
    with pytest.raises(Overloaded):
        await rig.open(A)
    streams[0].close()
    await rig.open(A)


async def test_a_stream_that_is_closed_leaves_nothing_behind(rig: Rig) -> None:
    streams = [await rig.open(A, B) for _ in range(3)]
    for stream in streams:
        stream.close()
        stream.close()
    assert len(rig.streams) == 0
    assert not rig.streams.rooms[0]._watching
    assert await streams[0].next() is None


async def test_the_end_of_the_node_ends_all(rig: Rig) -> None:
    stream = await rig.open(A)
    await told(stream)
    waiting = asyncio.create_task(stream.next())
    await asyncio.sleep(0.01)
    rig.streams.close()
    assert await waiting is None
    with pytest.raises(Overloaded):
        await rig.open(A)


# --- whatever happens


async def test_it_ends_at_the_truth_and_never_goes_backwards(seed: int) -> None:
    """Clients that break off and come back, on replicas that lag, with a feed that forgets."""
    draw = random.Random(seed)
    for _ in range(6):
        rig = Rig(replicas=3, rollups_kept=draw.choice([2, 4, 1000]), streams_max=100)
        await rig.follow()
        keys = [("like", target) for target in range(4)]
        seen: dict[Key, int] = {}
        place: Place | None = None
        stream: Stream | None = None
        epoch = 1
        for _ in range(80):
            action = draw.choice(
                ["like", "like", "unlike", "follow", "take", "take", "break", "epoch"]
            )
            if action == "like":
                await rig.like(*draw.sample(range(6), 2))
            elif action == "unlike":
                gone = Remove("like", draw.randrange(6), draw.randrange(1, rig.sources + 2))
                await rig.store.commit([Batch((gone,))])
                await rig.store.rollup(10**6)
            elif action == "follow":
                await rig.follow(draw.randrange(3))
            elif action == "break" and stream is not None:
                stream.close()
                stream = None
            elif action == "epoch" and draw.random() < 0.1:
                rig.store.epoch = epoch = epoch + 1
                await rig.like(1)
            elif action == "take":
                stream = stream or await rig.open(*keys, after=place)
                place = await take(stream, seen, place)
        await rig.follow()
        stream = stream or await rig.open(*keys, after=place)
        for _ in range(3):
            place = await take(stream, seen, place)
        read = await rig.store.counters(keys)
        assert seen == {key: row.counter.count for key, row in zip(keys, read.rows, strict=True)}
        rig.streams.close()


async def take(stream: Stream, seen: dict[Key, int], place: Place | None) -> Place | None:
    """Note the next news, if there are any; they must not be older than `place`."""
    try:
        async with asyncio.timeout(0.005 if place else 5):
            news = await stream.next()
    except TimeoutError:
        return place
    assert news is not None
    assert place is None or news.place >= place
    seen.update({key: row.count for key, row in news.rows.items()})
    return news.place
