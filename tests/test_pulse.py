from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest

from groundswell import pulse as pulses
from groundswell.errors import Overloaded, ReplicaUnavailable, StoreUnavailable
from groundswell.follower import Follower, Tail
from groundswell.kinds import Kinds
from groundswell.model import Add, Counter, Key
from groundswell.pulse import WATCHERS_MAX, Pulse, Watcher
from groundswell.replica import Held
from groundswell.replicas.memory import MemoryReplica
from groundswell.store import Batch, Counters
from groundswell.stores.memory import MemoryStore
from groundswell.telemetry import Telemetry
from groundswell.wire import PulseEvent

pytestmark = pytest.mark.anyio

A: Key = ("like", 1)


class CountedStore(MemoryStore):
    """A store that can be away, and counts what it is asked."""

    def __init__(self) -> None:
        super().__init__(Kinds())
        self.away = False
        self.asked = 0
        self.filled = 0

    async def backlog(self) -> int:
        self.asked += 1
        if self.away:
            raise StoreUnavailable("gone")
        return await super().backlog()

    async def counters(self, keys: Sequence[Key]) -> Counters:
        self.filled += 1
        if self.away:
            raise StoreUnavailable("gone")
        return await super().counters(keys)


class Rig:
    def __init__(self, *, replicas: Sequence[MemoryReplica] = ()) -> None:
        self.store = CountedStore()
        self.telemetry = Telemetry()
        tail = Tail(self.store)
        made = replicas or [MemoryReplica(name, bytes_max=10**6) for name in "ab"]
        self.followers = [Follower(tail, replica, poll_s=9) for replica in made]
        self.pulse = Pulse(self.store, self.store, self.followers, self.telemetry)
        self.sources = 0

    async def like(self, times: int = 1) -> None:
        """As many likes, rolled up."""
        for _ in range(times):
            self.sources += 1
            await self.store.commit([Batch((Add("like", 1, self.sources),))])
        self.telemetry.commit_writes.observe(times)
        rolled = await self.store.rollup(10**6)
        assert rolled is not None
        self.telemetry.rollup_events.observe(rolled.events)


@contextlib.asynccontextmanager
async def beating(**options: Any) -> AsyncIterator[Rig]:
    rig = Rig(**options)
    for follower in rig.followers:
        await follower.step()
    running = asyncio.create_task(rig.pulse.run())
    try:
        yield rig
    finally:
        rig.pulse.close()
        running.cancel()
        await asyncio.wait([running], timeout=5)


async def beat(watcher: Watcher) -> PulseEvent:
    """The next beat, decoded."""
    async with asyncio.timeout(5):
        told = await watcher.next()
    assert told is not None
    return msgspec.json.decode(told, type=PulseEvent)


async def counted(watcher: Watcher, *counts: int | None) -> PulseEvent:
    """The first beat at which the replicas show these counts."""
    async with asyncio.timeout(10):
        while True:
            found = await beat(watcher)
            if tuple(one.count for one in found.replicas) == counts:
                return found


async def test_every_replica_tells_its_own_count() -> None:
    async with beating() as rig:
        watcher = rig.pulse.open(A)
        await counted(watcher, 0, 0)
        await rig.like(3)
        await rig.followers[0].step()
        found = await counted(watcher, 3, 0)
        assert [one.name for one in found.replicas] == ["a", "b"]
        assert [one.rollup for one in found.replicas] == [1, 0]
        assert (found.writes, found.rollups) == (3, 1)
        await rig.followers[1].step()
        await counted(watcher, 3, 3)


async def test_beats_come_ten_times_a_second_and_only_while_somebody_watches() -> None:
    async with beating() as rig:
        await asyncio.sleep(0.3)
        assert rig.store.asked == 0
        watcher = rig.pulse.open(A)
        first = await beat(watcher)
        for _ in range(10):
            last = await beat(watcher)
        assert 900 <= last.uptime_ms - first.uptime_ms <= 5000  # on a busy machine
        watcher.close()
        assert await watcher.next() is None
        await asyncio.sleep(0.2)
        asked = rig.store.asked
        await asyncio.sleep(0.7)
        assert rig.store.asked == asked


async def test_all_who_watch_share_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Key] = []
    look = Pulse._look

    def counting(self: Pulse, key: Key) -> PulseEvent:
        looks.append(key)
        return look(self, key)

    monkeypatch.setattr(Pulse, "_look", counting)
    rig = Rig()
    watchers = [rig.pulse.open(A) for _ in range(9)] + [rig.pulse.open(("like", 2))]
    rig.pulse.beat()
    assert sorted(looks) == [A, ("like", 2)]
    assert len({await watcher.next() for watcher in watchers[:9]}) == 1
    rig.pulse.close()


async def test_who_is_slow_gets_the_newest_beat() -> None:
    rig = Rig()
    watcher = rig.pulse.open(A)
    rig.telemetry.commit_writes.observe(1)
    rig.pulse.beat()
    rig.telemetry.commit_writes.observe(1)
    rig.pulse.beat()
    assert (await beat(watcher)).writes == 2
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await watcher.next()
    rig.pulse.close()


async def test_a_halted_follower_and_its_delay_are_told() -> None:
    async with beating(replicas=[MemoryReplica("a", bytes_max=10**6)]) as rig:
        watcher = rig.pulse.open(A)
        assert (await beat(watcher)).replicas[0].following
        rig.followers[0].halt()
        rig.followers[0].delay_s = 0.25
        await beat(watcher)
        [replica] = (await beat(watcher)).replicas
        assert (replica.following, replica.delay_ms) == (False, 250)


async def test_a_store_that_is_away_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulses, "FILL_S", 0.05)
    async with beating(replicas=[MemoryReplica("a", bytes_max=10**6)]) as rig:
        rig.store.away = True
        watcher = rig.pulse.open(A)
        found = await beat(watcher)
        assert (found.rollup, found.backlog, found.replicas[0].count) == (None, None, None)
        rig.store.away = False
        await counted(watcher, 0)
        async with asyncio.timeout(5):
            while (await beat(watcher)).backlog is None:
                pass


async def test_a_replica_that_stands_too_far_back_is_not_asked_for_at_every_beat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pulses, "FILL_S", 60.0)  # however long eight beats take
    async with beating(replicas=[MemoryReplica("a", bytes_max=10**6)]) as rig:
        await rig.like()
        watcher = rig.pulse.open(A)  # born after where the replica stands: it is known to be absent
        await counted(watcher, 0)
        await rig.store.commit([Batch((Add("like", 2, 1),))])
        await rig.store.rollup(10**6)
        await rig.followers[0].step()
        await rig.store.commit([Batch((Add("like", 2, 2),))])
        await rig.store.rollup(10**6)
        rig.followers[0].replica.reset(1, (await rig.store.feed(1, 10)).rollups[0])
        other = rig.pulse.open(("like", 2))
        before = rig.store.filled
        for _ in range(8):
            assert (await beat(other)).replicas[0].count is None
        assert rig.store.filled - before <= 3  # the tries of one fill


class Elsewhere(MemoryReplica):
    """A replica whose rows are not in this process."""

    lost = False

    def peek(self, keys: Sequence[Key]) -> list[Counter | None]:
        return [None] * len(keys)

    async def counters(self, keys: Sequence[Key]) -> Held[Counter]:
        if self.lost:
            raise ReplicaUnavailable("gone")
        return await super().counters(keys)


async def test_a_replica_whose_rows_are_elsewhere_is_asked_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pulses, "FILL_S", 0.2)
    replica = Elsewhere("a", bytes_max=10**6)
    async with beating(replicas=[replica]) as rig:
        await rig.like(3)
        await rig.followers[0].step()
        watcher = rig.pulse.open(A)
        await counted(watcher, 3)
        replica.lost = True
        await counted(watcher, None)
        replica.lost = False
        await counted(watcher, 3)


async def test_the_number_of_watchers_is_limited() -> None:
    rig = Rig()
    watchers = [rig.pulse.open(A) for _ in range(WATCHERS_MAX)]
    with pytest.raises(Overloaded, match="limit"):
        rig.pulse.open(A)
    watchers[0].close()
    watchers[0].close()
    assert len(rig.pulse) == WATCHERS_MAX - 1
    rig.pulse.open(A)
    rig.pulse.close()
    assert len(rig.pulse) == 0
    with pytest.raises(Overloaded, match="about to stop"):
        rig.pulse.open(A)
