"""Many tasks at once, closing, and coming back."""

from __future__ import annotations

import asyncio

import pytest

from groundswell.errors import StoreUnavailable
from groundswell.model import Add, Counter, Key, Put, Remove, Tally
from groundswell.store import Batch, Committed, Sight, Store, Window
from groundswell.testing.base import (
    KINDS,
    NOTHING_DONE,
    Suite,
    check_settled,
    codes,
    commit,
    count,
    drain,
    follow,
    json,
    likes,
    outcome,
)

TASKS = 8
ROUNDS = 12


class TogetherSuite(Suite):
    """One object, used by many tasks; and its end."""

    async def test_commits_and_rollups_of_many_tasks_count_everything_once(
        self, store: Store
    ) -> None:
        over = asyncio.Event()

        async def write(task: int) -> list[Committed]:
            done = []
            for n in range(ROUNDS):
                me = task * ROUNDS + n
                done.append(await commit(store, Add("like", 1, me), Tally("view", task % 2)))
                if n % 3 == 0:
                    await commit(store, Remove("like", 1, me))
                await commit(store, Add("like", 2, n), Put("x", "t", json(me=me)))
            return done

        async def roll() -> None:
            while not over.is_set():
                await store.rollup(3)
                await asyncio.sleep(0)

        async def read() -> None:
            number = 0
            while not over.is_set():
                counters = await store.counters([("like", 1), ("like", 2), ("view", 0)])
                assert counters.rollup >= number
                number = counters.rollup
                assert all(0 <= row.counter.count <= 200 for row in counters.rows)
                current = await store.current([("like", 1), ("like", 2), ("view", 0)])
                assert current is not None
                assert current[1].includes(counters.revision)
                assert all(0 <= counter.count <= 200 for counter in current[0])
                assert all(row.changed <= number for row in counters.rows)
                await asyncio.sleep(0)

        background = [asyncio.create_task(job()) for job in (roll, roll, read)]
        try:
            done = await asyncio.gather(*(write(task) for task in range(TASKS)))
        finally:
            over.set()
            await asyncio.gather(*background)
        xids = [one.xid for answers in done for one in answers]
        assert len(set(xids)) == TASKS * ROUNDS  # commits of their own, none lost
        await check_settled(store, [("like", 1), ("like", 2), ("view", 0), ("view", 1)])
        assert await count(store, "like", 1) == Counter(TASKS * ROUNDS * 2 // 3)
        assert await count(store, "like", 2) == Counter(ROUNDS)
        [document] = (await store.documents(["x"])).rows
        assert document is not None
        assert document.version == TASKS * ROUNDS

    async def test_one_of_many_gets_the_seat(self, store: Store) -> None:
        answers = await asyncio.gather(*(commit(store, Add("seat", "1", n)) for n in range(20)))
        assert sorted(map(str, (codes(a)[0] for a in answers))) == ["True", *["seat-taken"] * 19]

    async def test_concurrent_rollups_fold_nothing_twice(self, store: Store) -> None:
        for n in range(10):
            await commit(store, *[Add("like", target, n) for target in range(5)])
        rolled = await asyncio.gather(*(store.rollup(5) for _ in range(15)))
        done = [one for one in rolled if one is not None]
        assert sum(one.events for one in done) == 50
        assert sorted(one.number for one in done) == list(range(1, len(done) + 1))
        await check_settled(store, [("like", target) for target in range(5)])

    async def test_head_sees_every_commit_acknowledged_before(self, store: Store) -> None:
        async def write_then_look(n: int) -> None:
            done = await commit(store, Add("like", 1, n))
            assert done.xid is not None
            assert (await store.head()).revision.sees(done.xid)
            page = await store.edges("like", 1, Window(100))
            assert page.revision.sees(done.xid)
            assert n in [edge.source for edge in page.edges]

        await asyncio.gather(*(write_then_look(n) for n in range(20)))

    async def test_a_state_holds_all_of_a_commit_or_nothing(self, store: Store) -> None:
        over = asyncio.Event()

        async def look() -> None:
            while not over.is_set():
                rows = (await store.documents(["a", "b"])).rows
                assert len({row and row.version for row in rows}) == 1
                first, second = (await store.counters([("like", 1), ("like", 2)])).rows
                assert first.counter == second.counter
                await asyncio.sleep(0)

        looking = [asyncio.create_task(look()) for _ in range(2)]
        try:
            for n in range(30):
                both = [Put("a", "t", json(n=n)), Put("b", "t", json(n=n))]
                await commit(store, *both, Add("like", 1, n), Add("like", 2, n))
                await store.rollup(1)
        finally:
            over.set()
            await asyncio.gather(*looking)

    async def test_a_cancelled_commit_happens_whole_or_not_at_all(self, store: Store) -> None:
        for n in range(10):
            task = asyncio.create_task(
                commit(store, *[Add("like", t, n) for t in range(5)], Put("x", "t", json(n=n)))
            )
            for _ in range(n % 4):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        keys: list[Key] = [("like", target) for target in range(5)]
        async with asyncio.timeout(10):
            while True:  # a commit goes on to its end though nobody waits for it any more
                try:
                    await check_settled(store, keys)
                    break
                except AssertionError:
                    await asyncio.sleep(0.02)
        rows = (await store.counters(keys)).rows
        assert len({row.counter for row in rows}) == 1

    # --- closing --------------------------------------------------------------------------------

    async def test_a_closed_store_refuses_everything(self) -> None:
        store = await self.make(KINDS)
        await commit(store, Add("like", 1, 1))
        await store.close()
        for call in (
            store.commit([Batch((Add("like", 1, 2),))]),
            store.rollup(1),
            store.head(),
            store.feed(0, 1),
            store.counters([("like", 1)]),
            store.current([("like", 1)]),
            store.items([Sight(("like", 1), 1, 1)]),
            store.documents(["x"]),
            store.edge("like", 1, 1),
            store.edges("like", 1, Window()),
            store.inverse("follow", 1, Window()),
            store.recount("like", 1),
        ):
            with pytest.raises(StoreUnavailable):
                await call

    async def test_closing_twice_does_nothing(self) -> None:
        store = await self.make(KINDS)
        await store.close()
        await store.close()

    async def test_closing_finishes_what_runs(self) -> None:
        store = await self.make(KINDS)
        running = [asyncio.create_task(commit(store, *likes(n, range(50)))) for n in range(10)]
        await asyncio.sleep(0)
        await store.close()
        for done in await asyncio.gather(*running, return_exceptions=True):
            assert isinstance(done, StoreUnavailable | Committed)

    # --- identity and durability ----------------------------------------------------------------

    async def test_every_store_has_an_identity_of_its_own(self) -> None:
        stores = [await self.make(KINDS) for _ in range(2)]
        assert stores[0].identity != stores[1].identity
        for store in stores:
            assert (await store.head()).epoch == store.epoch
            await store.close()

    async def test_what_a_commit_should_hold_is_advice(self, store: Store) -> None:
        assert store.group_max > 0
        many = min(store.group_max, 10_000) + 1
        committed = await commit(store, *likes(1, range(many)))
        assert codes(committed) == [True] * many
        await check_settled(store, [("like", 1)])

    async def test_everything_is_there_after_a_restart(self) -> None:
        self._needs_durable()
        store = await self.make(KINDS)
        identity, epoch = store.identity, store.epoch
        await commit(store, Add("review", 1, 1, 4, json(a=1)), Add("seat", "1", 1))
        await drain(store)
        await commit(store, Put("x", "t", json(n=1)), Tally("view", 1, 2, "a"))
        head, (edge, seen) = await store.head(), await store.edge("review", 1, 1)
        feed, documents = await store.feed(0, 10), await store.documents(["x"])
        store = await self.reopen(store)
        assert (store.identity, store.epoch) == (identity, epoch)
        after = await store.head()
        assert (after.epoch, after.rollup) == (head.epoch, head.rollup)
        assert after.revision.includes(head.revision)
        # What was seen is compared by what it includes: a server starts transactions of its own.
        found, now = await store.edge("review", 1, 1)
        assert found == edge
        assert now.includes(seen)
        again = await store.feed(0, 10)
        assert (again.rollups, again.latest, again.behind) == (feed.rollups, feed.latest, False)
        objects = await store.documents(["x"])
        assert objects.rows == documents.rows
        assert objects.revision.includes(documents.revision)
        assert await outcome(store, Tally("view", 1, 2, "a")) == NOTHING_DONE
        assert codes(await commit(store, Add("seat", "1", 2))) == ["seat-taken"]
        await check_settled(store, [("review", 1), ("seat", "1"), ("view", 1)])
        assert [r.number for r in await follow(store)] == [1, 2]
        await store.close()

    async def test_xids_go_on_after_a_restart(self) -> None:
        self._needs_durable()
        store = await self.make(KINDS)
        before = await commit(store, Add("like", 1, 1))
        store = await self.reopen(store)
        after = await commit(store, Add("like", 1, 2))
        assert before.xid is not None
        assert after.xid is not None
        assert after.xid > before.xid
        assert after.seen.includes(before.seen)
        await store.close()

    def _needs_durable(self) -> None:
        if not self.durable:
            pytest.skip("durable: this store keeps nothing once it is closed")
