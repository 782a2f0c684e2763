"""Pages: everything of one state, whoever serves; and what a replica may hold of them (rule R4)."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, TypeVar

import msgspec
import pytest

from groundswell.errors import ReplicaLate, StoreUnavailable
from groundswell.kinds import Kinds
from groundswell.model import Add, Counter, Key, Level, Newest, Remove, Tally, Write
from groundswell.pages import NEWEST_READ, TRIES
from groundswell.reader import PRIMARY, Reader, Served, Want
from groundswell.replicas.memory import COUNTER_BYTES, FLAG_BYTES, LISTED_BYTES, MemoryReplica
from groundswell.revision import Revision, SessionToken, Wrote
from groundswell.rollup import RollupWorker
from groundswell.store import (
    Batch,
    Committed,
    CountChange,
    CounterRow,
    Counters,
    Documents,
    Item,
    ItemRow,
    Items,
    Rollup,
    Sight,
)
from groundswell.stores.memory import MemoryStore
from groundswell.telemetry import Telemetry

pytestmark = pytest.mark.anyio

T = TypeVar("T")

ROOMY = 10**6
ONE: Key = ("like", 1)
TWO: Key = ("like", 2)
VIEWS: Key = ("view", 1)
MINE = Sight(ONE, 7, 2)
AT_ONCE = Want(Level.EVENTUAL, wait_s=0.0)


def now(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that has nothing to wait for."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise AssertionError("it waits")


# --- what a replica takes over, holds and drops


def replica_at(rollup: int, *, bytes_max: int = ROOMY) -> MemoryReplica:
    replica = MemoryReplica("a", bytes_max=bytes_max)
    replica.reset(1, Rollup(rollup, Revision.upto(10 * rollup)))
    return replica


def newest(*sources: int) -> tuple[Newest, ...]:
    return tuple(Newest(source, 100 - place) for place, source in enumerate(sources))


def read_at(rollup: int, *rows: ItemRow) -> Items:
    return Items(rows, 1, rollup, Revision.upto(10 * rollup + 5))


def row(
    *sources: int,
    born: int = 1,
    changed: int = 1,
    waiting: bool = False,
    viewer: bool | None = True,
) -> ItemRow:
    counter = Counter(len(sources))
    return ItemRow(
        Item(counter, newest(*sources), viewer), CounterRow(counter, born, changed), waiting
    )


def held(replica: MemoryReplica, sight: Sight = MINE) -> Item | None:
    return now(replica.items([sight])).rows[0]


def test_a_replica_shows_what_it_was_filled_with() -> None:
    replica = replica_at(5)
    assert held(replica) is None
    now(replica.fill_items([MINE], read_at(5, row(9, 8))))
    assert held(replica) == Item(Counter(2), newest(9, 8), True)


@pytest.mark.parametrize("rollup", [5, 6, 9])
def test_edges_that_did_not_change_since_are_taken_over(rollup: int) -> None:
    replica = replica_at(5)
    now(replica.fill_items([MINE], read_at(rollup, row(9, 8, changed=5))))
    assert held(replica) == Item(Counter(2), newest(9, 8), True)


@pytest.mark.parametrize(
    ("rollup", "found"),
    [
        (4, row(9, 8)),  # the replica has moved past what was read
        (5, row(9, 8, waiting=True)),  # newer than any rollup
        (6, row(9, 8, changed=6)),  # newer than where the replica stands
        (6, row(9, 8, changed=6, waiting=True)),
    ],
    ids=["older", "waiting", "newer", "both"],
)
def test_edges_of_another_state_are_not_taken_over(rollup: int, found: ItemRow) -> None:
    replica = replica_at(5)
    replica.apply(Rollup(6, Revision.upto(60), (CountChange(*ONE, 2, 0),)))  # it knows the count
    replica.standing = replica_at(5).standing
    now(replica.fill_items([MINE], read_at(rollup, found)))
    assert held(replica) is None
    assert held(replica, Sight(ONE, None, 2)) is None


def test_a_count_is_taken_over_though_its_edges_are_not() -> None:
    replica = replica_at(5)
    now(replica.fill_items([MINE], read_at(5, row(9, 8, waiting=True))))
    assert now(replica.counters([ONE])).rows == [Counter(2)]
    assert held(replica, Sight(ONE)) == Item(Counter(2))


def test_what_did_not_exist_yet_is_empty() -> None:
    replica = replica_at(5)
    now(replica.fill_items([MINE], read_at(7, row(9, 8, born=6, changed=7, waiting=True))))
    assert held(replica) == Item(Counter(0), (), False)


@pytest.mark.parametrize("count", [2, 3])
def test_a_change_drops_the_edges_though_the_count_may_be_the_same(count: int) -> None:
    replica = replica_at(5)
    now(replica.fill_items([MINE], read_at(5, row(9, 8))))
    now(replica.fill_items([Sight(TWO, 7, 2)], read_at(5, row(6, viewer=False))))
    replica.apply(Rollup(6, Revision.upto(60), (CountChange(*ONE, count, 0),)))
    assert held(replica) is None
    assert held(replica, Sight(TWO, 7, 2)) == Item(Counter(1), newest(6), False)
    assert now(replica.counters([ONE])).rows == [Counter(count)]


def test_the_flags_of_all_viewers_go_with_a_change() -> None:
    """Also where the list comes back without them."""
    replica = replica_at(5)
    for viewer in (7, 8):
        now(replica.fill_items([Sight(ONE, viewer, 2)], read_at(5, row(9, 8))))
    replica.apply(Rollup(6, Revision.upto(60), (CountChange(*ONE, 2, 0),)))
    now(replica.fill_items([Sight(ONE, 7, 2)], read_at(6, row(9, 6, changed=6))))
    assert held(replica, Sight(ONE, 7, 2)) == Item(Counter(2), newest(9, 6), True)
    assert held(replica, Sight(ONE, None, 2)) == Item(Counter(2), newest(9, 6))
    assert held(replica, Sight(ONE, 8, 2)) is None


def test_a_reset_forgets_everything() -> None:
    replica = replica_at(5)
    now(replica.fill_items([MINE], read_at(5, row(9, 8))))
    replica.reset(1, Rollup(6, Revision.upto(60)))
    assert held(replica) is None
    assert held(replica, Sight(ONE)) is None


def test_a_list_serves_whoever_wants_no_more_than_it_holds() -> None:
    replica = replica_at(5)
    now(replica.fill_items([Sight(ONE, None, 3)], read_at(5, row(9, 8, 7, viewer=None))))
    for wanted in (1, 2, 3):
        found = held(replica, Sight(ONE, None, wanted))
        assert found == Item(Counter(3), newest(9, 8, 7)[:wanted])
    assert held(replica, Sight(ONE, None, 4)) is None
    now(replica.fill_items([Sight(ONE, None, 9)], read_at(5, row(9, 8, 7, 6, viewer=None))))
    for wanted in (4, 9, 50):  # there are no more
        found = held(replica, Sight(ONE, None, wanted))
        assert found is not None
        assert found.newest == newest(9, 8, 7, 6)


def test_a_viewer_that_was_not_asked_for_is_not_known() -> None:
    replica = replica_at(5)
    now(replica.fill_items([MINE], read_at(5, row(9, 8))))
    assert held(replica, Sight(ONE, 8, 2)) is None
    assert held(replica, Sight(ONE, 7)) == Item(Counter(2), (), True)


def test_a_tally_needs_its_count_alone() -> None:
    replica = replica_at(5)
    replica.apply(Rollup(6, Revision.upto(60), (CountChange(*VIEWS, 4, 0),)))
    assert held(replica, Sight(VIEWS)) == Item(Counter(4))


def test_lists_and_flags_stay_within_their_bytes() -> None:
    replica = replica_at(5, bytes_max=8 * 10 * (LISTED_BYTES + 200))
    data = msgspec.Raw(b'"' + b"x" * 1000 + b'"')
    for target in range(500):
        edges = (Newest(1, 5, None, data),)
        found = ItemRow(Item(Counter(1), edges, True), CounterRow(Counter(1), 1, 1), False)
        now(replica.fill_items([Sight(("like", target), 7, 1)], read_at(5, found)))
    listed = sum(
        held(replica, Sight(("like", target), None, 1)) is not None for target in range(500)
    )
    assert 1 <= listed <= 4
    for viewer in range(1000):
        now(replica.fill_items([Sight(ONE, viewer, 2)], read_at(5, row(9, 8))))
    flags = sum(held(replica, Sight(ONE, viewer, 2)) is not None for viewer in range(1000))
    assert 1 <= flags <= 10 * (LISTED_BYTES + 200) // FLAG_BYTES


# --- the reader


class PageStore(MemoryStore):
    """A store that counts its reads, remembers every state, and answers pages when they are let go."""

    def __init__(self) -> None:
        self.ms = itertools.count()
        super().__init__(Kinds(), now_ms=lambda: next(self.ms))
        self.reads = 0
        self.asked: list[list[Sight]] = []
        self.long = 0  # so many times the backlog counts as long
        self.held: asyncio.Semaphore | None = None

    async def counters(self, keys: Sequence[Key]) -> Counters:
        self.reads += 1
        return await super().counters(keys)

    async def documents(self, ids: Sequence[str]) -> Documents:
        self.reads += 1
        return await super().documents(ids)

    async def items(self, sights: Sequence[Sight]) -> Items | None:
        read = await super().items(sights)
        self.reads += 1
        self.asked.append(list(sights))
        if self.held is not None:
            await self.held.acquire()
        if self.long:
            self.long -= 1
            return None
        return read


class Rig:
    """Replicas that move only when they are told to."""

    def __init__(self, replicas: int = 1, bytes_max: int = ROOMY) -> None:
        self.store = PageStore()
        self.telemetry = Telemetry()
        self.replicas = [MemoryReplica("abc"[i], bytes_max=bytes_max) for i in range(replicas)]
        self.worker = RollupWorker(
            self.store, self.telemetry, events_max=1000, pause_s=9.0, poll_s=9.0
        )
        self.reader = Reader(self.store, self.replicas, self.worker, self.telemetry)
        self.mine = SessionToken(store=self.store.identity, epoch=1)

    async def begin(self) -> None:
        latest = (await self.store.feed(-1, 1)).latest
        for replica in self.replicas:
            replica.reset(1, latest)

    async def commit(self, *writes: Write) -> Committed:
        [committed] = await self.store.commit([Batch(writes)])
        return committed

    async def write(self, *writes: Write) -> None:
        committed = await self.commit(*writes)
        if committed.xid is not None:
            wrote = Wrote(committed.xid, committed.slot, committed.effects)
            self.mine = self.mine.after(wrote)

    async def catch_up(self, *which: int) -> None:
        await self.store.rollup(1000)
        for index in which or range(len(self.replicas)):
            replica = self.replicas[index]
            for rollup in (await self.store.feed(replica.standing.rollup, 10**6)).rollups:
                replica.apply(rollup)
        self.reader.moved()

    async def page(
        self, *sights: Sight, want: Want = AT_ONCE, token: SessionToken | None = None
    ) -> Served[Item]:
        return await self.reader.items(sights or [MINE], want, token)

    def metric(self, name: str, **labels: str) -> float:
        return self.telemetry.registry.get_sample_value(f"groundswell_{name}_total", labels) or 0


@contextlib.asynccontextmanager
async def at_work(replicas: int = 1, bytes_max: int = ROOMY) -> AsyncIterator[Rig]:
    rig = Rig(replicas, bytes_max)
    await rig.begin()
    worker = asyncio.create_task(rig.worker.run())
    try:
        yield rig
    finally:
        worker.cancel()
        await asyncio.wait([worker], timeout=5)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with at_work() as rig:
        await rig.commit(*[Add("like", target, 7) for target in range(50)])
        await rig.catch_up()
        yield rig


SIGHTS = [Sight(("like", target), 7, 3) for target in range(50)]


async def test_a_cold_page_costs_one_statement_and_a_hot_one_none(rig: Rig) -> None:
    cold = await rig.page(*SIGHTS, Sight(VIEWS))
    assert (cold.served_by, rig.store.reads) == (PRIMARY, 1)
    hot = await rig.page(*SIGHTS, Sight(VIEWS))
    assert (hot.served_by, rig.store.reads) == ("a", 1)
    assert hot.rows == cold.rows
    assert [item.viewer for item in hot.rows] == [True] * 50 + [None]
    assert rig.metric("reads", level="eventual", served_by="a") == 1
    assert rig.metric("reads", level="eventual", served_by="primary") == 1


async def test_one_missing_item_costs_one_statement(rig: Rig) -> None:
    await rig.page(*SIGHTS)
    await rig.commit(Add("like", 3, 8))
    await rig.catch_up()
    served = await rig.page(*SIGHTS)
    assert (served.served_by, rig.store.reads) == (PRIMARY, 2)
    assert [edge.source for edge in served.rows[3].newest] == [8, 7]
    assert (await rig.page(*SIGHTS)).served_by == "a"
    assert rig.store.reads == 2


async def test_a_few_more_edges_miss_nothing(rig: Rig) -> None:
    await rig.commit(*[Add("like", 1, source) for source in range(100, 160)])
    await rig.catch_up()
    await rig.page(Sight(ONE, None, 1))
    for wanted in range(1, NEWEST_READ + 1):
        assert len((await rig.page(Sight(ONE, None, wanted))).rows[0].newest) == wanted
    assert rig.store.reads == 1
    assert len((await rig.page(Sight(ONE, None, NEWEST_READ + 1))).rows[0].newest) == 11
    assert len((await rig.page(Sight(ONE, None, 50))).rows[0].newest) == 50
    assert rig.store.reads == 2


async def test_the_primary_shows_what_waits_and_fills_nothing_with_it(rig: Rig) -> None:
    await rig.commit(Add("like", 1, 8), Remove("like", 1, 7))
    for _ in range(2):
        served = await rig.page()
        assert served.served_by == PRIMARY
        assert served.rows[0].counter == Counter(1)
        assert served.rows[0].viewer is False
        assert [edge.source for edge in served.rows[0].newest] == [8]
    await rig.catch_up()
    assert [(await rig.page()).served_by for _ in range(2)] == [PRIMARY, "a"]


async def test_a_page_waits_for_a_replica_that_has_the_own_writes(rig: Rig) -> None:
    """A count could be added up, a list cannot."""
    await rig.page()
    await rig.write(Add("like", 2, 7, data=msgspec.Raw(b"{}")))
    want = Want(Level.CAUSAL, wait_s=5.0)
    reading = asyncio.create_task(rig.page(want=want, token=rig.mine))
    await asyncio.sleep(0.01)
    assert not reading.done()
    await rig.catch_up()
    served = await reading
    assert (served.served_by, served.pending) == ("a", {})
    assert served.waited_s > 0


async def test_a_page_with_own_writes_goes_to_the_primary_when_no_replica_comes(rig: Rig) -> None:
    await rig.page()
    await rig.write(Add("like", 1, 8))
    for level in (Level.CAUSAL, Level.READ_YOUR_WRITES):
        served = await rig.page(want=Want(level, wait_s=0.01), token=rig.mine)
        assert (served.served_by, served.rows[0].counter) == (PRIMARY, Counter(2))
        assert rig.mine.sees_writes(served.revision)
    assert (await rig.page(want=Want(Level.EVENTUAL), token=rig.mine)).served_by == "a"


async def test_a_linearizable_page_is_of_the_primary(rig: Rig) -> None:
    await rig.page()
    done = await rig.commit(Add("like", 1, 8))
    served = await rig.page(want=Want(Level.LINEARIZABLE))
    assert (served.served_by, rig.store.reads) == (PRIMARY, 2)
    assert served.revision.includes(done.seen)
    assert served.rows[0].counter == Counter(2)


async def test_without_fallback_a_replica_is_filled_and_serves(rig: Rig) -> None:
    served = await rig.page(want=Want(Level.CAUSAL, wait_s=0.0, primary=False))
    assert (served.served_by, rig.store.reads) == ("a", 1)


async def test_without_fallback_what_no_replica_may_hold_is_late(rig: Rig) -> None:
    await rig.commit(Add("like", 1, 8))
    with pytest.raises(ReplicaLate):
        await rig.page(want=Want(Level.EVENTUAL, wait_s=0.01, primary=False))
    reading = asyncio.create_task(rig.page(want=Want(Level.EVENTUAL, wait_s=5.0, primary=False)))
    await asyncio.sleep(0.01)
    await rig.catch_up()
    assert (await reading).served_by == "a"


async def test_every_replica_is_filled_by_one_read() -> None:
    async with at_work(replicas=3) as rig:
        await rig.commit(Add("like", 1, 7))
        await rig.catch_up()
        await rig.page()
        assert {(await rig.page()).served_by for _ in range(3)} == {"a", "b", "c"}
        assert rig.store.reads == 1


async def test_a_replica_in_another_epoch_is_not_filled(rig: Rig) -> None:
    rig.replicas[0].reset(2, Rollup(1, Revision.upto(1)))
    await rig.page()
    assert held(rig.replicas[0]) is None


async def test_pages_that_come_together_share_a_statement(rig: Rig) -> None:
    rig.store.held = asyncio.Semaphore(0)
    reads = [asyncio.create_task(rig.page(*SIGHTS))]
    await asyncio.sleep(0.01)
    for viewer in (1, 7, 7, 8):
        reads.append(asyncio.create_task(rig.page(Sight(ONE, viewer, 1), Sight(TWO, viewer, 4))))
    await asyncio.sleep(0.01)
    for _ in range(2):
        rig.store.held.release()
    served = await asyncio.gather(*reads)
    assert rig.store.reads == 2
    assert len(rig.store.asked[1]) == 6  # the same is asked for once
    assert [one.rows[0].viewer for one in served[1:]] == [False, True, True, False]
    assert [len(one.rows[0].newest) for one in served[1:]] == [1, 1, 1, 1]


async def test_a_cancelled_page_leaves_the_others_theirs(rig: Rig) -> None:
    rig.store.held = asyncio.Semaphore(0)
    reads = [asyncio.create_task(rig.page()) for _ in range(4)]
    await asyncio.sleep(0.01)
    reads[0].cancel()
    reads[2].cancel()
    rig.store.held.release()
    rig.store.held.release()
    assert [(await read).served_by for read in (reads[1], reads[3])] == [PRIMARY] * 2


async def test_where_too_much_waits_it_is_rolled_up_first(rig: Rig) -> None:
    await rig.commit(Add("like", 1, 8))
    rig.store.long = 2
    served = await rig.page()
    assert served.rows[0].counter == Counter(2)
    assert rig.store.reads == 3
    rig.store.long = TRIES
    with pytest.raises(StoreUnavailable, match="keeps up"):
        await rig.page(Sight(ONE, 99, 1))


# --- all of it, at random: at every answer the items are the truth at its revision

KEYS: list[Key] = [("like", 1), ("like", 2), ("review", 1), ("follow", 5), VIEWS]
VIEWERS = [1, 2, 3, 4]


class Story:
    """Random writes, rollups, late replicas, evictions, resets and slow reads; every state is kept."""

    def __init__(self, draw: random.Random, bytes_max: int) -> None:
        self.draw = draw
        self.rig = Rig(3, bytes_max)
        self.states: dict[int, dict[Sight, Item]] = {}
        self.by_replicas = 0
        self.by_primary = 0

    async def remember(self) -> None:
        """What is committed now, by the number of the last transaction."""
        sights = [
            Sight(key, None if key == VIEWS else viewer, 0 if key == VIEWS else 50)
            for key in KEYS
            for viewer in VIEWERS
        ]
        found = await MemoryStore.items(self.rig.store, sights)
        assert found is not None
        state = {sight: row.item for sight, row in zip(sights, found.rows, strict=True)}
        self.states[found.revision.xmax - 1] = state

    def writes(self) -> list[Write]:
        found: list[Write] = []
        for _ in range(self.draw.choice([1, 1, 2, 4])):
            kind, target = key = self.draw.choice(KEYS)
            source = self.draw.choice(VIEWERS)
            value = self.draw.randint(1, 3) if kind == "review" else None
            data = self.draw.choice([None, msgspec.Raw(b'{"a":1}'), msgspec.Raw(b'{"a":2}')])
            if key == VIEWS:
                found.append(Tally(kind, target))
                continue
            add, remove = Add(kind, target, source, value, data), Remove(kind, target, source)
            found += self.draw.choice([[add], [add], [remove], [add, remove], [remove, add]])
        return found

    def sights(self) -> list[Sight]:
        found = []
        viewer = self.draw.choice([None, *VIEWERS])
        for key in self.draw.sample(KEYS, self.draw.randint(1, 4)):
            if key == VIEWS:
                found.append(Sight(key))
            else:
                found.append(Sight(key, viewer, self.draw.choice([0, 1, 2, 3, 11])))
        return found

    async def read(self) -> None:
        rig, sights = self.rig, self.sights()
        level = self.draw.choice(list(Level))
        want = Want(level, wait_s=0.0, primary=self.draw.random() < 0.7)
        token = self.draw.choice([None, rig.mine])
        try:
            served = await rig.page(*sights, want=want, token=token)
        except ReplicaLate:
            return
        if served.served_by == PRIMARY:
            self.by_primary += 1
        else:
            self.by_replicas += 1
        truth = self.states[served.revision.xmax - 1]
        for sight, item in zip(sights, served.rows, strict=True):
            viewer = sight.viewer if sight.viewer is not None else VIEWERS[0]
            true = truth[Sight(sight.key) if sight.key == VIEWS else Sight(sight.key, viewer, 50)]
            assert item.counter == true.counter, (sight, served)
            assert item.newest == true.newest[: sight.newest], (sight, served)
            assert item.viewer is (None if sight.viewer is None else true.viewer), (sight, served)
        assert served.pending == {}
        if token is not None and level in (Level.CAUSAL, Level.READ_YOUR_WRITES):
            assert token.sees_writes(served.revision)
        if token is not None and level in (Level.CAUSAL, Level.MONOTONIC):
            assert served.revision.includes(token.read)
        if level is not Level.EVENTUAL:
            rig.mine = rig.mine.saw(served.revision)

    async def step(self, reads: list[asyncio.Task[None]]) -> None:
        rig = self.rig
        action = self.draw.choices(
            ["commit", "write", "roll", "apply", "read", "answer", "reset"],
            [3, 1, 4, 8, 12, 8, 0.1],
        )[0]
        replica = self.draw.choice(rig.replicas)
        if action in ("commit", "write"):
            await (rig.commit if action == "commit" else rig.write)(*self.writes())
            await self.remember()
        elif action == "roll":
            await rig.store.rollup(self.draw.choice([1, 2, 1000]))
        elif action == "apply":
            for rollup in (await rig.store.feed(replica.standing.rollup, 1)).rollups:
                replica.apply(rollup)
            rig.reader.moved()
        elif action == "read":
            reads.append(asyncio.create_task(self.read()))
        elif action == "answer" and rig.store.held is not None:
            rig.store.held.release()
        elif action == "reset":
            replica.reset(1, (await rig.store.feed(-1, 1)).latest)
        for _ in range(self.draw.choice([0, 1, 5, 20])):
            await asyncio.sleep(0)

    async def tell(self, steps: int) -> None:
        await self.remember()
        await self.rig.begin()
        held = self.rig.store.held = asyncio.Semaphore(0)
        worker = asyncio.create_task(self.rig.worker.run())
        reads: list[asyncio.Task[None]] = []
        for _ in range(steps):
            await self.step(reads)
        while any(not read.done() for read in reads):
            held.release()
            await asyncio.sleep(0)
        for read in reads:
            await read
        worker.cancel()


@pytest.mark.parametrize("room", [3, 30, 1000])
async def test_every_page_is_the_truth_at_its_revision(seed: int, room: int) -> None:
    draw = random.Random(seed)
    by_replicas = by_primary = 0
    for _ in range(20):
        story = Story(draw, room * 8 * COUNTER_BYTES)
        await story.tell(250)
        by_replicas += story.by_replicas
        by_primary += story.by_primary
    assert by_replicas > 100
    assert by_primary > 100
