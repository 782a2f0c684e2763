from __future__ import annotations

import random
from typing import NamedTuple

from groundswell.verify.checks import counter
from groundswell.verify.checks.facts import Change, Seen
from groundswell.verify.history import NEVER
from verify.checks.brute import Call, compare, linearizes, plus, shows, span

ROUNDS = 20_000


class Counts(NamedTuple):
    changes: list[Change]
    reads: list[Seen]


def drawn(draw: random.Random, steps: tuple[int, ...] = (1,)) -> Counts:
    """Of something that happened, half of the time with a read changed; or anything at all."""
    changes: list[Change] = []
    reads: list[Seen] = []
    count, happened = 0, draw.random() < 0.8
    for op in range(draw.randint(2, 9)):
        start, end = span(draw, 3 * op)
        if draw.random() < 0.5:
            unknown = draw.random() < 0.15
            by = draw.choice(steps)
            changes.append(Change(op, start, NEVER if unknown else end, by))
            count += by * (not unknown or draw.random() < 0.5)
        else:
            reads.append(Seen(op, start, end, count if happened else draw.randint(-1, 3)))
    if reads and happened and draw.random() < 0.5:
        at = draw.randrange(len(reads))
        reads[at] = reads[at]._replace(value=reads[at].value + draw.choice([-1, 1]))
    return Counts(changes, reads)


def signed(draw: random.Random) -> Counts:
    return drawn(draw, (-2, -1, 1, 2))


def one_order(counts: Counts) -> bool:
    calls = [Call(one.start, one.end, plus(one.by)) for one in counts.changes]
    calls += [Call(one.start, one.end, shows(one.value)) for one in counts.reads]
    return linearizes(calls, 0)


def within(counts: Counts) -> bool:
    for read in counts.reads:
        least = most = 0
        for one in counts.changes:
            before, begun = one.end < read.start, one.start <= read.end
            least += one.by if (before if one.by > 0 else begun) else 0
            most += one.by if (begun if one.by > 0 else before) else 0
        if not least <= read.value <= most:
            return False
    return True


def test_it_is_as_a_search_of_every_order(seed: int) -> None:
    compare(seed, ROUNDS, drawn, lambda one: counter.linearizable(*one), one_order)


def test_bounds_are_what_they_say(seed: int) -> None:
    compare(seed, ROUNDS, signed, lambda one: counter.bounded(*one), within)


def test_bounds_allow_all_that_has_an_order(seed: int) -> None:
    allowed = 0
    for i in range(ROUNDS // 2):
        counts = signed(random.Random(seed + i))
        if one_order(counts):
            allowed += 1
            assert counter.bounded(*counts) is None, f"seed {seed + i}: {counts}"
    assert allowed > ROUNDS // 10


def test_bounds_begin_where_the_count_did() -> None:
    changes, reads = [Change(0, 0, 1, -3)], [Seen(1, 2, 3, 7)]
    assert counter.bounded(changes, reads, initial=10) is None
    found = counter.bounded(changes, reads)
    assert found is not None
    assert found.ops == (1,)


def test_what_bounds_and_growth_allow_can_still_have_no_order() -> None:
    adds = [Change(0, 0, 100), Change(2, 10, 11)]
    reads = [Seen(1, 8, 9, 1), Seen(3, 12, 13, 1)]
    assert counter.bounded(adds, reads) is None
    found = counter.linearizable(adds, reads)
    assert found is not None
    assert found.ops == (2, 3)
    assert counter.linearizable(adds, [reads[0], Seen(3, 12, 13, 2)]) is None


def test_the_witness_of_a_count_that_falls_is_the_two_reads() -> None:
    adds = [Change(0, 0, NEVER)]
    found = counter.linearizable(adds, [Seen(1, 1, 2, 1), Seen(2, 3, 4, 0)])
    assert found is not None
    assert found.ops == (1, 2)


def test_more_than_had_begun_is_found() -> None:
    found = counter.linearizable([Change(0, 5, 9)], [Seen(1, 1, 4, 1)])
    assert found is not None
    assert found.ops == (1,)


def test_a_negative_count_is_found() -> None:
    for adds in ([], [Change(0, 0, 1), Change(1, 0, 1)]):
        found = counter.linearizable(adds, [Seen(2, 2, 3, -1)])
        assert found is not None
        assert found.ops == (2,)


def test_an_add_of_unknown_outcome_may_show_late_or_never() -> None:
    adds = [Change(0, 0, NEVER)]
    assert counter.linearizable(adds, [Seen(1, 5, 6, 0), Seen(2, 7, 8, 1)]) is None
    assert counter.linearizable(adds, [Seen(1, 5, 6, 0), Seen(2, 7, 8, 0)]) is None


def test_what_touches_is_not_in_order() -> None:
    assert counter.linearizable([Change(0, 0, 5)], [Seen(1, 5, 6, 0)]) is None
    assert counter.linearizable([Change(0, 0, 5)], [Seen(1, 6, 6, 0)]) is not None
    assert counter.linearizable([Change(0, 5, 6)], [Seen(1, 4, 5, 1)]) is None
