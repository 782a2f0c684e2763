"""Accounts and transfers: double entry and bounds, alone and together with everything else."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import msgspec
import pytest

from groundswell.accounts import account as account_of
from groundswell.model import (
    ACCOUNT,
    INT_MAX,
    Account,
    Add,
    Movement,
    Open,
    Post,
    Put,
    Transfer,
    Void,
    Write,
)
from groundswell.store import Batch, Moved, Opened, Refused, Store
from groundswell.testing.base import (
    Clock,
    Suite,
    codes,
    commit,
    drain,
    follow,
    json,
    outcome,
)

ALICE, BOB, MINT = "alice", "bob", "mint"
MINTED = 100  # what ALICE begins with


async def opened(store: Store, clock: Clock) -> None:
    """ALICE with MINTED, BOB with nothing, and MINT that issues."""
    await commit(store, Open(ALICE), Open(BOB), Open(MINT, None))
    await commit(store, Transfer("minted", MINT, ALICE, MINTED))
    clock.at_ms += 10


async def read(store: Store, id_: str) -> Account:
    """The account as it is now, without what tells its versions apart."""
    found, _ = await store.account(id_)
    assert found is not None
    return msgspec.structs.replace(found, version=0, xid=0)


async def balances(store: Store, *ids: str) -> list[tuple[int, int, int]]:
    """Balance, held and expected of accounts."""
    found = [await read(store, id_) for id_ in ids or (ALICE, BOB)]
    return [(account.balance, account.held, account.expected) for account in found]


async def state(store: Store, id_: str) -> tuple[str, int]:
    """How a transfer stands, and what it has moved."""
    found, _ = await store.movement(id_)
    assert found is not None
    return found.state, found.posted


async def replayed(store: Store) -> list[dict[str, Account]]:
    """What replicas show of all accounts, at each rollup."""
    states: list[dict[str, Account]] = []
    now: dict[str, Account] = {}
    for rollup in await follow(store):
        for document in rollup.documents:
            account = account_of(document) if document.id.startswith(ACCOUNT) else None
            if account is not None:
                now = {**now, account.id: account}
        states.append(now)
    return states


def check_history(account: str, movements: Sequence[Movement]) -> None:
    """From the oldest on, each balance is what the one before and the transfer come to."""
    balance = 0
    for movement in movements:
        moved = 0 if movement.pending else movement.amount
        if account == movement.debit:
            balance -= moved
            assert movement.debit_balance == balance, movement
        else:
            balance += moved
            assert movement.credit_balance == balance, movement


def check_bounds(accounts: Sequence[Account]) -> None:
    """Double entry, and what every account promises."""
    assert sum(account.balance for account in accounts) == 0
    assert sum(account.held for account in accounts) >= 0
    for account in accounts:
        assert account.held >= 0
        assert account.expected >= 0
        assert account.floor is None or account.balance - account.held >= account.floor
        assert account.ceiling is None or account.balance + account.expected <= account.ceiling


class AccountSuite(Suite):
    """Money is neither made nor lost, and no bound is ever passed."""

    # --- accounts -------------------------------------------------------------------------------

    async def test_an_account_begins_with_nothing(self, store: Store) -> None:
        assert (await store.account(ALICE))[0] is None
        done = await outcome(store, Open(ALICE, -5, 10))
        assert done == Opened(Account(id=ALICE, floor=-5, ceiling=10))
        assert await read(store, ALICE) == Account(id=ALICE, floor=-5, ceiling=10)
        assert (await read(store, ALICE)).available == 5

    async def test_opening_again_changes_the_bounds_alone(self, store: Store, clock: Clock) -> None:
        await opened(store, clock)
        done = await commit(store, Open(ALICE), Open(ALICE, 1, 200), Open(ALICE, 1, 200))
        assert [getattr(o, "changed", None) for o in done.outcomes] == [False, True, False]
        assert await read(store, ALICE) == Account(id=ALICE, balance=MINTED, floor=1, ceiling=200)

    async def test_bounds_that_do_not_hold_are_refused(self, store: Store, clock: Clock) -> None:
        await opened(store, clock)
        await commit(store, Transfer("h", ALICE, BOB, 30, pending=True))
        done = await commit(
            store,
            Open(ALICE, MINTED - 29),
            Open(ALICE, 0, MINTED - 1),
            Open(BOB, 0, 29),
            Open("c", 1),
        )
        assert codes(done) == [
            "insufficient-funds",
            "ceiling-exceeded",
            "ceiling-exceeded",
            "insufficient-funds",
        ]
        assert (await store.account("c"))[0] is None
        assert await read(store, ALICE) == Account(id=ALICE, balance=MINTED, held=30)
        assert codes(await commit(store, Open(ALICE, MINTED - 30, MINTED), Open(BOB, 0, 30))) == [
            True,
            True,
        ]

    # --- transfers ------------------------------------------------------------------------------

    async def test_a_transfer_moves_the_amount_once(self, store: Store, clock: Clock) -> None:
        await opened(store, clock)
        first = await outcome(store, Transfer("t", ALICE, BOB, 30))
        assert first == Moved("t", "posted", 30, ALICE, 70, BOB, 30)
        await commit(store, Transfer("u", ALICE, BOB, 1))
        again = await outcome(store, Transfer("t", ALICE, BOB, 30))
        assert again == msgspec.structs.replace(first, changed=False)
        assert await balances(store) == [(69, 0, 0), (31, 0, 0)]

    async def test_an_id_repeated_within_one_commit_moves_once(
        self, store: Store, clock: Clock
    ) -> None:
        await opened(store, clock)
        one, two = await store.commit([Batch((Transfer("t", ALICE, BOB, 30),))] * 2)
        assert codes(one) == [True]
        assert codes(two) == [False]
        assert two.xid is None
        assert await balances(store) == [(70, 0, 0), (30, 0, 0)]

    @pytest.mark.parametrize(
        "other",
        [
            Transfer("t", ALICE, BOB, 31, pending=True, expires_in_s=5),
            Transfer("t", BOB, ALICE, 30, pending=True, expires_in_s=5),
            Transfer("t", ALICE, MINT, 30, pending=True, expires_in_s=5),
            Transfer("t", "nobody", "either", 30, pending=True, expires_in_s=5),
            Transfer("t", ALICE, BOB, 30),
            Transfer("t", ALICE, BOB, 30, pending=True),
            Transfer("t", ALICE, BOB, 30, pending=True, expires_in_s=6),
        ],
    )
    async def test_an_id_with_other_contents_is_a_conflict(
        self, store: Store, clock: Clock, other: Transfer
    ) -> None:
        await opened(store, clock)
        made = Transfer("t", ALICE, BOB, 30, pending=True, expires_in_s=5)
        assert codes(await commit(store, made)) == [True]
        assert codes(await commit(store, other)) == ["transfer-conflict"]
        assert await balances(store) == [(100, 30, 0), (0, 0, 30)]

    async def test_bounds_and_unknown_accounts_refuse_a_transfer(
        self, store: Store, clock: Clock
    ) -> None:
        await opened(store, clock)
        await commit(store, Open(BOB, 0, 50))
        done = await commit(
            store,
            Transfer("a", ALICE, BOB, 51),
            Transfer("b", ALICE, MINT, 101),
            Transfer("c", ALICE, "nobody", 1),
            Transfer("d", "nobody", ALICE, 1),
            Transfer("e", ALICE, BOB, 50),
            Transfer("f", ALICE, BOB, 1),
        )
        assert codes(done) == [
            "ceiling-exceeded",
            "insufficient-funds",
            "account-not-found",
            "account-not-found",
            True,
            "ceiling-exceeded",
        ]
        assert await balances(store) == [(50, 0, 0), (50, 0, 0)]
        assert (await store.movement("a"))[0] is None, "a refused id is free again"
        assert codes(await commit(store, Transfer("a", ALICE, MINT, 1))) == [True]

    async def test_balances_stay_within_64_bits(self, store: Store, clock: Clock) -> None:
        await opened(store, clock)
        rest = INT_MAX - MINTED
        done = await commit(
            store,
            Transfer("a", MINT, ALICE, rest + 1),
            Transfer("b", MINT, ALICE, rest),
            Transfer("c", MINT, BOB, 1),
            Transfer("d", ALICE, BOB, INT_MAX),
        )
        assert codes(done) == ["insufficient-funds", True, "insufficient-funds", True]
        assert await balances(store, ALICE, BOB, MINT) == [
            (0, 0, 0),
            (INT_MAX, 0, 0),
            (-INT_MAX, 0, 0),
        ]
        await drain(store)
        check_bounds(list((await replayed(store))[-1].values()))

    async def test_writes_of_one_commit_see_those_before_them(
        self, store: Store, clock: Clock
    ) -> None:
        await opened(store, clock)
        batches = [
            Batch((Transfer("a", ALICE, BOB, 60),)),
            Batch((Transfer("b", ALICE, BOB, 60),)),
            Batch(
                (Transfer("c", BOB, ALICE, 50), Open("carol"), Transfer("d", ALICE, "carol", 90))
            ),
            Batch((Transfer("e", ALICE, BOB, 5, pending=True), Post("e", 2), Void("e"))),
        ]
        done = await store.commit(batches)
        assert [codes(one) for one in done] == [
            [True],
            ["insufficient-funds"],
            [True, True, True],
            ["insufficient-funds", "transfer-not-found", "transfer-not-found"],
        ]
        assert await balances(store, ALICE, BOB, "carol") == [(0, 0, 0), (10, 0, 0), (90, 0, 0)]

    # --- together with everything else ----------------------------------------------------------

    async def test_a_purchase_happens_whole_or_not_at_all(self, store: Store, clock: Clock) -> None:
        await opened(store, clock)

        def purchase(buyer: int, seat: str) -> list[Write]:
            return [
                Transfer(f"pay-{seat}-{buyer}", ALICE, BOB, 60),
                Add("seat", seat, buyer),
                Put(f"order-{seat}-{buyer}", "order", json(seat=seat)),
            ]

        assert codes(await commit(store, *purchase(1, "1A"), atomic=True)) == [True] * 3
        poor = await commit(store, *purchase(2, "1A"), atomic=True)
        assert codes(poor) == ["insufficient-funds", "not-applied", "not-applied"]
        await commit(store, Transfer("more", MINT, ALICE, 60))
        assert codes(await commit(store, *purchase(2, "1A"), atomic=True)) == [
            "not-applied",
            "seat-taken",
            "not-applied",
        ]
        assert await balances(store) == [(100, 0, 0), (60, 0, 0)]
        assert (await store.movement("pay-1A-2"))[0] is None
        assert (await store.documents(["order-1A-2"])).rows == (None,)
        assert codes(await commit(store, *purchase(2, "1B"), atomic=True)) == [True] * 3

    async def test_replicas_get_accounts_as_objects(self, store: Store, clock: Clock) -> None:
        await opened(store, clock)
        done = await commit(
            store, Transfer("t", ALICE, BOB, 1), Transfer("h", ALICE, BOB, 2, pending=True)
        )
        await drain(store)
        now = (await replayed(store))[-1]
        found = await store.documents([ACCOUNT + ALICE, ACCOUNT + BOB, ACCOUNT + "nobody"])
        assert found.rows[2] is None
        for id_, row in zip((ALICE, BOB), found.rows, strict=False):
            assert row is not None
            assert (row.type, row.xid) == ("account", done.xid)
            assert account_of(row) == now[id_] == (await store.account(id_))[0]
        check_bounds(list(now.values()))

    async def test_history_is_newest_first_and_goes_on_where_it_was(
        self, store: Store, clock: Clock
    ) -> None:
        await opened(store, clock)
        for n in range(5):
            await commit(
                store,
                Transfer(f"b{n}", ALICE, BOB, 2, pending=n == 3),
                Transfer(f"a{n}", BOB, ALICE, 1),
            )
            clock.at_ms += 5 if n % 2 else -3  # clocks are set back
        whole = (await store.movements(BOB, 100)).rows
        places = [movement.place for movement in whole]
        assert places == sorted(places, reverse=True)
        check_history(BOB, whole[::-1])
        assert len(whole) == 10
        listed: list[Movement] = []
        cursor = None
        while len(listed) < 10:
            page = await store.movements(BOB, 3, cursor)
            listed += page.rows
            cursor = page.next
        assert (tuple(listed), cursor) == (whole, None)
        assert len((await store.movements(ALICE, 100)).rows) == 11
        assert (await store.movements("nobody", 10)).rows == ()

    async def test_many_tasks_on_a_hot_account_keep_every_bound(
        self, store: Store, clock: Clock
    ) -> None:
        await opened(store, clock)
        await commit(store, *[Open(f"buyer{n}", 0, 4) for n in range(10)])

        async def buy(task: int) -> int:
            sold = 0
            for n in range(6):
                done = await commit(
                    store, Transfer(f"{task}-{n}", ALICE, f"buyer{(task + n) % 10}", 3)
                )
                sold += codes(done) == [True]
                again = await commit(
                    store, Transfer(f"{task}-{n}", ALICE, f"buyer{(task + n) % 10}", 3)
                )
                assert codes(done) == [True] or isinstance(again.outcomes[0], Refused)
            return sold

        sold = sum(await asyncio.gather(*(buy(task) for task in range(8))))
        assert sold == 10, "each buyer has room for one purchase of three"
        assert await balances(store, ALICE) == [(MINTED - 30, 0, 0)]

    async def test_money_is_conserved_at_every_revision(
        self, store: Store, clock: Clock, seed: int
    ) -> None:
        """Any sequence of transfers, holds, posts, voids and expiries."""
        draw = random.Random(seed)
        names = [ALICE, BOB, MINT, "carol", "dave"]
        await opened(store, clock)
        await commit(store, Open("carol", -20, 40), Open("dave", 0, 15))
        for n in range(150):
            await store.commit([Batch(tuple(_random(draw, names, n)), draw.random() < 0.4)])
            clock.at_ms += draw.choice([0, 0, 1, 300, 1000])
            if draw.random() < 0.3:
                await store.rollup(draw.randint(1, 5))
            if draw.random() < 0.1:
                for settle in await store.expired(3):
                    await commit(store, settle)
            check_bounds([await read(store, id_) for id_ in names])
        await drain(store)
        for accounts in await replayed(store):
            check_bounds(list(accounts.values()))
        clock.at_ms += 10_000
        for settle in await store.expired(1_000):
            await commit(store, settle)
        assert await store.expired(1_000) == []
        await drain(store)
        last = (await replayed(store))[-1]
        assert {id_: last[id_] for id_ in names} == {
            id_: (await store.account(id_))[0] for id_ in names
        }


def _random(draw: random.Random, names: list[str], n: int) -> list[Write]:
    writes: list[Write] = []
    for m in range(draw.randint(1, 4)):
        debit, credit = draw.sample(names, 2)
        id_ = f"t{draw.randint(max(n - 6, 0), n)}-{draw.randint(0, 3)}"
        pending = draw.random() < 0.5
        choices: list[Write] = [
            Transfer(
                f"t{n}-{m}",
                debit,
                credit,
                draw.randint(1, 12),
                pending,
                draw.choice([None, 0.3, 2]) if pending else None,
            ),
            Post(id_, draw.choice([None, 1, 3])),
            Void(id_),
            Open(debit, draw.choice([None, 0, -10, 5]), draw.choice([None, 30])),
        ]
        writes.append(draw.choice(choices))
    return writes
