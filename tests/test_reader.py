"""Rule R6: a level is kept or refused, never faked. And R7: every answer says how it was made."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest

from groundswell.errors import BadToken, ReplicaLate, StoreUnavailable
from groundswell.follower import Follower, Tail
from groundswell.kinds import Kinds
from groundswell.model import Add, Counter, Delete, Document, Key, Level, Put, Remove, Write
from groundswell.reader import PRIMARY, Reader, Served, Want
from groundswell.replicas.memory import COUNTER_BYTES, MemoryReplica
from groundswell.revision import Revision, SessionToken, Wrote
from groundswell.rollup import RollupWorker
from groundswell.store import Batch, Committed, Counters, Documents, Feed, Head, Rolled
from groundswell.stores.memory import MemoryStore
from groundswell.telemetry import Telemetry

pytestmark = pytest.mark.anyio

ONE: Key = ("like", 1)
TWO: Key = ("like", 2)
ROOMY = 10**6
LONG_S = 5.0  # no test waits as long
SHORT_S = 0.02
SESSION_LEVELS = [Level.READ_YOUR_WRITES, Level.MONOTONIC, Level.CAUSAL]
BELOW_LINEARIZABLE = [Level.EVENTUAL, *SESSION_LEVELS]


class SpyStore(MemoryStore):
    """A store that notes its reads, answers them when they are let go, and can be away."""

    def __init__(self) -> None:
        super().__init__(Kinds())
        self.away = False
        self.long = False  # whether the backlog counts as long
        self.held: asyncio.Semaphore | None = None
        self.reads = 0
        self.rollups = 0

    def _check_away(self) -> None:
        if self.away:
            raise StoreUnavailable("gone")

    async def rollup(self, events_max: int) -> Rolled | None:
        self._check_away()
        self.rollups += 1
        return await super().rollup(events_max)

    async def head(self) -> Head:
        self._check_away()
        return await super().head()

    async def feed(self, after: int, changes_max: int) -> Feed:
        self._check_away()
        return await super().feed(after, changes_max)

    async def counters(self, keys: Sequence[Key]) -> Counters:
        read = await super().counters(keys)
        await self._answer()
        return read

    async def current(self, keys: Sequence[Key]) -> tuple[tuple[Counter, ...], Revision] | None:
        read = await super().current(keys)
        await self._answer()
        return None if self.long else read

    async def documents(self, ids: Sequence[str]) -> Documents:
        read = await super().documents(ids)
        await self._answer()
        return read

    async def _answer(self) -> None:
        self._check_away()
        self.reads += 1
        if self.held is not None:
            await self.held.acquire()


class Rig:
    """Two replicas that move only when they are told to, and a worker that rolls up for covers."""

    def __init__(self, replicas: int = 2, bytes_max: int = ROOMY) -> None:
        self.ahead_s = 0.0
        self.store = SpyStore()
        self.telemetry = Telemetry()
        self.replicas = [MemoryReplica("ab"[i], bytes_max=bytes_max) for i in range(replicas)]
        self.worker = RollupWorker(
            self.store, self.telemetry, events_max=1000, pause_s=9.0, poll_s=9.0
        )
        self.reader = Reader(
            self.store, self.replicas, self.worker, self.telemetry, clock=self.clock
        )
        self.followers = [
            Follower(
                Tail(self.store, clock=self.clock), replica, poll_s=9.0, moved=self.reader.moved
            )
            for replica in self.replicas
        ]

    def clock(self) -> float:
        """The time, which a test may move on."""
        return time.monotonic() + self.ahead_s

    def session(self, epoch: int = 1) -> SessionToken:
        return SessionToken(store=self.store.identity, epoch=epoch)

    async def commit(self, *writes: Write) -> Committed:
        [committed] = await self.store.commit([Batch(writes)])
        return committed

    async def write(self, session: SessionToken, *writes: Write) -> SessionToken:
        committed = await self.commit(*writes)
        assert committed.xid is not None
        return session.after(Wrote(committed.xid, committed.slot, committed.effects))

    async def roll(self) -> None:
        await self.store.rollup(1000)

    async def catch_up(self, *which: int) -> None:
        """Let these replicas, or all of them, show all that is committed."""
        await self.roll()
        for index in which or range(len(self.replicas)):
            await self.followers[index].step()

    async def count(
        self, want: Want, token: SessionToken | None = None, *keys: Key
    ) -> Served[Counter]:
        return await self.reader.counters(keys or (ONE,), want, token)

    async def reading(
        self, want: Want, token: SessionToken | None = None, *keys: Key
    ) -> asyncio.Task[Served[Counter]]:
        """A read under way, as far as it goes by itself."""
        task = asyncio.create_task(self.count(want, token, *keys))
        await settle()
        return task

    def metric(self, name: str, **labels: str) -> float:
        return self.telemetry.registry.get_sample_value(f"groundswell_{name}_total", labels) or 0


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def at_work(replicas: int = 2, bytes_max: int = ROOMY) -> AsyncIterator[Rig]:
    rig = Rig(replicas, bytes_max)
    for follower in rig.followers:
        await follower.step()
    worker = asyncio.create_task(rig.worker.run())
    await settle()
    try:
        yield rig
    finally:
        worker.cancel()
        await asyncio.wait([worker], timeout=5)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with at_work() as rig:
        yield rig


def like(source: int, target: int = 1) -> Add:
    return Add("like", target, source)


def put(text: str) -> Put:
    return Put("a", "t", msgspec.Raw(msgspec.json.encode({"text": text})))


# --- who serves


async def test_replicas_take_turns(rig: Rig) -> None:
    served = [(await rig.count(Want(Level.EVENTUAL))).served_by for _ in range(6)]
    assert sorted(served) == ["a"] * 3 + ["b"] * 3


@pytest.mark.parametrize("rhythm", range(1, 7))
async def test_whatever_the_rhythm_of_a_caller_it_meets_every_replica(
    rig: Rig, rhythm: int
) -> None:
    met = set()
    for _ in range(20):
        for _ in range(rhythm):
            served = await rig.count(Want(Level.EVENTUAL))
        met.add(served.served_by)
    assert met == {"a", "b"}


async def test_eventual_takes_what_a_replica_has(rig: Rig) -> None:
    mine = await rig.write(rig.session(), like(1))
    served = await rig.count(Want(Level.EVENTUAL), mine)
    assert (served.rows, served.pending) == ([Counter(0)], {})
    assert served.served_by in "ab"


@pytest.mark.parametrize("level", Level)
async def test_without_replicas_the_primary_serves(level: Level) -> None:
    async with at_work(replicas=0) as rig:
        await rig.commit(like(1))
        served = await rig.count(Want(level))
        assert (served.rows, served.served_by, served.age_s) == ([Counter(1)], PRIMARY, 0.0)


async def test_an_answer_says_at_which_revision_and_how_old_it_is(rig: Rig) -> None:
    await rig.commit(like(1))
    await rig.catch_up()
    rig.ahead_s += 3
    served = await rig.count(Want(Level.CAUSAL), rig.session())
    assert served.revision == Revision.upto(1)
    assert 3 <= served.age_s < 60
    assert served.waited_s == 0


async def test_an_age_that_is_not_known_is_not_made_up(rig: Rig) -> None:
    rig.replicas[0].reset(1, (await rig.store.feed(-1, 1)).latest)
    ages = [(await rig.count(Want(Level.EVENTUAL))).age_s for _ in range(2)]
    assert math.inf in ages


# --- own writes on top


@pytest.mark.parametrize("level", [Level.READ_YOUR_WRITES, Level.CAUSAL])
async def test_own_writes_are_added_to_what_a_replica_shows(rig: Rig, level: Level) -> None:
    mine = await rig.write(rig.session(), like(1), like(2))
    mine = await rig.write(mine, Remove("like", 1, 2), like(1, target=2))
    served = await rig.count(Want(level), mine, ONE, TWO)
    assert served.served_by in "ab"
    assert served.rows == [Counter(0), Counter(0)]
    assert served.pending == {ONE: (1, 0), TWO: (1, 0)}


@pytest.mark.parametrize("level", [Level.READ_YOUR_WRITES, Level.CAUSAL])
async def test_own_writes_that_a_replica_shows_are_not_added_again(rig: Rig, level: Level) -> None:
    mine = await rig.write(rig.session(), like(1))
    await rig.catch_up()
    served = await rig.count(Want(level), mine)
    assert (served.rows, served.pending) == ([Counter(1)], {})


async def test_own_values_are_added_to_the_sum(rig: Rig) -> None:
    review: Key = ("review", 1)
    mine = await rig.write(rig.session(), Add("review", 1, 7, value=4))
    served = await rig.count(Want(Level.CAUSAL), mine, review)
    assert (served.served_by in "ab", served.pending[review]) == (True, (1, 4))


async def test_an_own_removal_of_what_a_replica_does_not_show_is_not_served_from_it(
    rig: Rig,
) -> None:
    await rig.commit(like(7))
    mine = await rig.write(rig.session(), Remove("like", 1, 7))
    served = await rig.count(Want(Level.CAUSAL, wait_s=SHORT_S), mine)
    assert (served.rows, served.pending, served.served_by) == ([Counter(0)], {}, PRIMARY)


async def test_an_own_value_in_place_of_one_a_replica_does_not_show_is_not_served_from_it(
    rig: Rig,
) -> None:
    await rig.commit(Add("review", 1, 7, value=3))
    mine = await rig.write(rig.session(), Add("review", 1, 7, value=5))
    served = await rig.count(Want(Level.CAUSAL, wait_s=SHORT_S), mine, ("review", 1))
    assert (served.rows, served.pending, served.served_by) == ([Counter(1, 5)], {}, PRIMARY)


async def test_an_impossible_overlay_becomes_possible_when_a_replica_has_caught_up(
    rig: Rig,
) -> None:
    await rig.commit(like(7))
    mine = await rig.write(rig.session(), Remove("like", 1, 7))
    reading = await rig.reading(Want(Level.CAUSAL, wait_s=LONG_S), mine)
    assert not reading.done()
    await rig.catch_up(0)
    served = await reading
    assert (served.rows, served.pending, served.served_by) == ([Counter(0)], {}, "a")


async def test_own_writes_of_unknown_effect_are_waited_for(rig: Rig) -> None:
    mine = rig.session().after(Wrote((await rig.commit(like(1))).xid or 0, 0, None))
    reading = await rig.reading(Want(Level.CAUSAL, wait_s=LONG_S), mine)
    assert not reading.done()
    await rig.catch_up(1)
    assert ((await reading).rows, (await reading).served_by) == ([Counter(1)], "b")


# --- waiting


@pytest.mark.parametrize("level", [Level.MONOTONIC, Level.CAUSAL])
async def test_a_read_waits_for_a_replica_and_is_woken(rig: Rig, level: Level) -> None:
    await rig.commit(like(1))
    token = rig.session().saw(Revision.upto(1))
    reading = await rig.reading(Want(level, wait_s=LONG_S), token)
    assert not reading.done()
    await rig.catch_up(1)
    served = await asyncio.wait_for(reading, 1)
    assert (served.served_by, served.rows) == ("b", [Counter(1)])
    assert 0 < served.waited_s < LONG_S
    assert rig.metric("read_waits", level=level) == 1
    assert rig.metric("reads", level=level, served_by="b") == 1


async def test_a_read_that_waits_is_not_content_with_any_move(rig: Rig) -> None:
    await rig.commit(like(1))
    await rig.roll()
    await rig.commit(like(2))
    token = rig.session().saw(Revision.upto(2))
    reading = await rig.reading(Want(Level.MONOTONIC, wait_s=LONG_S), token)
    await rig.followers[0].step()
    await settle()
    assert not reading.done()
    await rig.catch_up(0)
    assert (await asyncio.wait_for(reading, 1)).rows == [Counter(2)]


@pytest.mark.parametrize("level", [Level.MONOTONIC, Level.CAUSAL])
async def test_when_no_replica_is_in_time_the_primary_serves(rig: Rig, level: Level) -> None:
    await rig.commit(like(1))
    token = rig.session().saw(Revision.upto(1))
    served = await rig.count(Want(level, wait_s=SHORT_S), token)
    assert (served.served_by, served.rows) == (PRIMARY, [Counter(1)])
    assert served.revision.includes(token.read)
    assert rig.metric("read_fallbacks", level=level) == 1


@pytest.mark.parametrize("wait_s", [0.0, SHORT_S])
async def test_or_the_read_is_refused(rig: Rig, wait_s: float) -> None:
    await rig.commit(like(1))
    token = rig.session().saw(Revision.upto(1))
    with pytest.raises(ReplicaLate, match=f"at monotonic within {wait_s * 1000:.0f} ms"):
        await rig.count(Want(Level.MONOTONIC, wait_s=wait_s, primary=False), token)
    assert rig.metric("reads_late", level="monotonic") == 1


async def test_rows_that_no_replica_can_show_come_from_the_primary(rig: Rig) -> None:
    await rig.commit(like(1))
    await rig.catch_up()
    await rig.commit(like(2))
    await rig.roll()
    for replica in rig.replicas:
        replica._counters.clear()
    served = await rig.count(Want(Level.CAUSAL, wait_s=SHORT_S), rig.session())
    assert (served.served_by, served.rows) == (PRIMARY, [Counter(2)])
    with pytest.raises(ReplicaLate):
        await rig.count(Want(Level.CAUSAL, wait_s=0, primary=False), rig.session())


# --- tokens that cannot be met


@pytest.mark.parametrize("level", [Level.MONOTONIC, Level.CAUSAL, Level.LINEARIZABLE])
@pytest.mark.parametrize("primary", [True, False])
async def test_a_forged_token_fails_at_once(rig: Rig, level: Level, primary: bool) -> None:
    forged = rig.session().saw(Revision.upto(10**9))
    with pytest.raises(BadToken, match="never seen"):
        await asyncio.wait_for(
            rig.count(Want(level, wait_s=LONG_S, primary=primary), forged), LONG_S / 5
        )


@pytest.mark.parametrize("write", [Wrote(10**9, 0, None), Wrote(1, 0, None)])
async def test_a_forged_write_fails_at_once(rig: Rig, write: Wrote) -> None:
    with pytest.raises(BadToken):
        await rig.count(Want(Level.READ_YOUR_WRITES, wait_s=LONG_S), rig.session().after(write))


@pytest.mark.parametrize("level", SESSION_LEVELS)
@pytest.mark.parametrize("epoch", [0, 2])
async def test_a_token_of_another_epoch_goes_to_the_primary_at_once(
    rig: Rig, level: Level, epoch: int
) -> None:
    token = rig.session(epoch).saw(Revision.upto(10**9))
    served = await asyncio.wait_for(rig.count(Want(level, wait_s=LONG_S), token), LONG_S / 5)
    assert served.served_by == PRIMARY
    with pytest.raises(ReplicaLate):
        await rig.count(Want(level, wait_s=LONG_S, primary=False), token)


async def test_a_replica_rebuilt_in_another_epoch_while_it_is_filled_does_not_serve(
    rig: Rig,
) -> None:
    """What was decided for the state before says nothing about the one after."""
    for source in range(3):
        await rig.commit(like(source))
    await rig.catch_up()
    for replica in rig.replicas:
        replica._counters.clear()
    token = rig.session().saw(Revision.upto(3))
    rig.store.held = asyncio.Semaphore(0)
    reading = await rig.reading(Want(Level.MONOTONIC, wait_s=LONG_S), token)
    rig.store.epoch = 2
    for follower in rig.followers:
        await follower.step()
    for replica in rig.replicas:  # as if the new primary had lost the last likes
        replica.standing = msgspec.structs.replace(replica.standing, revision=Revision.upto(1))
    for _ in range(9):
        rig.store.held.release()
    assert (await asyncio.wait_for(reading, 1)).served_by == PRIMARY


# --- bounded staleness


@pytest.mark.parametrize("level", BELOW_LINEARIZABLE)
async def test_a_replica_older_than_max_age_does_not_serve(rig: Rig, level: Level) -> None:
    rig.ahead_s += 10
    young = await rig.count(Want(level, max_age_s=20), rig.session())
    assert young.served_by in "ab"
    old = await rig.count(Want(level, max_age_s=5, wait_s=SHORT_S), rig.session())
    assert old.served_by == PRIMARY
    with pytest.raises(ReplicaLate):
        await rig.count(Want(level, max_age_s=5, wait_s=0, primary=False), rig.session())


async def test_a_read_is_woken_when_a_replica_is_known_to_be_fresh_again(rig: Rig) -> None:
    """No rollup is needed for that: nothing may have been written."""
    rig.ahead_s += 10
    want = Want(Level.CAUSAL, max_age_s=5, wait_s=LONG_S, primary=False)
    reading = await rig.reading(want, rig.session())
    assert not reading.done()
    await rig.followers[1].step()
    served = await asyncio.wait_for(reading, 1)
    assert served.served_by == "b"
    assert served.age_s < 5


async def test_a_replica_that_grows_too_old_while_it_is_filled_does_not_serve(rig: Rig) -> None:
    rig.store.held = asyncio.Semaphore(0)
    reading = await rig.reading(Want(Level.EVENTUAL, max_age_s=5, wait_s=0))
    rig.ahead_s += 10
    for _ in range(9):
        rig.store.held.release()
    assert (await asyncio.wait_for(reading, 1)).served_by == PRIMARY


# --- the store is away


async def test_eventual_goes_on_while_the_store_is_away(rig: Rig) -> None:
    await rig.commit(like(1))
    await rig.catch_up()
    rig.store.away = True
    for _ in range(4):
        served = await rig.count(Want(Level.EVENTUAL))
        assert (served.rows, served.served_by in "ab") == ([Counter(1)], True)


@pytest.mark.parametrize("level", SESSION_LEVELS)
async def test_so_does_every_level_that_a_replica_can_meet(rig: Rig, level: Level) -> None:
    mine = await rig.write(rig.session(), like(1))
    await rig.catch_up()
    rig.store.away = True
    served = await rig.count(Want(level), mine.saw(Revision.upto(1)))
    assert served.rows == [Counter(1)]


@pytest.mark.parametrize("level", [*SESSION_LEVELS, Level.LINEARIZABLE])
async def test_what_only_the_store_can_meet_is_refused(rig: Rig, level: Level) -> None:
    await rig.commit(like(1))
    token = rig.session().found(Revision.upto(1))
    rig.store.away = True
    with pytest.raises(StoreUnavailable):
        await rig.count(Want(level, wait_s=SHORT_S), token)


async def test_what_a_replica_does_not_hold_is_refused_too(rig: Rig) -> None:
    rig.store.away = True
    with pytest.raises(StoreUnavailable):
        await rig.count(Want(Level.EVENTUAL))


# --- linearizable


async def test_a_linearizable_read_shows_everything_committed_before(rig: Rig) -> None:
    for source in range(5):
        await rig.commit(like(source))
        served = await rig.count(Want(Level.LINEARIZABLE, primary=False))
        assert (served.rows, served.served_by) == ([Counter(source + 1)], PRIMARY)


@pytest.mark.parametrize("long", [False, True])
async def test_linearizable_reads_at_the_same_time_ask_the_store_together(
    rig: Rig, long: bool
) -> None:
    """Also where the backlog is so long that a rollup comes first, which they share too."""
    rig.store.long = long
    await rig.commit(like(1), like(1, 2), like(2, 2))
    keys = [[ONE], [TWO], [TWO, ONE, TWO]] * 20
    reads = [asyncio.create_task(rig.count(Want(Level.LINEARIZABLE), None, *k)) for k in keys]
    counts = {ONE: Counter(1), TWO: Counter(2)}
    assert [served.rows for served in await asyncio.gather(*reads)] == [
        [counts[key] for key in asked] for asked in keys
    ]
    assert rig.store.reads <= (4 if long else 2)
    assert rig.store.rollups <= 2
    assert long == bool(rig.store.rollups)


async def test_linearizable_reads_of_objects_ask_the_store_together(rig: Rig) -> None:
    await rig.commit(Put("a", "t", msgspec.Raw(b"1")), Put("b", "t", msgspec.Raw(b"2")))
    want = Want(Level.LINEARIZABLE)
    ids = [["a"], ["b"], ["b", "none", "a"]] * 20
    reads = [rig.reader.documents(asked, want, None) for asked in ids]
    data = {"a": b"1", "b": b"2", "none": None}
    for asked, served in zip(ids, await asyncio.gather(*reads), strict=True):
        found = [(row.id, None if row.data is None else bytes(row.data)) for row in served.rows]
        assert found == [(id_, data[id_]) for id_ in asked]
    assert rig.store.reads <= 2


async def test_a_linearizable_read_is_asked_for_after_it_began(rig: Rig) -> None:
    """It never gets the answer to a question that was on its way already."""
    rig.store.held = asyncio.Semaphore(0)
    first = await rig.reading(Want(Level.LINEARIZABLE))
    await rig.commit(like(1))
    second = await rig.reading(Want(Level.LINEARIZABLE))
    rig.store.held.release()
    rig.store.held.release()
    assert (await first).rows == [Counter(0)]
    assert (await second).rows == [Counter(1)]


async def test_a_cancelled_linearizable_read_leaves_the_others_theirs(rig: Rig) -> None:
    rig.store.held = asyncio.Semaphore(0)
    reads = [await rig.reading(Want(Level.LINEARIZABLE)) for _ in range(4)]
    reads[0].cancel()
    reads[2].cancel()
    await settle()
    rig.store.held.release()
    rig.store.held.release()
    for reading in (reads[1], reads[3]):
        assert (await asyncio.wait_for(reading, 1)).rows == [Counter(0)]


async def test_reads_go_on_after_one_that_failed(rig: Rig) -> None:
    rig.store.away = True
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await rig.count(Want(Level.LINEARIZABLE))
    rig.store.away = False
    assert (await rig.count(Want(Level.LINEARIZABLE))).rows == [Counter(0)]


# --- many at once


async def test_many_readers_of_what_is_missing_ask_the_store_once(rig: Rig) -> None:
    rig.store.held = asyncio.Semaphore(0)
    reads = [await rig.reading(Want(Level.EVENTUAL)) for _ in range(40)]
    for _ in range(9):
        rig.store.held.release()
    assert {served.served_by for served in await asyncio.gather(*reads)} == {"a", "b"}
    assert rig.store.reads == 2, "once for each replica"


async def test_a_cancelled_reader_does_not_break_others_that_wait(rig: Rig) -> None:
    await rig.commit(like(1))
    token = rig.session().saw(Revision.upto(1))
    reads = [await rig.reading(Want(Level.CAUSAL, wait_s=LONG_S), token) for _ in range(4)]
    reads[0].cancel()
    reads[2].cancel()
    await rig.catch_up()
    for reading in (reads[1], reads[3]):
        assert (await asyncio.wait_for(reading, 1)).rows == [Counter(1)]


async def test_a_cancelled_reader_does_not_break_the_fill_of_others(rig: Rig) -> None:
    rig.store.held = asyncio.Semaphore(0)
    reads = [await rig.reading(Want(Level.EVENTUAL)) for _ in range(6)]
    reads[0].cancel()
    reads[1].cancel()
    await settle()
    rig.store.held.release()
    rig.store.held.release()
    for reading in reads[2:]:
        assert (await asyncio.wait_for(reading, 1)).rows == [Counter(0)]
    assert rig.store.reads == 2


async def test_keys_read_together_are_of_one_state(seed: int) -> None:
    """Every commit likes all targets, so that in no state do their counts differ."""
    draw = random.Random(seed)
    keys: list[Key] = [("like", target) for target in range(4)]
    async with at_work(bytes_max=2 * 3 * COUNTER_BYTES) as rig:
        rig.store.held = asyncio.Semaphore(0)
        reads: list[asyncio.Task[Served[Counter]]] = []
        for source in range(150):
            await rig.commit(*(like(source, target) for target in range(4)))
            if draw.random() < 0.5:
                await rig.roll()
            await rig.followers[draw.randrange(2)].step()
            want = Want(draw.choice(BELOW_LINEARIZABLE), wait_s=0)
            reads.append(await rig.reading(want, None, *draw.sample(keys, draw.choice([2, 4]))))
            for _ in range(draw.randrange(3)):
                rig.store.held.release()
        for _ in range(1000):
            rig.store.held.release()
        for served in await asyncio.gather(*reads):
            assert {row.count for row in served.rows} == {served.revision.xmax - 1}


# --- objects


async def test_an_own_object_is_waited_for_since_it_cannot_be_added(rig: Rig) -> None:
    mine = await rig.write(rig.session(), put("hello"))
    want = Want(Level.READ_YOUR_WRITES, wait_s=LONG_S)
    reading = asyncio.create_task(rig.reader.documents(("a",), want, mine))
    await settle()
    assert not reading.done()
    await rig.catch_up(0)
    served = await asyncio.wait_for(reading, 1)
    assert served.served_by == "a"
    assert served.rows[0] is not None
    assert bytes(served.rows[0].data or b"") == b'{"text":"hello"}'


async def test_objects_come_from_the_primary_when_no_replica_is_in_time(rig: Rig) -> None:
    mine = await rig.write(rig.session(), put("hello"))
    served = await rig.reader.documents(("a", "b"), Want(Level.CAUSAL, wait_s=SHORT_S), mine)
    assert served.served_by == PRIMARY
    assert [row.version for row in served.rows] == [1, 0]  # 0: there is none


async def test_objects_show_the_state_of_the_replica(rig: Rig) -> None:
    await rig.commit(put("old"))
    await rig.catch_up()
    await rig.commit(put("new"))
    await rig.commit(Delete("a"))
    served = await rig.reader.documents(("a", "b"), Want(Level.EVENTUAL), None)
    old, absent = served.rows
    assert old is not None
    assert (old.version, absent) == (1, Document("b", "", 0, 0, None))
    await rig.catch_up()
    for _ in rig.replicas:
        served = await rig.reader.documents(("a",), Want(Level.CAUSAL), rig.session())
        assert served.rows[0] is not None
        assert served.rows[0].data is None


async def test_an_object_that_no_replica_can_show_comes_from_the_primary(rig: Rig) -> None:
    await rig.commit(put("one"))
    await rig.catch_up()
    await rig.commit(put("two"))
    for replica in rig.replicas:
        replica._documents.clear()
    served = await rig.reader.documents(("a",), Want(Level.EVENTUAL, wait_s=0), None)
    assert served.served_by == PRIMARY


# --- all of it, at random


async def test_every_answer_is_exact_and_meets_its_level(seed: int) -> None:
    draw = random.Random(seed)
    async with at_work() as rig:
        history: list[dict[Key, int]] = [{}]  # the counts after each transaction
        sessions = [rig.session() for _ in range(3)]
        for _ in range(600):
            who = draw.randrange(3)
            session = sessions[who]
            action = draw.choice(["write", "write", "roll", "step", "step", "read", "read", "read"])
            if action == "write":
                target, source = draw.randrange(1, 3), draw.randrange(3) + 10 * who
                write = draw.choice([Add, Add, Remove])("like", target, source)
                committed = await rig.commit(write)
                if committed.xid is None:
                    sessions[who] = session.found(committed.seen)
                else:
                    counts = dict(history[-1])
                    for effect in committed.effects:
                        key = (effect.kind, effect.target)
                        counts[key] = counts.get(key, 0) + effect.count
                    history.append(counts)
                    sessions[who] = session.after(Wrote(committed.xid, 0, committed.effects))
            elif action == "roll":
                await rig.store.rollup(draw.randrange(1, 4))
            elif action == "step":
                await rig.followers[draw.randrange(2)].step()
            else:
                level = draw.choice([*Level])
                served = await rig.count(Want(level, wait_s=0), session, ONE, TWO)
                state = history[served.revision.xmax - 1]
                assert [row.count for row in served.rows] == [state.get(k, 0) for k in (ONE, TWO)]
                if level in (Level.MONOTONIC, Level.CAUSAL):
                    assert served.revision.includes(session.read)
                if level in (Level.READ_YOUR_WRITES, Level.CAUSAL):
                    assert session.overlays(served.revision)
                    assert served.pending == session.pending(served.revision)
                if level is Level.LINEARIZABLE:
                    assert served.revision.sees(len(history) - 1)
                if level is not Level.EVENTUAL:
                    sessions[who] = session.saw(served.revision)
        primary = sum(rig.metric("reads", level=level, served_by=PRIMARY) for level in Level)
        replicas = sum(rig.metric("reads", level=lv, served_by=n) for lv in Level for n in "ab")
        assert primary > 0
        assert replicas > 0
