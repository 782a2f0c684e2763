from __future__ import annotations

import random
from typing import NamedTuple

from groundswell.verify.checks import staleness
from groundswell.verify.checks.facts import Aged, Change, Seen, Violation
from groundswell.verify.history import NEVER
from verify.checks.brute import Call, compare, linearizes, plus, shows, span

ROUNDS = 20_000


class Reads(NamedTuple):
    adds: list[Change]
    reads: list[Aged]
    delta: int


def drawn(draw: random.Random) -> Reads:
    """Of reads from a copy that lags; by more than it should, or has to say, now and then."""
    adds: list[Change] = []
    reads: list[Aged] = []
    made: list[int] = []  # when
    for op in range(draw.randint(2, 9)):
        start, end = span(draw, 3 * op)
        if draw.random() < 0.5:
            known = draw.random() < 0.85
            adds.append(Change(op, start, end if known else NEVER))
            if known or draw.random() < 0.5:
                made.append(3 * op)
        else:
            lag = draw.randrange(8)
            shown = sum(at <= 3 * op - lag for at in made)
            value = max(shown - (draw.random() < 0.2), -1)
            reads.append(Aged(op, start, end, value, max(0, lag - draw.randrange(3))))
    return Reads(adds, reads, draw.randrange(8))


def some_order(drawn: Reads) -> bool:
    """Each read takes effect at some moment from delta before its start to its end."""
    calls = [Call(add.start, add.end, plus(1)) for add in drawn.adds]
    calls += [Call(read.start - drawn.delta, read.end, shows(read.value)) for read in drawn.reads]
    return linearizes(calls, 0)


def all_due(drawn: Reads) -> bool:
    return all(
        read.value >= sum(add.end < read.start - read.age_ns for add in drawn.adds)
        for read in drawn.reads
    )


def test_staleness_is_as_a_search_of_every_order(seed: int) -> None:
    def check(drawn: Reads) -> Violation | None:
        return staleness.stale(drawn.adds, [Seen(*read[:4]) for read in drawn.reads], drawn.delta)

    compare(seed, ROUNDS, drawn, check, some_order)


def test_an_age_is_what_it_says(seed: int) -> None:
    found = compare(seed, ROUNDS, drawn, lambda one: staleness.honest(one.adds, one.reads), all_due)
    for one, violation in found:
        late = next(read for read in one.reads if read.op in violation.ops)
        if late.value >= 0:
            missing = next(add for add in one.adds if add.op in violation.ops)
            assert missing.end < late.start - late.age_ns


def test_a_bound_is_kept_or_not() -> None:
    adds, read = [Change(0, 0, 10)], Seen(1, 100, 101, 0)
    assert staleness.stale(adds, [read], 90) is None
    found = staleness.stale(adds, [read], 89)
    assert found is not None
    assert found.ops == (0, 1)


def test_a_bound_does_not_let_reads_go_back_further() -> None:
    adds = [Change(0, 0, 10)]
    reads = [Seen(1, 20, 21, 1), Seen(2, 100, 101, 0)]
    assert staleness.stale(adds, reads[1:], 95) is None
    found = staleness.stale(adds, reads, 60)
    assert found is not None


def test_each_read_answers_for_its_own_age() -> None:
    adds = [Change(0, 0, 10), Change(1, 0, 20)]
    reads = [Aged(2, 100, 101, 1, 80), Aged(3, 100, 101, 1, 79)]
    found = staleness.honest(adds, reads)
    assert found is not None
    assert found.ops == (1, 3)
