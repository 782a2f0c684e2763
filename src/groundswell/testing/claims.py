"""Claims: edges of exclusive kinds that expire."""

from __future__ import annotations

from groundswell.model import Add, Counter, Effect, Remove, SettleClaim
from groundswell.store import Batch, Store
from groundswell.testing.base import (
    DONE,
    NOTHING_DONE,
    Clock,
    Suite,
    check_settled,
    codes,
    commit,
    count,
    outcome,
)


class ClaimSuite(Suite):
    """An expired claim counts for nothing, and no live one is lost."""

    async def test_a_claim_that_has_expired_is_free(self, store: Store, clock: Clock) -> None:
        done = await commit(store, Add("seat", "1A", 1, expires_in_s=2))
        assert codes(done) == [True]
        clock.at_ms += 1999
        assert codes(await commit(store, Add("seat", "1A", 2))) == ["seat-taken"]
        clock.at_ms += 1
        taken = await commit(store, Add("seat", "1A", 2, expires_in_s=60))
        assert codes(taken) == [True]
        assert taken.effects == (), "one claim for another: the count has not moved"
        assert (await store.edge("seat", "1A", 1))[0] is None
        edge = (await store.edge("seat", "1A", 2))[0]
        assert edge is not None
        assert edge.expires_ms == clock.at_ms + 60_000
        await check_settled(store, [("seat", "1A")])
        assert await count(store, "seat", "1A") == Counter(1)

    async def test_an_expired_claim_is_let_go_of(self, store: Store, clock: Clock) -> None:
        await commit(store, Add("seat", "1A", 1, expires_in_s=2), Add("seat", "1B", 1))
        assert await store.expired(10) == []
        clock.at_ms += 2000
        assert await store.expired(10) == [SettleClaim("seat", "1A")]
        assert codes(await commit(store, SettleClaim("seat", "1A"), SettleClaim("seat", "1B"))) == [
            False,
            False,
        ]
        assert await store.expired(10) == []
        await check_settled(store, [("seat", "1A"), ("seat", "1B")])
        assert await count(store, "seat", "1A") == Counter(0)
        assert await count(store, "seat", "1B") == Counter(1)

    async def test_an_expired_claim_is_nobodys_any_more(self, store: Store, clock: Clock) -> None:
        await commit(store, Add("seat", "1A", 1, expires_in_s=2))
        clock.at_ms += 2000
        gone = await commit(store, Remove("seat", "1A", 1))
        assert gone.outcomes == (NOTHING_DONE,)
        await commit(store, Add("seat", "1A", 1, expires_in_s=2))
        clock.at_ms += 2000
        again = await commit(store, Add("seat", "1A", 1))
        assert again.outcomes == (DONE,)
        edge = (await store.edge("seat", "1A", 1))[0]
        assert edge is not None
        assert (edge.created_ms, edge.expires_ms) == (clock.at_ms, None)
        await check_settled(store, [("seat", "1A")])
        assert await count(store, "seat", "1A") == Counter(1)

    async def test_a_claim_is_prolonged_and_confirmed_by_who_holds_it(
        self, store: Store, clock: Clock
    ) -> None:
        await commit(store, Add("seat", "1A", 1, expires_in_s=2))
        clock.at_ms += 1000
        longer = await commit(store, Add("seat", "1A", 1, expires_in_s=2))
        assert (longer.outcomes, longer.effects) == ((DONE,), ())
        clock.at_ms += 1500
        assert codes(await commit(store, Add("seat", "1A", 2))) == ["seat-taken"]
        assert codes(await commit(store, Add("seat", "1A", 1))) == [True]
        clock.at_ms += 10_000
        assert codes(await commit(store, Add("seat", "1A", 2))) == ["seat-taken"]
        assert (await commit(store, Add("seat", "1A", 1))).outcomes == (NOTHING_DONE,)

    async def test_a_repetition_that_comes_late_shortens_no_claim(
        self, store: Store, clock: Clock
    ) -> None:
        await commit(store, Add("seat", "1A", 1, expires_in_s=5))
        shorter = await outcome(store, Add("seat", "1A", 1, expires_in_s=2))
        assert shorter == NOTHING_DONE
        clock.at_ms += 4999
        assert codes(await commit(store, Add("seat", "1A", 2))) == ["seat-taken"]
        await commit(store, Add("seat", "1A", 1))
        assert await outcome(store, Add("seat", "1A", 1, expires_in_s=2)) == NOTHING_DONE
        clock.at_ms += 10_000
        assert codes(await commit(store, Add("seat", "1A", 2))) == ["seat-taken"]

    async def test_an_undone_batch_leaves_an_expired_claim_let_go_of(
        self, store: Store, clock: Clock
    ) -> None:
        await commit(store, Add("seat", "1A", 1, expires_in_s=2), Add("seat", "1B", 9))
        clock.at_ms += 2000
        undone = await commit(store, Add("seat", "1A", 2), Add("seat", "1B", 2), atomic=True)
        assert codes(undone) == ["not-applied", "seat-taken"]
        assert undone.xid is None
        await check_settled(store, [("seat", "1A"), ("seat", "1B")])
        assert await count(store, "seat", "1A") == Counter(0)
        two = await store.commit([Batch((Add("seat", "1A", n),)) for n in (3, 4)])
        assert [codes(one) for one in two] == [[True], ["seat-taken"]]
        assert two[0].effects == (Effect("seat", "1A", 1),)
