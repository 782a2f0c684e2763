from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from groundswell.verify.checks import register
from groundswell.verify.checks.facts import Got, Wrote
from groundswell.verify.history import NEVER
from verify.checks.brute import Call, compare, linearizes, shows, span

ROUNDS = 20_000
NOTHING = "nothing"  # the initial state, as the search has it


class Values(NamedTuple):
    writes: list[Wrote]
    reads: list[Got]


def drawn(draw: random.Random) -> Values:
    """Of something that happened, half of the time with a read changed; or anything at all."""
    writes: list[Wrote] = []
    reads: list[Got] = []
    value: int | None = None
    happened = draw.random() < 0.8
    for op in range(draw.randint(2, 9)):
        start, end = span(draw, 3 * op, 8)
        if draw.random() < 0.4:
            unknown = draw.random() < 0.2
            writes.append(Wrote(op, start, NEVER if unknown else end, op))
            value = op if not unknown or draw.random() < 0.7 else value
        else:
            reads.append(Got(op, start, end, value if happened else any_of(draw, op)))
    if reads and happened and draw.random() < 0.5:
        at = draw.randrange(len(reads))
        reads[at] = reads[at]._replace(value=any_of(draw, 9))
    return Values(writes, reads)


def any_of(draw: random.Random, below: int) -> int | None:
    values: list[int | None] = [None, *range(below)]
    return draw.choice(values)


def one_order(values: Values) -> bool:
    calls = [Call(one.start, one.end, becomes(one.value)) for one in values.writes]
    calls += [
        Call(one.start, one.end, shows(NOTHING if one.value is None else one.value))
        for one in values.reads
    ]
    return linearizes(calls, NOTHING)


def becomes(value: object) -> Callable[[object], object]:
    return lambda _: value


def test_it_is_as_a_search_of_every_order(seed: int) -> None:
    found = compare(seed, ROUNDS, drawn, lambda one: register.linearizable(*one), one_order)
    for values, violation in found:
        shown = Values(
            [one for one in values.writes if one.op in violation.ops],
            [one for one in values.reads if one.op in violation.ops],
        )
        assert len(violation.ops) <= 6
        assert not one_order(shown), f"{violation} of {values} does not stand for itself"


def test_a_read_of_what_nobody_wrote_is_found() -> None:
    found = register.linearizable([Wrote(0, 0, 1, "a")], [Got(1, 2, 3, "b")])
    assert found is not None
    assert "nobody wrote" in found.what
    assert found.ops == (1,)


def test_an_older_value_after_a_newer_is_found() -> None:
    writes = [Wrote(0, 0, 1, "a"), Wrote(1, 2, 9, "b")]
    reads = [Got(2, 3, 4, "b"), Got(3, 5, 6, "a")]
    found = register.linearizable(writes, reads)
    assert found is not None
    assert found.ops == (0, 1, 2, 3)
    assert register.linearizable(writes, [reads[0]._replace(end=5), reads[1]]) is None


def test_nothing_after_something_is_found() -> None:
    found = register.linearizable([Wrote(0, 0, 1, "a")], [Got(1, 2, 3, None)])
    assert found is not None
    assert found.ops == (0, 1)


def test_a_write_of_unknown_outcome_may_show_late_or_never() -> None:
    writes = [Wrote(0, 0, NEVER, "a"), Wrote(1, 1, 2, "b")]
    assert register.linearizable(writes, [Got(2, 3, 4, "b"), Got(3, 5, 6, "b")]) is None
    assert register.linearizable(writes, [Got(2, 3, 4, "b"), Got(3, 5, 6, "a")]) is None
    reads = [Got(2, 3, 4, "b"), Got(3, 5, 6, "a"), Got(4, 7, 8, "b")]
    assert register.linearizable(writes, reads) is not None
