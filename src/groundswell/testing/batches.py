"""Batches, tallies, and what `commit` answers."""

from __future__ import annotations

from groundswell.model import Add, Counter, Delete, Effect, Put, Remove, Tally
from groundswell.store import Batch, CountChange, Refused, Store
from groundswell.testing.base import (
    DONE,
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
    unlikes,
)


class BatchSuite(Suite):
    """A commit is one transaction; each batch in it has its own answer."""

    # --- tallies --------------------------------------------------------------------------------

    async def test_tallies_without_an_id_count_each_time(self, store: Store) -> None:
        done = await commit(store, Tally("view", 1), Tally("view", 1, 41), Tally("view", 2))
        assert done.outcomes == (DONE,) * 3
        assert set(done.effects) == {Effect("view", 1, 42), Effect("view", 2, 1)}
        await commit(store, Tally("view", 1))
        await check_settled(store, [("view", 1), ("view", 2)])
        assert await count(store, "view", 1) == Counter(43)

    async def test_a_tally_id_counts_once_in_one_commit_and_across(self, store: Store) -> None:
        done = await commit(store, Tally("view", 1, 5, "a"), Tally("view", 1, 5, "a"))
        assert done.outcomes == (DONE, NOTHING_DONE)
        assert await outcome(store, Tally("view", 1, 5, "a")) == NOTHING_DONE
        await drain(store)
        assert await outcome(store, Tally("view", 1, 7, "a")) == NOTHING_DONE
        assert await outcome(store, Tally("view", 1, 5, "b")) == DONE
        await check_settled(store, [("view", 1)])
        assert await count(store, "view", 1) == Counter(10)

    async def test_a_tally_id_belongs_to_its_kind_and_target(self, store: Store) -> None:
        done = await commit(
            store, Tally("view", 1, 1, "a"), Tally("view", 2, 1, "a"), Tally("play", "1", 1, "a")
        )
        assert done.outcomes == (DONE,) * 3

    async def test_a_tally_id_of_an_undone_batch_is_free(self, store: Store) -> None:
        await commit(store, Add("seat", "1", 1))
        undone = await commit(
            store, Tally("view", 1, 1, "a"), Tally("view", 1), Add("seat", "1", 2), atomic=True
        )
        assert codes(undone) == ["not-applied", "not-applied", "seat-taken"]
        assert await outcome(store, Tally("view", 1, 1, "a")) == DONE
        await check_settled(store, [("view", 1)])
        assert await count(store, "view", 1) == Counter(1)

    # --- atomic and not -------------------------------------------------------------------------

    async def test_a_refused_write_leaves_the_others_of_its_batch_standing(
        self, store: Store
    ) -> None:
        await commit(store, Add("seat", "1", 1))
        done = await commit(store, Add("like", 1, 1), Add("seat", "1", 2), Add("like", 1, 2))
        assert codes(done) == [True, "seat-taken", True]
        await check_settled(store, [("like", 1), ("seat", "1")])
        assert await count(store, "like", 1) == Counter(2)

    async def test_an_atomic_batch_happens_whole(self, store: Store) -> None:
        done = await commit(
            store,
            Add("like", 1, 1),
            Tally("view", 1),
            Put("x", "t", json(), 0),
            Add("seat", "1", 1),
            Remove("like", 1, 9),
            atomic=True,
        )
        assert codes(done) == [True, True, True, True, False]
        assert await store.backlog() == 4

    async def test_an_atomic_batch_with_a_refusal_does_not_happen_at_all(
        self, store: Store
    ) -> None:
        await commit(
            store, Add("review", 1, 1, 3), Put("x", "t", json(n=1)), Put("gone", "t", json())
        )
        await commit(store, Delete("gone"))
        await drain(store)
        before = await store.documents(["x", "gone", "new"])
        undone = await commit(
            store,
            Add("review", 1, 1, 5),
            Add("review", 1, 2, 5),
            Remove("review", 1, 1),
            Add("seat", "1", 1),
            Remove("seat", "1", 1),
            Tally("view", 1),
            Put("x", "t", json(n=2)),
            Put("gone", "t", json(n=2)),
            Put("new", "t", json()),
            Put("x", "t", json(n=3), 1),
            Add("like", 1, 1),
            atomic=True,
        )
        assert codes(undone) == [*["not-applied"] * 9, "version-conflict", "not-applied"]
        assert (undone.xid, undone.effects) == (None, ())
        assert (await store.documents(["x", "gone", "new"])).rows == before.rows
        edge, _ = await store.edge("review", 1, 1)
        assert edge is not None
        assert edge.value == 3
        assert (await store.edge("review", 1, 2))[0] is None
        assert await store.rollup(10) is None
        assert await outcome(store, Add("seat", "1", 2)) == DONE
        await check_settled(store, [("review", 1), ("seat", "1"), ("view", 1), ("like", 1)])

    async def test_the_refused_write_carries_its_own_reason(self, store: Store) -> None:
        await commit(store, Put("x", "t", json(n=1)))
        undone = await commit(
            store,
            Add("like", 1, 1),
            Put("x", "t", json(n=2), 7),
            Put("y", "t", json()),
            atomic=True,
        )
        own, other = undone.outcomes[1], undone.outcomes[2]
        assert isinstance(own, Refused)
        assert (own.code, own.version) == ("version-conflict", 1)
        assert isinstance(other, Refused)
        assert (other.code, other.version) == ("not-applied", None)

    async def test_an_undone_batch_leaves_the_others_of_its_commit_standing(
        self, store: Store
    ) -> None:
        await commit(store, Add("seat", "1", 1), Add("like", 1, 1))
        first, undone, last = await store.commit(
            [
                Batch((Add("like", 1, 2), Remove("like", 1, 1), Put("x", "t", json(n=1)))),
                Batch(
                    (
                        Add("like", 1, 1),
                        Remove("like", 1, 2),
                        Put("x", "t", json(n=2)),
                        Tally("view", 1, 1, "a"),
                        Add("seat", "1", 2),
                    ),
                    atomic=True,
                ),
                Batch((Add("like", 1, 3), Tally("view", 1, 1, "a"), Put("x", "t", json(n=3), 1))),
            ]
        )
        assert codes(first) == [True, True, True]
        assert codes(undone) == [*["not-applied"] * 4, "seat-taken"]
        assert codes(last) == [True, True, True]
        assert first.xid == last.xid is not None
        await check_settled(store, [("like", 1), ("view", 1)])
        assert await count(store, "like", 1) == Counter(2)
        assert (await store.edge("like", 1, 1))[0] is None

    async def test_a_later_batch_sees_what_an_earlier_one_did(self, store: Store) -> None:
        answers = await store.commit(
            [
                Batch((Add("seat", "1", 1), Put("x", "t", json(n=1), 0))),
                Batch((Add("seat", "1", 2), Put("x", "t", json(n=2), 0)), atomic=True),
                Batch((Remove("seat", "1", 1), Delete("x", 1))),
                Batch((Add("seat", "1", 2), Put("x", "t", json(n=2), 0)), atomic=True),
            ]
        )
        assert [codes(a) for a in answers] == [
            [True, True],
            ["seat-taken", "not-applied"],
            [True, True],
            [True, True],
        ]

    async def test_writes_of_a_commit_apply_in_order(self, store: Store) -> None:
        done = await commit(
            store,
            Add("review", 1, 1, 1),
            Add("review", 1, 1, 2),
            Remove("review", 1, 1),
            Remove("review", 1, 1),
            Add("review", 1, 1, 3),
        )
        assert codes(done) == [True, True, True, False, True]
        assert done.effects == (Effect("review", 1, 1, 3),)
        await check_settled(store, [("review", 1)])
        assert await count(store, "review", 1) == Counter(1, 3)

    async def test_nothing_to_commit_is_nothing_done(self, store: Store) -> None:
        assert await store.commit([]) == []
        [empty] = await store.commit([Batch(())])
        assert (empty.outcomes, empty.xid, empty.effects) == ((), None, ())
        assert await store.rollup(10) is None

    # --- the queue ------------------------------------------------------------------------------

    async def test_a_commit_queues_one_event_per_key(self, store: Store) -> None:
        await store.commit(
            [
                Batch((*likes(1, range(10)), Put("x", "t", json(n=1)))),
                Batch((*likes(1, range(20)), *likes(2, range(2)), Put("x", "t", json(n=2)))),
                Batch((Tally("view", 1), Tally("view", 1, 3))),
            ]
        )
        assert await store.backlog() == 4  # like 1, like 2, view 1, object x
        rolled = await store.rollup(100)
        assert rolled is not None
        assert rolled.events == 4

    async def test_a_commit_that_changes_nothing_queues_nothing(self, store: Store) -> None:
        await commit(store, Add("like", 1, 1))
        before = await store.head()
        await commit(store, Add("like", 1, 1), Remove("like", 1, 2), Delete("x"))
        assert await store.backlog() == 1
        assert (await store.head()).revision.includes(before.revision)

    async def test_a_commit_whose_changes_cancel_out_moves_no_count(self, store: Store) -> None:
        await commit(store, Add("like", 1, 1), Add("review", 1, 1, 2))
        zero = await commit(
            store,
            Add("like", 1, 2),
            Remove("like", 1, 1),
            Add("review", 1, 2, 2),
            Remove("review", 1, 1),
        )
        assert zero.effects == ()
        assert zero.xid is not None
        assert await store.backlog() == 4
        await check_settled(store, [("like", 1), ("review", 1)])
        rolled = (await store.counters([("like", 1)])).revision
        assert rolled.sees(zero.xid)

    async def test_batches_that_cancel_each_other_out_queue_one_event(self, store: Store) -> None:
        add, remove = await store.commit(
            [Batch(tuple(likes(1, range(3)))), Batch(tuple(unlikes(1, range(3))))]
        )
        assert add.effects == (Effect("like", 1, 3),)
        assert remove.effects == (Effect("like", 1, -3),)
        assert await store.backlog() == 1
        await check_settled(store, [("like", 1)])
        assert [rollup.counts for rollup in await follow(store)] == [
            (CountChange("like", 1, 0, 0),)
        ]

    # --- what a commit answers ------------------------------------------------------------------

    async def test_xid_is_shared_by_the_batches_that_changed_something(self, store: Store) -> None:
        first = await commit(store, Add("like", 1, 1))
        one, none, two = await store.commit(
            [Batch((Add("like", 1, 2),)), Batch((Add("like", 1, 1),)), Batch((Add("like", 1, 3),))]
        )
        assert one.xid == two.xid is not None
        assert none.xid is None
        assert first.xid != one.xid
        assert [one.slot, none.slot, two.slot] == [0, 1, 2]

    async def test_effects_name_each_key_once(self, store: Store) -> None:
        done = await commit(store, *likes(1, range(4)), *unlikes(1, range(1)), *likes(2, [1]))
        assert set(done.effects) == {Effect("like", 1, 3), Effect("like", 2, 1)}
        assert len(done.effects) == 2

    async def test_seen_includes_the_commit_itself_and_all_before(self, store: Store) -> None:
        xids: list[int] = []
        for source in range(4):
            head = (await store.head()).revision
            done = await commit(store, Add("like", 1, source))
            assert done.xid is not None
            assert not head.sees(done.xid)
            xids.append(done.xid)
            assert all(done.seen.sees(xid) for xid in xids)
            assert done.seen.includes(head)
            assert (await store.head()).revision.includes(done.seen)

    async def test_seen_of_an_unchanged_or_refused_write_includes_what_it_found(
        self, store: Store
    ) -> None:
        taken = await commit(store, Add("seat", "1", 1), Add("like", 1, 1))
        assert taken.xid is not None
        for late in (Add("seat", "1", 2), Add("like", 1, 1)):
            done = await commit(store, late)
            assert done.xid is None
            assert done.seen.sees(taken.xid)
            assert (await store.head()).revision.includes(done.seen)
