"""Holds: pending transfers, which are posted, voided or expire."""

from __future__ import annotations

import msgspec
import pytest

from groundswell.model import Open, Post, SettleAccount, Transfer, Void
from groundswell.store import Moved, Store
from groundswell.testing.accounts import ALICE, BOB, MINT, balances, opened, read, replayed, state
from groundswell.testing.base import NOTHING_DONE, Clock, Suite, codes, commit, drain, outcome


class HoldSuite(Suite):
    """What is held can be spent once, by whoever holds it, or is free again."""

    async def test_a_hold_counts_against_both_accounts(self, store: Store, clock: Clock) -> None:
        await opened(store, clock)
        await commit(store, Open(BOB, 0, 60))
        held = await outcome(store, Transfer("h", ALICE, BOB, 50, pending=True))
        assert held == Moved("h", "pending", 50, ALICE, 100, BOB, 0)
        assert await balances(store) == [(100, 50, 0), (0, 0, 50)]
        assert (await read(store, ALICE)).available == 50
        done = await commit(
            store,
            Transfer("a", ALICE, MINT, 51),
            Transfer("b", ALICE, BOB, 11),
            Transfer("c", BOB, ALICE, 1),
            Transfer("d", ALICE, BOB, 10),
        )
        assert codes(done) == ["insufficient-funds", "ceiling-exceeded", "insufficient-funds", True]

    async def test_a_hold_is_posted_whole_or_in_part_or_voided(
        self, store: Store, clock: Clock
    ) -> None:
        await opened(store, clock)
        await commit(
            store, *[Transfer(id_, ALICE, BOB, 20, pending=True) for id_ in ("a", "b", "c")]
        )
        assert await outcome(store, Post("a")) == Moved("a", "posted", 20, ALICE, 80, BOB, 20)
        assert await outcome(store, Post("b", 5)) == Moved("b", "posted", 5, ALICE, 75, BOB, 25)
        assert await outcome(store, Void("c")) == Moved("c", "voided", 0, ALICE, 75, BOB, 25)
        assert await balances(store) == [(75, 0, 0), (25, 0, 0)]
        assert [await state(store, id_) for id_ in "abc"] == [
            ("posted", 20),
            ("posted", 5),
            ("voided", 0),
        ]

    async def test_a_hold_is_resolved_at_most_once(self, store: Store, clock: Clock) -> None:
        await opened(store, clock)
        await commit(
            store, Transfer("t", ALICE, BOB, 1), Transfer("h", ALICE, BOB, 9, pending=True)
        )
        refused = await commit(store, Post("h", 10), Post("t"), Void("t"), Post("u"), Void("u"))
        assert codes(refused) == [*["transfer-conflict"] * 3, *["transfer-not-found"] * 2]
        assert refused.xid is None
        done = await commit(store, Post("h"), Post("h"), Void("h"), Post("h", 9))
        assert codes(done) == [True, *["transfer-conflict"] * 3]
        await commit(store, Transfer("v", ALICE, BOB, 9, pending=True), Void("v"))
        assert codes(await commit(store, Void("v"), Post("v"))) == ["transfer-conflict"] * 2
        assert await balances(store) == [(90, 0, 0), (10, 0, 0)]

    async def test_the_first_result_is_told_again_after_a_hold_was_resolved(
        self, store: Store, clock: Clock
    ) -> None:
        await opened(store, clock)
        hold = Transfer("h", ALICE, BOB, 9, pending=True, expires_in_s=1)
        first = await outcome(store, hold)
        await commit(store, Post("h"))
        assert await outcome(store, hold) == msgspec.structs.replace(first, changed=False)

    async def test_an_expired_hold_counts_for_nothing_at_once(
        self, store: Store, clock: Clock
    ) -> None:
        await opened(store, clock)
        await commit(store, Open(BOB, 0, 100))
        held = await outcome(store, Transfer("h", ALICE, BOB, 100, pending=True, expires_in_s=1.5))
        assert isinstance(held, Moved)
        assert held.expires_ms == clock.at_ms + 1500
        clock.at_ms += 1499
        assert codes(await commit(store, Transfer("a", ALICE, MINT, 1))) == ["insufficient-funds"]
        assert await state(store, "h") == ("pending", 0)
        clock.at_ms += 1
        assert await state(store, "h") == ("expired", 0)
        assert await balances(store) == [(100, 0, 0), (0, 0, 0)]
        assert codes(await commit(store, Post("h"))) == ["transfer-conflict"]
        assert codes(await commit(store, Void("h"))) == ["transfer-conflict"]
        assert codes(await commit(store, Transfer("b", ALICE, BOB, 100))) == [True]

    async def test_accounts_without_expired_holds_have_nothing_to_settle(
        self, store: Store, clock: Clock
    ) -> None:
        await opened(store, clock)
        await commit(store, Transfer("h", ALICE, BOB, 1, pending=True, expires_in_s=1))
        assert await store.expired(10) == []
        await commit(store, Post("h"))
        clock.at_ms += 1000
        assert await store.expired(10) == []

    @pytest.mark.parametrize("side", [ALICE, BOB])
    async def test_each_account_lets_go_of_an_expired_hold_by_itself(
        self, store: Store, clock: Clock, side: str
    ) -> None:
        await opened(store, clock)
        await commit(store, Transfer("h", ALICE, BOB, 100, pending=True, expires_in_s=1))
        clock.at_ms += 1000
        other = BOB if side == ALICE else ALICE
        for id_ in (side, other):
            assert SettleAccount(id_) in await store.expired(10)
            settled = await commit(store, SettleAccount(id_))
            assert settled.outcomes == (NOTHING_DONE,)
            assert SettleAccount(id_) not in await store.expired(10)
        assert await store.expired(10) == []
        assert await balances(store) == [(100, 0, 0), (0, 0, 0)]
        await drain(store)
        last = (await replayed(store))[-1]
        assert (last[ALICE].held, last[BOB].expected) == (0, 0)

    async def test_a_clock_that_goes_back_revives_no_hold(self, store: Store, clock: Clock) -> None:
        await opened(store, clock)
        await commit(store, Transfer("h", ALICE, BOB, 100, pending=True, expires_in_s=1))
        clock.at_ms += 1000
        assert codes(await commit(store, Transfer("t", ALICE, MINT, 100))) == [True]
        clock.at_ms -= 1000
        assert codes(await commit(store, Post("h"))) == ["transfer-conflict"]
        assert await balances(store) == [(0, 0, 0), (0, 0, 0)]
