"""The change feed, and counters as of the newest rollup."""

from __future__ import annotations

from groundswell.model import Add, Counter, Put, Remove
from groundswell.store import CountChange, CounterRow, Store
from groundswell.testing.base import (
    ENOUGH,
    Suite,
    by_key,
    check_settled,
    commit,
    drain,
    follow,
    json,
    likes,
)


async def rollups(store: Store, sizes: list[int]) -> None:
    """One rollup of each of these numbers of changes."""
    for number, size in enumerate(sizes):
        await commit(store, *[Add("like", target, number) for target in range(size)])
        await drain(store)


class FeedSuite(Suite):
    """Every rollup, in order, none left out; or the answer says `behind`."""

    async def test_a_feed_without_rollups_is_empty(self, store: Store) -> None:
        feed = await store.feed(0, 10)
        assert (feed.rollups, feed.behind, feed.latest.number) == ((), False, 0)
        assert feed.epoch == store.epoch
        assert feed.head is not None
        assert (await store.head()).revision.includes(feed.head)

    async def test_a_rollup_publishes_absolute_states_once_per_key(self, store: Store) -> None:
        await commit(store, *likes(1, range(3)), Add("review", 1, 1, 4))
        await commit(store, *likes(1, range(3, 5)), Put("x", "t", json()))
        await drain(store)
        await commit(store, Remove("like", 1, 0))
        await drain(store)
        first, second = (await store.feed(0, 100)).rollups
        assert by_key(first.counts) == {("like", 1): Counter(5), ("review", 1): Counter(1, 4)}
        assert [d.id for d in first.documents] == ["x"]
        assert second.counts == (CountChange("like", 1, 4, 0),)
        assert second.documents == ()

    async def test_rollups_come_in_order_from_any_place(self, store: Store) -> None:
        await rollups(store, [1] * 5)
        for after in range(6):
            feed = await store.feed(after, ENOUGH)
            assert [r.number for r in feed.rollups] == list(range(after + 1, 6))
            assert not feed.behind

    async def test_an_answer_holds_as_many_rollups_as_fit(self, store: Store) -> None:
        await rollups(store, [3, 1, 2, 9, 1])
        for changes_max, expected in [(1, 1), (3, 1), (4, 2), (5, 2), (6, 3), (15, 4), (16, 5)]:
            feed = await store.feed(0, changes_max)
            assert len(feed.rollups) == expected

    async def test_a_rollup_larger_than_the_bound_comes_alone_and_whole(self, store: Store) -> None:
        await rollups(store, [9, 1])
        [only] = (await store.feed(0, 2)).rollups
        assert len(only.counts) == 9
        assert [r.number for r in (await store.feed(1, 2)).rollups] == [2]

    async def test_an_object_changed_often_is_one_change(self, store: Store) -> None:
        for n in range(4):
            await commit(store, Put("x", "t", json(n=n)))
        await drain(store)
        await rollups(store, [1])
        assert len((await store.feed(0, 2)).rollups) == 2

    async def test_rollups_whose_changes_cancel_out_are_published_too(self, store: Store) -> None:
        for _ in range(3):
            await commit(store, Add("like", 1, 1), Remove("like", 1, 1))
            await drain(store)
        found = await follow(store, changes_max=2)
        same = (CountChange("like", 1, 0, 0),)
        assert [(r.number, r.counts) for r in found] == [(1, same), (2, same), (3, same)]
        assert found[0].revision != found[1].revision

    async def test_a_follower_with_small_steps_misses_nothing(self, store: Store) -> None:
        await rollups(store, [3, 1, 2, 9, 1, 1, 4])
        assert await follow(store, changes_max=2) == await follow(store)

    async def test_what_is_no_longer_kept_is_behind(self, forgetful: Store) -> None:
        await rollups(forgetful, [1] * 5)
        for after, expected in [(0, None), (1, None), (2, [3, 4, 5]), (4, [5]), (5, [])]:
            feed = await forgetful.feed(after, ENOUGH)
            assert feed.behind == (expected is None)
            assert [r.number for r in feed.rollups] == (expected or [])
            assert feed.latest.number == 5

    async def test_retention_forgets_no_counter(self, forgetful: Store) -> None:
        await rollups(forgetful, [2, 1, 1, 1, 1])
        rows = (await forgetful.counters([("like", 0), ("like", 1)])).rows
        assert rows == (CounterRow(Counter(5), 1, 5), CounterRow(Counter(1), 1, 1))

    async def test_minus_one_asks_where_to_begin(self, store: Store) -> None:
        assert (await store.feed(-1, 10)).behind
        await rollups(store, [1, 1])
        feed = await store.feed(-1, 10)
        assert (feed.behind, feed.rollups, feed.latest.number) == (True, (), 2)

    async def test_beyond_the_newest_is_behind(self, store: Store) -> None:
        assert (await store.feed(1, 10)).behind
        await rollups(store, [1, 1])
        assert not (await store.feed(2, 10)).behind
        feed = await store.feed(3, 10)
        assert (feed.behind, feed.rollups, feed.latest.number) == (True, (), 2)

    async def test_latest_says_where_a_replica_can_begin(self, store: Store) -> None:
        await rollups(store, [2, 1])
        await commit(store, Add("like", 1, 99))
        feed = await store.feed(0, ENOUGH)
        assert feed.latest.revision == feed.rollups[-1].revision
        assert (feed.latest.counts, feed.latest.documents) == ((), ())
        counters = await store.counters([])
        assert (counters.rollup, counters.revision) == (2, feed.latest.revision)

    async def test_head_runs_ahead_of_the_latest_rollup(self, store: Store) -> None:
        await rollups(store, [1])
        waiting = await commit(store, Add("like", 1, 99))
        feed = await store.feed(0, 10)
        assert waiting.xid is not None
        assert feed.head is not None
        assert feed.head.sees(waiting.xid)
        assert not feed.latest.revision.sees(waiting.xid)
        assert feed.head.includes(feed.latest.revision)

    async def test_counters_tell_the_rollups_that_first_and_last_changed_them(
        self, store: Store
    ) -> None:
        await rollups(store, [1, 2, 1])
        rows = (await store.counters([("like", 1), ("like", 9), ("like", 0), ("like", 1)])).rows
        assert rows == (
            CounterRow(Counter(1), 2, 2),
            CounterRow(Counter(0), 0, 0),
            CounterRow(Counter(3), 1, 3),
            CounterRow(Counter(1), 2, 2),
        )

    async def test_a_counter_that_fell_to_zero_keeps_its_rollups(self, store: Store) -> None:
        await commit(store, Add("like", 1, 1))
        await drain(store)
        await commit(store, Remove("like", 1, 1))
        await drain(store)
        assert (await store.counters([("like", 1)])).rows == (CounterRow(Counter(0), 1, 2),)
        assert (await store.feed(1, 10)).rollups[0].counts == (CountChange("like", 1, 0, 0),)
        await check_settled(store, [("like", 1)])

    async def test_other_data_of_an_edge_is_a_change_of_its_counter(self, store: Store) -> None:
        await commit(store, Add("like", 1, 1))
        await drain(store)
        await commit(store, Add("like", 1, 1, data=json(a=1)))
        rolled = await store.rollup(10)
        assert rolled is not None
        assert (await store.counters([("like", 1)])).rows == (CounterRow(Counter(1), 1, 2),)
        assert (await store.feed(1, 10)).rollups[0].counts == (CountChange("like", 1, 1, 0),)
