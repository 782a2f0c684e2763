"""The rollup: each event once, whole transactions, in commit order, in bounded steps."""

from __future__ import annotations

import pytest

from groundswell.kinds import bucket
from groundswell.model import Add, Counter, Delete, Key, Put, Remove, Tally, Write
from groundswell.store import Committed, CountChange, Store
from groundswell.testing.base import (
    Suite,
    by_key,
    check_settled,
    commit,
    count,
    drain,
    follow,
    json,
    likes,
    unlikes,
)

SIZES = [3, 1, 4, 1, 5, 9, 2, 6]  # events of successive transactions


async def transactions(store: Store, sizes: list[int]) -> list[int]:
    """Transactions of so many events each, one like per target; their ids."""
    xids: list[int] = []
    for number, size in enumerate(sizes):
        done = await commit(store, *[Add("like", target, number) for target in range(size)])
        assert done.xid is not None
        xids.append(done.xid)
    return xids


async def current(store: Store, keys: list[Key]) -> list[Counter]:
    """What the store counts now; the backlog is short."""
    found = await store.current(keys)
    assert found is not None
    return list(found[0])


class RollupSuite(Suite):
    """Counters are exactly the effect of the transactions in the rollup's revision."""

    async def test_without_commits_there_is_no_rollup(self, store: Store) -> None:
        assert await store.rollup(10) is None
        assert (await store.head()).rollup == 0

    async def test_a_rollup_folds_each_event_once(self, store: Store) -> None:
        done = await commit(store, *likes(1, range(5)))
        rolled = await store.rollup(10)
        assert rolled is not None
        assert (rolled.number, rolled.events, rolled.more) == (1, 1, False)
        assert done.xid is not None
        assert rolled.revision.sees(done.xid)
        assert await count(store, "like", 1) == Counter(5)
        assert await store.rollup(10) is None
        assert await count(store, "like", 1) == Counter(5)
        await commit(store, *likes(1, range(5, 7)))
        await store.rollup(10)
        assert await count(store, "like", 1) == Counter(7)

    async def test_counters_stand_still_between_rollups(self, store: Store) -> None:
        await commit(store, Add("like", 1, 1))
        assert await count(store, "like", 1) == Counter(0)
        await drain(store)
        await commit(store, Add("like", 1, 2))
        assert await count(store, "like", 1) == Counter(1)

    async def test_current_counters_show_what_is_not_rolled_up_too(self, store: Store) -> None:
        keys: list[Key] = [("like", 1), ("review", 1), ("view", 1), ("like", 2), ("like", 1)]
        assert await current(store, keys) == [Counter(0)] * 5
        await commit(store, *likes(1, range(3)), Add("review", 1, 1, 4), Tally("view", 1, 7))
        expected = [Counter(3), Counter(1, 4), Counter(7), Counter(0), Counter(3)]
        assert await current(store, keys) == expected
        await drain(store)
        assert await current(store, keys) == expected
        await commit(store, Remove("like", 1, 0), Add("review", 1, 1, -2), Put("x", "t", json()))
        done = await commit(store, Add("like", 2, 0), Remove("like", 2, 0), Tally("view", 1))
        assert done.xid is not None
        expected = [Counter(2), Counter(1, -2), Counter(8), Counter(0), Counter(2)]
        assert await current(store, keys) == expected
        found = await store.current(keys)
        assert found is not None
        assert found[1].includes(done.seen)
        await check_settled(store, keys)

    async def test_current_counters_do_not_look_through_a_long_backlog(self, store: Store) -> None:
        for number in range(3):
            await commit(store, *[Add("like", target, number) for target in range(4_000)])
        found = await store.current([("like", 1), ("like", 4_000)])
        assert found is None or found[0] == (Counter(3), Counter(0))
        await drain(store)
        assert await current(store, [("like", 1), ("like", 4_000)]) == [Counter(3), Counter(0)]

    async def test_rollups_are_numbered_without_gaps(self, store: Store) -> None:
        for number in range(1, 4):
            await commit(store, Add("like", 1, number))
            rolled = await store.rollup(10)
            assert rolled is not None
            assert rolled.number == number == (await store.head()).rollup

    @pytest.mark.parametrize("events_max", [1, 2, 3, 4, 5, 8, 13, 31, 100])
    async def test_a_bounded_rollup_ends_with_the_transaction_that_reaches_the_bound(
        self, store: Store, events_max: int
    ) -> None:
        await transactions(store, SIZES)
        expected, taken = [], 0
        for size in SIZES:
            taken += size
            if taken >= events_max:
                expected.append(taken)
                taken = 0
        expected += [taken] if taken else []
        rolled = await drain(store, events_max)
        assert [r.events for r in rolled] == expected
        assert [r.more for r in rolled] == [True] * (len(rolled) - 1) + [False]
        await check_settled(store, [("like", target) for target in range(9)])

    async def test_a_transaction_larger_than_the_bound_is_taken_whole(self, store: Store) -> None:
        [xid] = await transactions(store, [50])
        rolled = await store.rollup(7)
        assert rolled is not None
        assert (rolled.events, rolled.more) == (50, False)
        assert rolled.revision.sees(xid)
        assert await store.rollup(7) is None

    async def test_a_rollup_takes_transactions_in_commit_order(self, store: Store) -> None:
        xids = await transactions(store, [2, 2, 2])
        seen = [[r.revision.sees(xid) for xid in xids] for r in await drain(store, 2)]
        assert seen == [[True, False, False], [True, True, False], [True, True, True]]

    async def test_objects_and_counts_share_the_bound(self, store: Store) -> None:
        for n in range(3):
            await commit(store, Put("x", "t", json(n=n)), Add("like", 1, n))
        rolled = await drain(store, 4)
        assert [r.events for r in rolled] == [4, 2]

    @pytest.mark.parametrize("events_max", [1, 2, 3, 5, 1_000])
    async def test_a_rollup_shows_exactly_the_transactions_in_its_revision(
        self, store: Store, events_max: int
    ) -> None:
        """R4: a replica that replays the feed up to r has the effect of r's revision, for all keys."""
        done: list[Committed] = []
        documents: list[tuple[int, str, int]] = []
        for writes in _history():
            done.append(await commit(store, *writes))
            for write, outcome in zip(writes, done[-1].outcomes, strict=True):
                if isinstance(write, Put) and (xid := done[-1].xid) is not None:
                    documents.append((xid, write.id, getattr(outcome, "version", 0)))
            if len(done) % 7 == 0:
                await store.rollup(events_max)
        await drain(store, events_max)
        replica: dict[Key, Counter] = {}
        objects: dict[str, int] = {}
        before = None
        for rollup in await follow(store, changes_max=3):
            assert before is None or rollup.revision.includes(before)
            before = rollup.revision
            replica |= by_key(rollup.counts)
            objects |= {d.id: d.version for d in rollup.documents}
            assert {k: c for k, c in replica.items() if c != Counter(0)} == _effect(
                [one for one in done if one.xid is not None and before.sees(one.xid)]
            )
            assert objects == {id_: v for xid, id_, v in documents if before.sees(xid)}
        assert before is not None
        assert all(before.sees(one.xid) for one in done if one.xid is not None)

    async def test_a_transaction_that_cancels_out_is_published_all_the_same(
        self, store: Store
    ) -> None:
        """The edges are others now: a replica that holds them has to hear of it."""
        await commit(store, Add("like", 1, 1))
        await drain(store)
        zero = await commit(store, Remove("like", 1, 1), Add("like", 1, 1))
        assert await store.backlog() == 1
        rolled = await store.rollup(10)
        assert rolled is not None
        assert zero.xid is not None
        assert rolled.revision.sees(zero.xid)
        assert (await follow(store))[-1].counts == (CountChange("like", 1, 1, 0),)
        assert (await store.counters([("like", 1)])).rows[0].changed == rolled.number
        assert await store.rollup(10) is None
        assert await count(store, "like", 1) == Counter(1)

    @pytest.mark.parametrize("kind", ["like", "review"])
    async def test_every_change_of_an_edge_is_published(self, store: Store, kind: str) -> None:
        value = 2 if kind == "review" else None
        for writes in (
            [Add(kind, 1, 1, value, json(a=1)), Remove(kind, 1, 1)],
            [Add(kind, 1, 1, value, json(a=1))],
            [Add(kind, 1, 1, value, json(a=2))],
            [Remove(kind, 1, 1), Add(kind, 1, 2, value)],
        ):
            done = await commit(store, *writes)
            assert done.xid is not None
            rolled = await store.rollup(10)
            assert rolled is not None
            assert rolled.events == 1
            [row] = (await store.counters([(kind, 1)])).rows
            assert (row.born, row.changed) == (1, rolled.number)
            assert by_key((await follow(store))[-1].counts) == {(kind, 1): row.counter}
        again = await commit(store, Add(kind, 1, 2, value), Remove(kind, 1, 1))
        assert again.xid is None
        assert await store.rollup(10) is None

    async def test_other_data_of_a_rating_is_no_event_of_its_value(self, store: Store) -> None:
        """It is one of the target all the same, whose lists have changed; a value has no lists."""
        two, three = bucket("rating", 2), bucket("rating", 3)
        await commit(store, Add("rating", 1, 1, 2, json(n=1)))
        await drain(store)
        expected: list[tuple[Write, dict[Key, Counter]]] = [
            (Add("rating", 1, 1, 2, json(n=2)), {("rating", 1): Counter(1, 2)}),
            (
                Add("rating", 1, 1, 3, json(n=2)),
                {("rating", 1): Counter(1, 3), (two, 1): Counter(0), (three, 1): Counter(1)},
            ),
            (Add("rating", 1, 1, 3), {("rating", 1): Counter(1, 3)}),
        ]
        for write, published in expected:
            await commit(store, write)
            assert await store.backlog() == len(published)
            await drain(store)
            assert by_key((await follow(store))[-1].counts) == published
        await check_settled(store, [("rating", 1), (two, 1), (three, 1)])

    async def test_changes_that_cancel_out_between_transactions_leave_the_count(
        self, store: Store
    ) -> None:
        await commit(store, *likes(1, [1]))
        await commit(store, *unlikes(1, [1]))
        await check_settled(store, [("like", 1)])
        await commit(store, *likes(1, [1]))
        await check_settled(store, [("like", 1)])
        assert await count(store, "like", 1) == Counter(1)

    async def test_a_count_is_never_below_zero_in_any_rollup(self, store: Store) -> None:
        for source in range(10):
            await commit(store, *likes(1, [source, source + 1]))
            await commit(store, *unlikes(1, [source, source + 1, source + 50]))
            await commit(store, *unlikes(1, [source]))
        await drain(store, 1)
        await check_settled(store, [("like", 1)])  # looks at every rollup

    async def test_many_keys_in_one_rollup(self, store: Store) -> None:
        await commit(store, *[Add("like", target, 1) for target in range(2_000)])
        await commit(store, *[Add("like", target, 2) for target in range(0, 2_000, 2)])
        rolled = await store.rollup(10_000)
        assert rolled is not None
        assert rolled.events == 3_000
        await check_settled(store, [("like", target) for target in range(0, 2_000, 97)])

    async def test_recount_of_a_tally_is_all_that_was_tallied(self, store: Store) -> None:
        await commit(store, Tally("view", 1, 5))
        await drain(store)
        await commit(store, Tally("view", 1, 2, "a"), Tally("view", 2))
        assert await store.recount("view", 1) == Counter(7)
        assert await store.recount("view", 3) == Counter(0)

    async def test_recount_counts_the_edges_as_they_are_now(self, store: Store) -> None:
        await commit(store, Add("review", 1, 1, 5), Add("review", 1, 2, -2))
        assert await store.recount("review", 1) == Counter(2, 3)
        assert await store.recount("review", 2) == Counter(0)


def _history() -> list[list[Write]]:
    """Forty transactions over few keys: some touch many, some cancel out, some change nothing."""
    history: list[list[Write]] = []
    for n in range(40):
        writes: list[Write] = [Add("like", n % 3, n % 5), Add("review", n % 2, n % 4, n % 5)]
        if n % 3 == 0:
            writes += [Remove("like", (n + 1) % 3, n % 5), Tally("view", n % 2, n + 1)]
        if n % 5 == 0:
            writes = [Add("follow", 1, 1), Remove("follow", 1, 1)]
        if n % 4 == 0:
            writes += [Put(f"o{n % 8}", "t", json(n=n)), Remove("review", n % 2, n % 4)]
        if n % 8 == 6:
            writes = [*unlikes(n % 3, range(5)), Delete("never"), Tally("view", 0, 1, "once")]
        history.append(writes)
    return history


def _effect(done: list[Committed]) -> dict[Key, Counter]:
    """The counts that these commits come to, without the zeros."""
    total: dict[Key, Counter] = {}
    for one in done:
        for effect in one.effects:
            old = total.get((effect.kind, effect.target), Counter(0))
            total[effect.kind, effect.target] = Counter(
                old.count + effect.count, old.sum + effect.sum
            )
    return {key: counter for key, counter in total.items() if counter != Counter(0)}
