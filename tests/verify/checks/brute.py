"""Searches that try every order, and the comparison of a checker with one on random histories."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, TypeVar

from groundswell.verify.checks.facts import Violation
from groundswell.verify.history import NEVER

History = TypeVar("History")
LEAST_SHARE = 0.2  # of the histories, with a violation and without


class Call(NamedTuple):
    """An operation of an object: from a state to the next, or None where it does not fit."""

    start: int
    end: int
    apply: Callable[[Any], Any]


def plus(by: int) -> Callable[[int], int]:
    return lambda state: state + by


def shows(value: Hashable) -> Callable[[Hashable], Hashable | None]:
    return lambda state: state if state == value else None


def linearizes(calls: Sequence[Call], initial: Hashable) -> bool:
    """Whether some order of the calls fits; one that never ended may be left out."""
    must = sum(1 << i for i, call in enumerate(calls) if call.end < NEVER)
    seen: set[tuple[int, Hashable]] = set()

    def search(done: int, state: Hashable) -> bool:
        if done & must == must:
            return True
        if (done, state) in seen:
            return False
        seen.add((done, state))
        open_ = [i for i in range(len(calls)) if not done >> i & 1]
        until = min(calls[i].end for i in open_)
        for i in open_:
            if calls[i].start <= until:
                after = calls[i].apply(state)
                if after is not None and search(done | 1 << i, after):
                    return True
        return False

    return search(0, initial)


def span(draw: random.Random, at: int, room: int = 6) -> tuple[int, int]:
    """When an operation ran that took effect at a moment."""
    return at - draw.randrange(room), at + draw.randrange(room)


def compare(
    seed: int,
    rounds: int,
    history: Callable[[random.Random], History],
    check: Callable[[History], Violation | None],
    right: Callable[[History], bool],
    *,
    share: float = LEAST_SHARE,
) -> list[tuple[History, Violation]]:
    """Assert that a checker finds something exactly in what is not right; what it found."""
    found: list[tuple[History, Violation]] = []
    verdicts: Counter[bool] = Counter()
    for i in range(rounds):
        drawn = history(random.Random(seed + i))
        violation, is_right = check(drawn), right(drawn)
        replay = f"seed {seed + i} (GROUNDSWELL_TEST_SEED): {drawn}"
        assert (violation is None) == is_right, f"{violation} in {replay}"
        verdicts[is_right] += 1
        if violation:
            found.append((drawn, violation))
    assert min(verdicts[True], verdicts[False]) >= share * rounds, verdicts
    return found
