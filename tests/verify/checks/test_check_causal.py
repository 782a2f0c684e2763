from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from typing import Any

from groundswell.verify.checks import causal
from groundswell.verify.checks.facts import Txn
from verify.checks.brute import compare

ROUNDS = 10_000
Made = tuple[int, dict[str, Any], dict[str, Any]]  # session, what it read, what it wrote


def drawn(draw: random.Random) -> list[Txn]:
    """Of sessions that see states of one order, half of the time with a read changed; or anything.

    Each session has seen some of the transactions, with all that they had seen themselves.
    """
    txns: list[Txn] = []
    seen: list[set[int]] = [set() for _ in range(3)]
    pasts: list[set[int]] = []
    happened = draw.random() < 0.7
    merging = draw.random()
    for i in range(draw.randint(3, 8)):
        session = draw.randrange(3)
        if txns and draw.random() < merging:
            one = draw.randrange(i)
            seen[session] |= pasts[one] | {one}
        keys = draw.sample("xyz", draw.choice([1, 1, 2, 3])) if draw.random() < 0.7 else ["x"]
        wrote = {key: draw.random() < 0.5 for key in keys}
        both = draw.random() < 0.2
        writes: dict[str, Hashable] = {key: f"{key}{i}" for key in keys if wrote[key] or both}
        reads = {
            key: latest(txns, seen[session], key) if happened else any_of(draw, txns, key)
            for key in keys
            if not wrote[key] or both
        }
        unknown = not reads and draw.random() < 0.2
        txns.append(Txn(i, 10 + i if unknown else session, reads, writes))
        pasts.append(set() if unknown else set(seen[session]))
        if not unknown:
            seen[session].add(i)
    if happened and draw.random() < 0.8:
        change(draw, txns)
    return txns


def latest(txns: Sequence[Txn], seen: set[int], key: str) -> Hashable | None:
    return next((txns[i].writes[key] for i in sorted(seen)[::-1] if key in txns[i].writes), None)


def any_of(draw: random.Random, txns: Sequence[Txn], key: str) -> Hashable | None:
    written: list[Any] = [txn.writes[key] for txn in txns if key in txn.writes]
    return draw.choice([None, *written, *written, *written])  # type: ignore[no-any-return]


def change(draw: random.Random, txns: list[Txn]) -> None:
    i = draw.randrange(len(txns))
    for key in txns[i].reads:
        txns[i].reads[key] = "never" if draw.random() < 0.02 else any_of(draw, txns, key)


def some_order(txns: Sequence[Txn]) -> bool:
    """Whether a total order keeps CO, in which each reads the last write of its causal past."""
    n = len(txns)
    wrote = {(key, value): i for i, txn in enumerate(txns) for key, value in txn.writes.items()}
    before = [[False] * n for _ in range(n)]
    for j, txn in enumerate(txns):
        for i in range(j):
            before[i][j] = txns[i].session == txn.session
        for item in txn.reads.items():
            if item[1] is not None:
                if item not in wrote:
                    return False
                before[wrote[item]][j] = True
    for k in range(n):
        for i in range(n):
            for j in range(n):
                before[i][j] = before[i][j] or (before[i][k] and before[k][j])

    def fits(order: list[int], j: int) -> bool:
        for key, value in txns[j].reads.items():
            known = [i for i in order if before[i][j] and key in txns[i].writes]
            if value != (txns[known[-1]].writes[key] if known else None):
                return False
        return True

    def search(order: list[int]) -> bool:
        for j in range(n):
            if j not in order and all(i in order for i in range(n) if before[i][j]):
                if not fits(order, j):
                    continue
                if len(order) == n - 1 or search([*order, j]):
                    return True
        return False

    return search([])


def test_it_is_as_a_search_of_every_order(seed: int) -> None:
    found = compare(seed, ROUNDS, drawn, causal.causal, some_order)
    kinds = {violation.what.partition(":")[0] for _, violation in found}
    assert kinds == {"ThinAirRead", "WriteCOInitRead", "CyclicCO", "WriteCORead", "CyclicCF"}


def shown(*txns: Made) -> tuple[str, tuple[int, ...]]:
    found = causal.causal([Txn(op, *txn) for op, txn in enumerate(txns)])
    return (found.what.partition(":")[0], found.ops) if found else ("", ())


def test_a_reply_without_its_question_is_found() -> None:
    question, reply = {"question": 1}, {"reply": 2}
    asked = [(1, {}, question), (2, question, {}), (2, {}, reply)]
    assert shown(*asked, (3, {"reply": 2, "question": 1}, {})) == ("", ())
    nothing: dict[str, Any] = {"reply": 2, "question": None}
    assert shown(*asked, (3, nothing, {})) == ("WriteCOInitRead", (0, 3))
    assert shown(*asked, (3, reply, {}), (3, {"question": None}, {})) == ("WriteCOInitRead", (0, 4))


def test_an_older_value_is_found() -> None:
    txns = [(1, {}, {"x": 1}), (1, {}, {"x": 2}), (2, {"x": 2}, {}), (2, {"x": 1}, {})]
    assert shown(*txns) == ("WriteCORead", (0, 1, 3))


def test_half_of_a_write_is_found() -> None:
    txns = [(1, {}, {"x": 1, "y": 1}), (2, {}, {"x": 2, "y": 2}), (3, {"x": 1, "y": 2}, {})]
    assert shown(*txns) == ("CyclicCF", (0, 1, 2))
    assert shown(*txns[::2]) == ("ThinAirRead", (1,))
    assert shown(txns[0], (3, {"x": 1, "y": None}, {})) == ("WriteCOInitRead", (0, 1))


def test_two_who_do_not_agree_on_the_order_are_found() -> None:
    writes: list[Made] = [(1, {}, {"x": 1}), (2, {}, {"x": 2})]
    one: list[Made] = [(3, {"x": 1}, {}), (3, {"x": 2}, {})]
    other: list[Made] = [(4, {"x": 2}, {}), (4, {"x": 1}, {})]
    assert shown(*writes, *one) == ("", ())
    assert shown(*writes, *other) == ("", ())
    assert shown(*writes, *one, *other) == ("CyclicCF", (0, 1, 3, 5))


def test_what_comes_before_itself_is_found() -> None:
    assert shown((1, {"x": 1}, {"x": 1})) == ("CyclicCO", (0,))
    txns = [(1, {"x": 1}, {}), (1, {}, {"y": 1}), (2, {"y": 1}, {}), (2, {}, {"x": 1})]
    assert shown(*txns) == ("CyclicCO", (0, 1, 2, 3))


def test_sessions_need_not_agree_on_what_nobody_can_have_known() -> None:
    """A long fork: no state of one order has them both, yet causes come before effects."""
    txns: list[Made] = [(1, {}, {"x": 1}), (2, {}, {"y": 1})]
    one, other = {"x": 1, "y": None}, {"x": None, "y": 1}
    assert shown(*txns, (3, one, {}), (4, other, {})) == ("", ())


def test_a_write_that_nobody_read_stands_in_no_way() -> None:
    txns: list[Made] = [
        (1, {}, {"x": 1}),
        (5, {}, {"x": 2}),
        (1, {"x": 1}, {}),
        (2, {"x": None}, {}),
    ]
    assert shown(*txns) == ("", ())
