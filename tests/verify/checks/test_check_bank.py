from __future__ import annotations

import random
from collections import Counter
from itertools import permutations
from typing import NamedTuple

from groundswell.verify.checks import bank
from groundswell.verify.checks.facts import Balance, Paid
from groundswell.verify.history import NEVER
from verify.checks.brute import Call, compare, linearizes, plus, shows, span

ROUNDS = 10_000
INITIAL = {"a": 3, "b": 2, "c": 0}


class Reads(NamedTuple):
    transfers: list[Paid]
    balances: list[Balance]


class Record(NamedTuple):
    """An account's history, of `a`, and where it ended."""

    transfers: list[Paid]
    history: list[str]
    final: int


def transfer(draw: random.Random, op: int) -> Paid:
    start, end = span(draw, 3 * op)
    debit, credit = draw.sample("abc", 2)
    end = end if draw.random() < 0.8 else NEVER
    return Paid(op, start, end, f"t{op}", debit, credit, draw.randint(1, 2))


def reads(draw: random.Random) -> Reads:
    drawn = Reads([], [])
    accounts = Counter(INITIAL)
    for op in range(draw.randint(2, 8)):
        if draw.random() < 0.5:
            paid = transfer(draw, op)
            drawn.transfers.append(paid)
            if paid.end < NEVER or draw.random() < 0.5:
                accounts[paid.debit] -= paid.amount
                accounts[paid.credit] += paid.amount
        else:
            account = draw.choice("abc")
            wrong = draw.choice([-1, 1]) if draw.random() < 0.2 else 0
            start, end = span(draw, 3 * op)
            drawn.balances.append(Balance(op, start, end, account, accounts[account] + wrong))
    return drawn


def effect(paid: Paid, account: str) -> int:
    return paid.amount * ((paid.credit == account) - (paid.debit == account))


def in_bounds(drawn: Reads) -> bool:
    for read in drawn.balances:
        least = most = INITIAL[read.account]
        for paid in drawn.transfers:
            by = effect(paid, read.account)
            if paid.end < read.start:
                least, most = least + by, most + by
            elif paid.start <= read.end:
                least, most = least + min(by, 0), most + max(by, 0)
        if not least <= read.value <= most:
            return False
    return True


def one_order(drawn: Reads) -> bool:
    for account, initial in INITIAL.items():
        calls = [Call(one.start, one.end, plus(effect(one, account))) for one in drawn.transfers]
        calls += [
            Call(one.start, one.end, shows(one.value))
            for one in drawn.balances
            if one.account == account
        ]
        if not linearizes(calls, initial):
            return False
    return True


def record(draw: random.Random) -> Record:
    """Of a bank that keeps `a` at 0 or more; half of the time with something changed."""
    transfers = [transfer(draw, op) for op in range(draw.randint(1, 5))]
    happened = [
        paid
        for paid in sorted(transfers, key=lambda paid: min(paid.end, paid.start + 6))
        if "a" in (paid.debit, paid.credit) and (paid.end < NEVER or draw.random() < 0.7)
    ]
    history = [paid.id for paid in happened]
    final = INITIAL["a"] + sum(effect(paid, "a") for paid in happened)
    if history and draw.random() < 0.4:
        change = draw.choice(["again", "lost", "moved", "final", "alien"])
        if change == "again":
            history.insert(draw.randrange(len(history)), draw.choice(history))
        elif change == "lost":
            history.remove(draw.choice(history))
        elif change == "moved":
            draw.shuffle(history)
        elif change == "alien":
            history.append(draw.choice(["t9", *(paid.id for paid in transfers)]))
        else:
            final += draw.choice([-1, 1])
    return Record(transfers, history, final)


def has_its_order(drawn: Record) -> bool:
    """Whether the history is one of those that the transfers of the account allow, of them all."""
    of = [one for one in drawn.transfers if "a" in (one.debit, one.credit)]
    for size in range(len(of) + 1):
        for some in permutations(of, size):
            missing = [one for one in of if one not in some]
            if (
                [one.id for one in some] == drawn.history
                and all(one.end == NEVER for one in missing)
                and not any(
                    later.end < one.start for i, one in enumerate(some) for later in some[i:]
                )
            ):
                return True
    return False


def has_its_sum(drawn: Record) -> bool:
    by_id = {one.id: one for one in drawn.transfers}
    moved = [by_id[id] for id in drawn.history if id in by_id]
    after = [
        INITIAL["a"] + sum(effect(one, "a") for one in moved[:n]) for n in range(len(moved) + 1)
    ]
    below = any(
        one.debit == "a" and balance < 0 for one, balance in zip(moved, after[1:], strict=True)
    )
    return after[-1] == drawn.final and not below


def test_bounds_are_what_they_say(seed: int) -> None:
    compare(seed, ROUNDS, reads, lambda one: bank.bounded(INITIAL, *one), in_bounds)


def test_bounds_allow_all_that_has_an_order(seed: int) -> None:
    allowed = 0
    for i in range(ROUNDS // 2):
        drawn = reads(random.Random(seed + i))
        if one_order(drawn):
            allowed += 1
            assert bank.bounded(INITIAL, *drawn) is None, f"seed {seed + i}: {drawn}"
    assert allowed > ROUNDS // 10


def test_the_order_is_as_every_history_there_may_be(seed: int) -> None:
    compare(
        seed,
        ROUNDS,
        record,
        lambda one: bank.ordered("a", one.history, one.transfers),
        has_its_order,
    )


def test_replays_are_as_the_sums(seed: int) -> None:
    compare(
        seed,
        ROUNDS,
        record,
        lambda one: bank.replayed(
            "a", one.history, one.transfers, initial=INITIAL["a"], final=one.final, floor=0
        ),
        has_its_sum,
    )


def test_the_sum_of_all_balances_stays() -> None:
    assert bank.conserved(INITIAL, {"a": 0, "b": 0, "c": 5}) is None
    assert bank.conserved(INITIAL, {"a": 0, "b": 0, "c": 6}) is not None


def test_no_balance_is_below_the_floor() -> None:
    balances = [Balance(0, 0, 1, "a", 0), Balance(1, 2, 3, "a", -1)]
    found = bank.floors(balances, 0)
    assert found is not None
    assert found.ops == (1,)
    assert bank.floors(balances, -1) is None


def test_what_was_over_before_another_began_stands_before_it() -> None:
    transfers = [Paid(0, 0, 1, "t0", "b", "a", 1), Paid(1, 2, 3, "t1", "a", "c", 1)]
    assert bank.ordered("a", ["t0", "t1"], transfers) is None
    found = bank.ordered("a", ["t1", "t0"], transfers)
    assert found is not None
    assert found.ops == (0, 1)
    found = bank.replayed("a", ["t1", "t0"], transfers, initial=0, final=0, floor=0)
    assert found is not None
    assert found.ops == (1,)


def test_what_was_acknowledged_is_not_lost_and_what_failed_is_not_there() -> None:
    transfers = [Paid(0, 0, 1, "t0", "b", "a", 1), Paid(1, 2, NEVER, "t1", "a", "c", 1)]
    assert bank.ordered("a", ["t0"], transfers) is None
    found = bank.ordered("a", ["t1"], transfers)
    assert found is not None
    assert found.ops == (0,)
    assert bank.ordered("a", ["t0", "failed"], transfers) is not None
    assert bank.ordered("c", ["t0"], transfers) is not None
