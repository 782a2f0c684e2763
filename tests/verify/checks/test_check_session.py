"""Each guarantee as a relation of two steps, as Terry et al. state them, on every pair of steps."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import combinations

import pytest

from groundswell.verify.checks import session
from groundswell.verify.checks.facts import Step, Violation
from verify.checks.brute import compare

ROUNDS = 10_000
Check = Callable[[Sequence[Step]], Violation | None]
Clash = Callable[[Step, Step], bool]


def drawn(draw: random.Random) -> list[Step]:
    """Of one register each, read from copies that may lag; versions and values changed at times."""
    steps: list[Step] = []
    values: dict[str, list[int | None]] = {"x": [None], "y": [None]}
    lag, sessions, keys = (
        draw.choice([0, 6, 8, 8]),
        draw.choice([1, 1, 1, 1, 2]),
        draw.choice(["x", "x", "xy"]),
    )
    for op in range(draw.randint(6, 11)):
        key = draw.choice(keys)
        wrote = draw.random() < 0.45
        if wrote:
            values[key].append(op)
        version = len(values[key]) - 1
        version = max(0, version - draw.randint(0, lag))
        steps.append(Step(op, draw.randrange(sessions), key, wrote, version, values[key][version]))
    if draw.random() < 0.6:
        at = draw.randrange(len(steps))
        steps[at] = steps[at]._replace(value=draw.choice([None, 0, 1, 2, 9]))
    return steps


def of_one(before: Step, after: Step) -> bool:
    return (before.session, before.key) == (after.session, after.key)


CLASHES: dict[Check, Clash] = {
    session.read_your_writes: lambda write, read: (
        of_one(write, read) and write.wrote and not read.wrote and read.version < write.version
    ),
    session.monotonic_reads: lambda read, later: (
        of_one(read, later) and not read.wrote and not later.wrote and later.version < read.version
    ),
    session.monotonic_writes: lambda write, later: (
        of_one(write, later) and write.wrote and later.wrote and later.version <= write.version
    ),
    session.writes_follow_reads: lambda read, write: (
        of_one(read, write) and not read.wrote and write.wrote and write.version <= read.version
    ),
    session.one_value_per_version: lambda one, other: (
        one.key == other.key and one.version == other.version and one.value != other.value
    ),
}


def without(clash: Clash, steps: Sequence[Step]) -> bool:
    return not any(clash(before, after) for before, after in combinations(steps, 2))


@pytest.mark.parametrize("check", CLASHES, ids=lambda check: str(check.__name__))
def test_it_is_as_the_definition(check: Check, seed: int) -> None:
    clash = CLASHES[check]
    zeros = [Step(-1, 9, key, False, 0, None) for key in "xy"]  # what a key is before all else

    def is_right(steps: list[Step]) -> bool:
        return without(clash, [*zeros, *steps])

    for steps, violation in compare(seed, ROUNDS, drawn, check, is_right):
        shown = [step for step in steps if step.op in violation.ops]
        assert not is_right(shown), f"{violation} of {steps} does not stand for itself"


def test_another_session_may_lag_behind() -> None:
    steps = [Step(0, 1, "x", True, 1, "a"), Step(1, 2, "x", False, 0, None)]
    assert all(check(steps) is None for check in CLASHES)


@pytest.mark.parametrize(
    ("check", "wrote", "writes"),
    [
        (session.read_your_writes, True, False),
        (session.monotonic_reads, False, False),
        (session.monotonic_writes, True, True),
        (session.writes_follow_reads, False, True),
    ],
)
def test_the_witness_is_both_steps(check: Check, wrote: bool, writes: bool) -> None:
    steps = [
        Step(0, 1, "x", wrote, 2, "b"),
        Step(1, 1, "y", wrote, 3, "c"),
        Step(2, 1, "x", writes, 1, "a"),
    ]
    found = check(steps)
    assert found is not None
    assert found.ops == (0, 2)
    assert all(other(steps) is None for other in CLASHES if other is not check)


def test_a_version_is_one_value_in_all_sessions() -> None:
    steps = [Step(0, 1, "x", True, 1, "a"), Step(1, 2, "x", False, 1, "b")]
    found = session.one_value_per_version(steps)
    assert found is not None
    assert found.ops == (0, 1)


def test_what_was_never_written_has_no_value() -> None:
    found = session.one_value_per_version([Step(0, 1, "x", False, 0, "a")])
    assert found is not None
    assert found.ops == (0,)
