from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from groundswell.errors import StoreUnavailable
from groundswell.fills import TRIES, Fills
from groundswell.kinds import Kinds
from groundswell.model import Add, Counter, Document, Key, Put
from groundswell.replicas.memory import COUNTER_BYTES, MemoryReplica
from groundswell.store import Batch, Counters, Documents
from groundswell.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio

ONE: Key = ("like", 1)
TWO: Key = ("like", 2)
THREE: Key = ("like", 3)

Rows = list[Counter | None] | None


class HeldStore(MemoryStore):
    """A store whose reads take place at once but are answered when they are let go."""

    def __init__(self) -> None:
        super().__init__(Kinds())
        self.asked: list[tuple[Key | str, ...]] = []
        self.held = asyncio.Semaphore(0)
        self.failures: list[Exception] = []
        self.sources = 0

    async def like(self, *targets: int) -> None:
        for target in targets:
            self.sources += 1
            await self.commit([Batch((Add("like", target, self.sources),))])
        await self.rollup(1000)

    async def put(self, id_: str) -> None:
        await self.commit([Batch((Put(id_, "t", msgspec.Raw(b"%d" % self._xid)),))])

    async def counters(self, keys: Sequence[Key]) -> Counters:
        read = await super().counters(keys)
        self.asked.append(tuple(keys))
        await self._answer()
        return read

    async def documents(self, ids: Sequence[str]) -> Documents:
        read = await super().documents(ids)
        self.asked.append(tuple(ids))
        await self._answer()
        return read

    async def _answer(self) -> None:
        await self.held.acquire()
        if self.failures:
            raise self.failures.pop(0)

    def let_go(self, reads: int = 1) -> None:
        for _ in range(reads):
            self.held.release()


class Rig:
    def __init__(self, *, bytes_max: int = 10**6) -> None:
        self.store = HeldStore()
        self.replica = MemoryReplica("a", bytes_max=bytes_max)
        self.fills = Fills(self.store)

    async def begin(self) -> None:
        self.replica.reset(self.store.epoch, (await self.store.feed(-1, 1)).latest)

    async def catch_up(self) -> None:
        for rollup in (await self.store.feed(self.replica.standing.rollup, 10**6)).rollups:
            self.replica.apply(rollup)

    async def count(self, *keys: Key) -> asyncio.Task[Rows]:
        """A reader that waits for the store, if it has to."""
        task = asyncio.create_task(self._count(keys))
        for _ in range(20):
            await asyncio.sleep(0)
        return task

    async def _count(self, keys: Sequence[Key]) -> Rows:
        held = await self.fills.counters(self.replica, keys)
        return None if held is None else held.rows


@pytest.fixture
async def rig() -> Rig:
    """A replica that stands at the newest rollup and holds nothing."""
    rig = Rig()
    await rig.store.like(1, 1, 1, 2)
    await rig.begin()
    return rig


async def test_what_is_held_is_not_asked_for(rig: Rig) -> None:
    await rig.store.like(1)
    await rig.catch_up()
    assert (await rig.count(ONE)).result() == [Counter(4)]
    assert rig.store.asked == []


async def test_what_is_missing_is_asked_for_once(rig: Rig) -> None:
    rig.store.let_go(9)
    assert await (await rig.count(ONE)) == [Counter(3)]
    assert await (await rig.count(ONE)) == [Counter(3)]
    assert rig.store.asked == [(ONE,)]


async def test_only_what_is_missing_is_asked_for(rig: Rig) -> None:
    await rig.store.like(1)
    await rig.catch_up()
    rig.store.let_go(9)
    assert await (await rig.count(ONE, TWO, THREE)) == [Counter(4), Counter(1), Counter(0)]
    assert rig.store.asked == [(TWO, THREE)]


async def test_a_key_asked_for_twice_is_filled_once(rig: Rig) -> None:
    rig.store.let_go(9)
    assert await (await rig.count(ONE, ONE)) == [Counter(3), Counter(3)]
    assert rig.store.asked == [(ONE,)]


async def test_many_readers_share_one_fill(rig: Rig) -> None:
    readers = [await rig.count(ONE) for _ in range(50)]
    rig.store.let_go(1)
    assert await asyncio.gather(*readers) == [[Counter(3)]] * 50
    assert rig.store.asked == [(ONE,)]


async def test_readers_of_other_keys_share_what_overlaps(rig: Rig) -> None:
    first, second = await rig.count(ONE, TWO), await rig.count(TWO, THREE)
    rig.store.let_go(2)
    assert await first == [Counter(3), Counter(1)]
    assert await second == [Counter(1), Counter(0)]
    assert rig.store.asked == [(ONE, TWO), (THREE,)]


async def test_rows_missed_while_a_statement_runs_share_the_next(rig: Rig) -> None:
    first = await rig.count(ONE)
    others = [await rig.count(key) for key in (TWO, THREE)]
    rig.store.let_go(9)
    assert await first == [Counter(3)]
    assert await asyncio.gather(*others) == [[Counter(1)], [Counter(0)]]
    assert rig.store.asked == [(ONE,), (TWO, THREE)]


async def test_replicas_share_a_statement_and_each_is_filled(rig: Rig) -> None:
    other = MemoryReplica("b", bytes_max=10**6)
    other.reset(1, (await rig.store.feed(-1, 1)).latest)
    first = await rig.count(THREE)
    readers = [await rig.count(ONE), asyncio.create_task(rig.fills.counters(other, [ONE, TWO]))]
    await asyncio.sleep(0)
    rig.store.let_go(9)
    await asyncio.gather(first, *readers)
    assert rig.store.asked == [(THREE,), (ONE, TWO)]
    assert rig.replica.peek([ONE, TWO]) == [Counter(3), None]
    assert other.peek([ONE, TWO]) == [Counter(3), Counter(1)]


async def test_fills_of_two_replicas_are_two_fills(rig: Rig) -> None:
    other = MemoryReplica("b", bytes_max=10**6)
    other.reset(1, (await rig.store.feed(-1, 1)).latest)
    first = await rig.count(ONE)
    second = asyncio.create_task(rig.fills.counters(other, [ONE]))
    await asyncio.sleep(0)
    rig.store.let_go(2)
    assert await first == [Counter(3)]
    held = await second
    assert held is not None
    assert held.rows == [Counter(3)]


async def test_a_cancelled_reader_does_not_break_the_others(rig: Rig) -> None:
    readers = [await rig.count(ONE) for _ in range(3)]
    readers[0].cancel()
    await asyncio.sleep(0)
    rig.store.let_go(1)
    assert await asyncio.gather(*readers[1:]) == [[Counter(3)]] * 2
    assert rig.store.asked == [(ONE,)]


async def test_a_failed_fill_reaches_all_who_wait_and_the_next_reader_tries_again(rig: Rig) -> None:
    readers = [await rig.count(ONE) for _ in range(3)]
    rig.store.failures = [StoreUnavailable("gone")]
    rig.store.let_go(1)
    results = await asyncio.gather(*readers, return_exceptions=True)
    assert [type(result) for result in results] == [StoreUnavailable] * 3
    rig.store.let_go(1)
    assert await (await rig.count(ONE)) == [Counter(3)]


async def test_a_failed_fill_that_nobody_waits_for_any_more_is_forgotten(rig: Rig) -> None:
    reader = await rig.count(ONE)
    reader.cancel()
    rig.store.failures = [StoreUnavailable("gone")]
    rig.store.let_go(1)
    for _ in range(20):
        await asyncio.sleep(0)
    assert rig.store.failures == []
    rig.store.let_go(1)
    assert await (await rig.count(ONE)) == [Counter(3)]


async def test_a_fill_overtaken_by_a_rollup_is_read_again_at_one_standing(rig: Rig) -> None:
    reader = await rig.count(ONE, TWO)
    await rig.store.like(1)
    await rig.catch_up()
    rig.store.let_go(2)
    assert await reader == [Counter(4), Counter(1)]
    assert rig.store.asked == [(ONE, TWO), (TWO,)]


async def test_what_changed_after_the_standing_cannot_be_shown(rig: Rig) -> None:
    await rig.store.like(1)
    rig.store.let_go(9)
    assert await (await rig.count(ONE)) is None
    assert len(rig.store.asked) == TRIES


async def test_more_keys_than_the_replica_can_hold_cannot_be_shown() -> None:
    rig = Rig(bytes_max=2 * COUNTER_BYTES)
    await rig.store.like(1, 2)
    await rig.begin()
    rig.store.let_go(9)
    assert await (await rig.count(ONE, TWO)) is None


async def test_rows_of_another_epoch_are_not_filled_in(rig: Rig) -> None:
    """Rollup 1 of the new epoch is not rollup 1 of the old one."""
    reader = await rig.count(ONE)
    promoted = MemoryStore(Kinds())
    await promoted.commit([Batch((Add("like", 1, 1),))])
    await promoted.rollup(10)
    rig.store.epoch, rig.store._counters = 2, promoted._counters
    rig.replica.reset(2, (await promoted.feed(-1, 1)).latest)
    rig.store.let_go(9)
    assert await reader == [Counter(1)]


async def test_a_replica_that_has_not_seen_the_new_epoch_is_not_filled_from_it(rig: Rig) -> None:
    rig.store.epoch = 2
    rig.store.let_go(9)
    assert await (await rig.count(ONE)) is None
    held = await rig.fills.documents(rig.replica, ["a"])
    assert held is None


async def test_objects_are_filled_the_same_way(rig: Rig) -> None:
    await rig.store.put("a")
    await rig.store.rollup(10)
    await rig.begin()
    await rig.store.put("b")
    rig.store.let_go(9)
    readers = [rig.fills.documents(rig.replica, ["a", "b", "c"]) for _ in range(5)]
    for held in await asyncio.gather(*readers):
        assert held is not None
        a, b, c = held.rows
        assert a is not None
        assert (a.version, b) == (1, Document("b", "", 0, 0, None))
        assert c == Document("c", "", 0, 0, None)
    assert rig.store.asked == [("a", "b", "c")]
