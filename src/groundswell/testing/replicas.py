"""The suite that every replica has to pass: a consistent prefix, whatever is late, repeated or lost."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from groundswell.kinds import Kinds
from groundswell.model import Add, Counter, Delete, Document, Key, Put, Remove, Write
from groundswell.replica import Replica
from groundswell.store import Counters, Documents, Feed, Item, Items, Rollup, Sight, Store
from groundswell.stores.memory import MemoryStore
from groundswell.testing.base import ENOUGH, commit, json, likes

KEYS: list[Key] = [("like", target) for target in range(1, 9)]
IDS = [f"o{number}" for number in range(5)]
VIEWERS = (1, 2, 3)
SIGHTS = [Sight(key, viewer, 2) for key in KEYS[:4] for viewer in (None, *VIEWERS)]
LIKE = KEYS[0]


class Stage(MemoryStore):
    """A store whose change feed ends at `shown`, so that replicas stand behind it."""

    def __init__(self, kinds: Kinds, *, rollups_kept: int = 1_000) -> None:
        super().__init__(kinds, rollups_kept=rollups_kept)
        self.shown = 0
        self.past: list[Rollup] = []  # every rollup
        self.states: dict[int, tuple[dict[Sight, Item], dict[str, Document | None]]] = {}

    async def feed(self, after: int, changes_max: int) -> Feed:
        """Of what there is, the part that is shown."""
        feed = await super().feed(after, changes_max)
        rollups = tuple(rollup for rollup in feed.rollups if rollup.number <= self.shown)
        latest = self.past[self.shown] if self.shown < len(self.past) else feed.latest
        bare = msgspec.structs.replace(latest, counts=(), documents=())
        return msgspec.structs.replace(feed, rollups=rollups, latest=bare)

    async def note(self) -> None:
        """Remember what is true now, by the transaction that made it so."""
        found = await self.items(SIGHTS)
        assert found is not None
        items = {sight: row.item for sight, row in zip(SIGHTS, found.rows, strict=True)}
        documents = (await self.documents(IDS)).rows
        self.states[self._xid] = items, dict(zip(IDS, documents, strict=True))
        if not self.past:
            self.past = [(await super().feed(-1, 1)).latest]

    async def write(self, *writes: Write) -> None:
        """One commit."""
        await commit(self, *writes)
        await self.note()

    async def roll(self, *writes: Write, events_max: int = ENOUGH) -> None:
        """One commit and one rollup, which is not shown yet."""
        if writes:
            await self.write(*writes)
        await self.rollup(events_max)
        self.past += (await super().feed(self.past[-1].number, ENOUGH)).rollups

    def counter(self, key: Key, rollup: int) -> Counter:
        """A counter at a rollup, from the feed alone."""
        found = Counter(0)
        for past in self.past[: rollup + 1]:
            for change in past.counts:
                if (change.kind, change.target) == key:
                    found = Counter(change.count, change.sum)
        return found

    def state(self, rollup: int) -> tuple[dict[Sight, Item], dict[str, Document | None]]:
        """Items and objects at a rollup."""
        return self.states[self.past[rollup].revision.xmax - 1]


class ReplicaConformance:
    """Every promise of `groundswell.replica.Replica`, as tests.

    `make` returns a new, empty replica of a store; one that is shared by nodes is fed from it by `reach`.
    """

    pytestmark = pytest.mark.anyio

    async def make(self, store: Store) -> Replica:
        """A replica with nothing in it, which stands nowhere."""
        raise NotImplementedError

    async def lose(self, replica: Replica, draw: random.Random) -> None:
        """Let it forget some rows, if that can be made to happen."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        """The contract is one of asyncio."""
        return "asyncio"

    @pytest.fixture
    async def stage(self) -> AsyncIterator[Stage]:
        """A store, with one commit less than nothing."""
        stage = Stage(Kinds())
        await stage.note()
        yield stage
        await stage.close()

    @pytest.fixture
    async def replica(self, stage: Stage) -> Replica:
        """A replica that stands at the beginning."""
        replica = await self.make(stage)
        await begin(replica, stage)
        return replica

    # --- moving on

    async def test_it_moves_on_in_order(self, stage: Stage, replica: Replica) -> None:
        for number in range(1, 4):
            await stage.roll(*likes(1, range(number)), *likes(2, [number]))
            await advance(replica, stage)
            held = await replica.counters([LIKE, ("like", 2)])
            assert held.standing.rollup == replica.standing.rollup == number
            assert held.standing.revision == stage.past[number].revision
            assert held.rows == [Counter(number), Counter(number)]

    async def test_a_rollup_is_applied_at_most_once(self, stage: Stage, replica: Replica) -> None:
        for number in (1, 2):
            await stage.roll(*likes(1, [number]))
            await advance(replica, stage)
        standing = replica.standing
        for rollup in (stage.past[2], stage.past[1]):
            await replica.reach(1, rollup.number)
            replica.apply(rollup)
            assert replica.standing == standing
            assert (await replica.counters([LIKE])).rows == [Counter(2)]

    async def test_a_gap_is_an_error(self, stage: Stage, replica: Replica) -> None:
        for number in range(3):
            await stage.roll(*likes(1, [number]))
        with pytest.raises(ValueError, match="does not follow"):
            replica.apply(stage.past[2])
        assert replica.standing.rollup == 0

    async def test_what_it_does_not_hold_it_does_not_claim(
        self, stage: Stage, replica: Replica
    ) -> None:
        assert (await replica.counters(KEYS)).rows == [None] * len(KEYS)
        assert (await replica.documents(IDS)).rows == [None] * len(IDS)
        assert (await replica.items(SIGHTS)).rows == [None] * len(SIGHTS)
        assert replica.peek(KEYS) == [None] * len(KEYS)

    async def test_an_age_is_known_after_it_was_certified(
        self, stage: Stage, replica: Replica
    ) -> None:
        replica.certify(5.0)
        await stage.roll(*likes(1, [1]))
        await advance(replica, stage)
        assert (await replica.counters([LIKE])).standing.fresh_at_s == 5.0
        replica.reset(1, stage.past[1])
        assert (await replica.counters([LIKE])).standing.fresh_at_s < 0

    async def test_large_rollups(self, stage: Stage, replica: Replica) -> None:
        keys: list[Key] = [("like", target) for target in range(3_000)]
        await stage.roll(*(Add("like", target, 7) for _, target in keys))
        await advance(replica, stage)
        rows = (await replica.counters(keys)).rows
        assert rows == [Counter(1)] * len(keys)

    async def test_objects_and_deletions(self, stage: Stage, replica: Replica) -> None:
        await stage.roll(Put("o1", "t", json(a="{1}\n")), Put("o2", "t", json()))
        await advance(replica, stage)
        await stage.roll(Delete("o2"))
        await advance(replica, stage)
        first, second, never = (await replica.documents(["o1", "o2", "o3"])).rows
        assert first is not None and first.data is not None
        assert (first.id, first.version, bytes(first.data)) == ("o1", 1, b'{"a":"{1}\\n"}')
        assert second is not None and second.data is None
        assert never is None

    # --- filling

    async def test_a_counter_that_did_not_change_since(
        self, stage: Stage, replica: Replica
    ) -> None:
        await stage.roll(*likes(1, [1]))
        await begin(replica, stage)
        await self.emptied(replica, stage)
        await replica.fill_counters([LIKE, ("like", 2)], await stage.counters([LIKE, ("like", 2)]))
        assert (await replica.counters([LIKE, ("like", 2)])).rows == [Counter(1), Counter(0)]

    async def test_a_counter_that_changed_since_is_left_to_the_feed(
        self, stage: Stage, replica: Replica
    ) -> None:
        await stage.roll(*likes(1, [1]))
        await self.emptied(replica, stage)
        await stage.roll(*likes(1, [2]), *likes(2, [1]))
        await replica.fill_counters([LIKE, ("like", 2)], await stage.counters([LIKE, ("like", 2)]))
        assert (await replica.counters([LIKE, ("like", 2)])).rows == [None, Counter(0)]

    async def test_a_slow_fill_changes_nothing(self, stage: Stage, replica: Replica) -> None:
        await stage.roll(*likes(1, [1]), Put("o1", "t", json(a=1)))
        await self.emptied(replica, stage)
        slow = await stage.counters([LIKE, ("like", 2)]), await stage.documents(["o1", "o2"])
        await stage.roll(*likes(1, [2]), *likes(2, [1]), Put("o1", "t", json(a=2)))
        await advance(replica, stage)
        await replica.fill_counters([LIKE, ("like", 2)], slow[0])
        await replica.fill_documents(["o1", "o2"], slow[1])
        assert (await replica.counters([LIKE, ("like", 2)])).rows == [Counter(2), Counter(1)]
        first, second = (await replica.documents(["o1", "o2"])).rows
        assert first is not None and first.version == 2
        assert second is None

    async def test_an_object_is_taken_over_where_it_is_seen(
        self, stage: Stage, replica: Replica
    ) -> None:
        await stage.roll(Put("o1", "t", json(a=1)), Put("o2", "t", json(a=1)))
        await self.emptied(replica, stage)
        await stage.write(Put("o2", "t", json(a=2)), Put("o3", "t", json()))
        ids = ["o1", "o2", "o3", "o4"]
        await replica.fill_documents(ids, await stage.documents(ids))
        first, changed, later, never = (await replica.documents(ids)).rows
        assert first is not None and first.version == 1
        assert changed is None
        assert later == Document("o3", "", 0, 0, None)
        assert never == Document("o4", "", 0, 0, None)

    async def test_a_list_lasts_until_its_target_changes(
        self, stage: Stage, replica: Replica
    ) -> None:
        await stage.roll(*likes(1, [1, 2, 3]))
        await self.emptied(replica, stage)
        mine, other = Sight(LIKE, 2, 2), Sight(LIKE, 9, 2)
        await replica.fill_items([mine, other], await found(stage, mine, other))
        [item, stranger] = (await replica.items([mine, other])).rows
        assert item is not None and stranger is not None
        assert (item.counter, len(item.newest), item.viewer) == (Counter(3), 2, True)
        assert stranger.viewer is False
        assert (await replica.items([Sight(LIKE, 3, 2), Sight(LIKE, None, 3)])).rows == [None] * 2
        await stage.roll(Remove("like", 1, 3))
        await advance(replica, stage)
        assert (await replica.items([mine, other])).rows == [None] * 2
        assert (await replica.items([Sight(LIKE)])).rows == [Item(Counter(2))]

    async def test_edges_that_wait_for_a_rollup_are_not_taken_over(
        self, stage: Stage, replica: Replica
    ) -> None:
        await stage.roll(*likes(1, [1, 2]))
        await self.emptied(replica, stage)
        await stage.write(Remove("like", 1, 1), Add("like", 1, 5))
        mine = Sight(LIKE, 1, 2)
        await replica.fill_items([mine], await found(stage, mine))
        assert (await replica.items([mine])).rows == [None]

    # --- everything, at random

    async def test_every_row_is_exact_whatever_is_late_or_lost(
        self, stage: Stage, replica: Replica, seed: int
    ) -> None:
        draw = random.Random(seed)
        play = Play(stage, replica, draw)
        for _ in range(600):
            await play.step()
            if draw.random() < 0.05:
                await self.lose(replica, draw)
            await play.check()
        assert play.shown > 300

    async def emptied(self, replica: Replica, stage: Stage) -> None:
        """Let the replica stand at the newest rollup and hold nothing."""
        stage.shown = stage.past[-1].number
        await replica.reach(1, stage.shown)
        replica.reset(1, stage.past[-1])
        await self.forget(replica)

    async def forget(self, replica: Replica) -> None:
        """Let it forget all rows. `reset` does, where they are nowhere else."""


class Play:
    """What happens to one replica, drawn at random, and the check of what it shows."""

    def __init__(self, stage: Stage, replica: Replica, draw: random.Random) -> None:
        self.shown = 0
        self._stage = stage
        self._replica = replica
        self._draw = draw
        self._fills: list[Any] = []

    async def step(self) -> None:
        """One thing."""
        acts = [self._write, self._roll, self._advance, self._again, self._read, self._fill]
        [act] = self._draw.choices(acts, [6, 4, 4, 1, 6, 6])
        await act()

    async def _write(self) -> None:
        draw = self._draw
        writes: list[Write] = []
        for kind, target in draw.sample(KEYS, draw.randrange(3)):
            of = draw.choice((Add, Remove))
            writes.append(of(kind, target, draw.choice(VIEWERS)))
        for id_ in draw.sample(IDS, draw.randrange(2)):
            put = draw.random() < 0.7
            writes.append(Put(id_, "t", json(a=draw.random())) if put else Delete(id_))
        await self._stage.write(*writes)

    async def _roll(self) -> None:
        await self._stage.roll(events_max=self._draw.choice((1, 3, ENOUGH)))

    async def _advance(self) -> None:
        stage = self._stage
        if stage.shown < stage.past[-1].number:
            last = self._draw.randint(stage.shown + 1, stage.past[-1].number)
            await advance(self._replica, stage, last)

    async def _again(self) -> None:
        self._replica.apply(self._draw.choice(self._stage.past[: self._stage.shown + 1]))

    async def _read(self) -> None:
        draw, stage = self._draw, self._stage
        what = draw.choice(("counters", "documents", "items"))
        if what == "counters":
            keys = draw.sample(KEYS, 3)
            self._fills.append((keys, await stage.counters(keys)))
        elif what == "documents":
            ids = draw.sample(IDS, 3)
            self._fills.append((ids, await stage.documents(ids)))
        else:
            sights = draw.sample(SIGHTS, 4)
            self._fills.append((sights, await found(stage, *sights)))

    async def _fill(self) -> None:
        if not self._fills:
            return
        asked, read = self._fills.pop(self._draw.randrange(len(self._fills)))
        if isinstance(read, Counters):
            await self._replica.fill_counters(asked, read)
        elif isinstance(read, Documents):
            await self._replica.fill_documents(asked, read)
        else:
            await self._replica.fill_items(asked, read)

    async def check(self) -> None:
        """Every row that is held is that of the store where the replica says it stands."""
        replica, stage = self._replica, self._stage
        held = await replica.counters(KEYS)
        assert held.standing.revision == stage.past[held.standing.rollup].revision
        for key, row in zip(KEYS, held.rows, strict=True):
            assert row is None or row == stage.counter(key, held.standing.rollup), key
            self.shown += row is not None
        documents = await replica.documents(IDS)
        for id_, document in zip(IDS, documents.rows, strict=True):
            true = stage.state(documents.standing.rollup)[1][id_]
            absent = Document(id_, "", 0, 0, None)
            assert document is None or document == (true or absent), id_
            self.shown += document is not None
        items = await replica.items(SIGHTS)
        for sight, item in zip(SIGHTS, items.rows, strict=True):
            assert item is None or item == stage.state(items.standing.rollup)[0][sight], sight
            self.shown += item is not None


async def found(stage: Stage, *sights: Sight) -> Items:
    """These items as they are in the store now."""
    read = await stage.items(sights)
    assert read is not None
    return read


async def begin(replica: Replica, stage: Stage) -> None:
    """Let a replica begin where the store is."""
    stage.shown = stage.past[-1].number
    await replica.reach(1, stage.shown)
    replica.reset(1, stage.past[-1])


async def advance(replica: Replica, stage: Stage, last: int | None = None) -> None:
    """Bring a replica on, as a follower does."""
    stage.shown = stage.past[-1].number if last is None else last
    await replica.reach(1, stage.shown)
    for rollup in stage.past[replica.standing.rollup + 1 : stage.shown + 1]:
        replica.apply(rollup)
