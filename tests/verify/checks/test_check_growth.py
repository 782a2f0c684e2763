from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from copy import deepcopy

from groundswell.verify.checks import growth
from groundswell.verify.checks.facts import Change, Counted, Seen
from groundswell.verify.history import NEVER
from verify.checks.brute import compare, span

ROUNDS = 10_000


def drawn(draw: random.Random) -> list[Counted]:
    """Of sessions that hand tokens on; counts are mostly at least what their session knows."""
    steps: list[Counted] = []
    counts: Counter[str] = Counter()
    known: dict[int, Counter[str]] = {session: Counter() for session in range(3)}
    tokens: dict[int, Counter[str]] = {}
    careful, sessions = draw.choice([0, 0, 0.5]), draw.choice([1, 1, 2, 3])
    for op in range(draw.randint(8, 12)):
        session, key = draw.randrange(sessions), draw.choice("xxxxxxxxy")
        did = draw.choice([*["add", "count", "count"] * 2, "give", "take"])
        if did == "add":
            counts[key] += 1
            known[session][key] += 1
            steps.append(Counted(op, session, "add", key))
        elif did == "count":
            lags = draw.random() >= careful
            least = 0 if lags else min(known[session][key], counts[key])
            value = draw.randint(least, counts[key] // draw.choice([1, 1 + lags]))
            known[session][key] = value
            steps.append(Counted(op, session, "count", key, value))
        elif did == "give":
            tokens[op] = deepcopy(known[session])
            steps.append(Counted(op, session, "give", value=op))
        elif tokens:
            token = draw.choice(list(tokens))
            known[session] |= tokens[token]
            steps.append(Counted(op, session, "take", value=token))
    return steps


def own(step: Counted, steps: Sequence[Counted]) -> Iterator[Counted]:
    """What its session did with the key before."""
    for other in steps:
        if other.op < step.op and (other.session, other.key) == (step.session, step.key):
            yield other


def shows_own(steps: Sequence[Counted]) -> bool:
    return all(
        step.value >= sum(other.did == "add" for other in own(step, steps))
        for step in steps
        if step.did == "count"
    )


def never_falls(steps: Sequence[Counted]) -> bool:
    return all(
        step.value >= other.value
        for step in steps
        if step.did == "count"
        for other in own(step, steps)
        if other.did == "count"
    )


def directly_before(step: Counted, steps: Sequence[Counted]) -> list[Counted]:
    """The step before in the session, and the one that gave what this one takes."""
    before = [other for other in steps if other.op < step.op and other.session == step.session]
    gave = [other for other in steps if other.did == "give" and other.value == step.value]
    return before[-1:] + (gave if step.did == "take" else [])


def past(step: Counted, steps: Sequence[Counted]) -> set[Counted]:
    found = set(directly_before(step, steps))
    return found.union(*(past(other, steps) for other in found))


def ways(step: Counted, steps: Sequence[Counted]) -> Iterator[list[Counted]]:
    """Every way from something before to a step, without it."""
    for other in directly_before(step, steps):
        yield [other]
        for way in ways(other, steps):
            yield [*way, other]


def least(step: Counted, steps: Sequence[Counted]) -> int:
    """What a count must show: on any way that leads to it what was known at its begin, and adds."""
    found = [0]
    for first, *then in ways(step, steps):
        if (first.did, first.key) == ("count", step.key):
            base = first.value
        else:
            until = past(first, steps) | {first}
            base = sum((other.did, other.key) == ("add", step.key) for other in until)
        found.append(base + sum((one.did, one.key) == ("add", step.key) for one in then))
    return max(found)


def shows_past(steps: Sequence[Counted]) -> bool:
    return all(step.value >= least(step, steps) for step in steps if step.did == "count")


def test_own_adds_are_as_the_definition(seed: int) -> None:
    for steps, found in compare(seed, ROUNDS, drawn, growth.read_your_writes, shows_own):
        assert not shows_own([step for step in steps if step.op in found.ops])


def test_falls_are_as_the_definition(seed: int) -> None:
    for steps, found in compare(seed, ROUNDS, drawn, growth.monotonic_reads, never_falls):
        assert len(found.ops) == 2
        assert not never_falls([step for step in steps if step.op in found.ops])


def test_the_past_is_as_the_definition(seed: int) -> None:
    compare(seed, ROUNDS, drawn, growth.causal, shows_past)


def timed(draw: random.Random) -> tuple[list[Change], list[Seen]]:
    adds = [
        Change(op, start, end if draw.random() < 0.8 else NEVER)
        for op, (start, end) in enumerate(span(draw, draw.randrange(20)) for _ in range(4))
    ]
    reads = []
    for op in range(4, draw.randint(5, 7)):
        start, end = span(draw, draw.randrange(20))
        most = sum(add.start < end for add in adds)
        reads.append(Seen(op, start, end, draw.randint(0, most) + 2 * (draw.random() < 0.4)))
    return adds, reads


def test_the_possible_is_as_the_definition(seed: int) -> None:
    def is_right(drawn: tuple[list[Change], list[Seen]]) -> bool:
        adds, reads = drawn
        return all(read.value <= sum(add.start <= read.end for add in adds) for read in reads)

    compare(seed, ROUNDS, timed, lambda one: growth.possible(*one), is_right)


def test_no_count_is_below_nothing() -> None:
    found = growth.possible([], [Seen(0, 0, 1, -1)])
    assert found is not None
    assert found.ops == (0,)


def test_a_token_brings_what_its_session_has_seen() -> None:
    steps = [
        Counted(0, 1, "count", "x", 5),
        Counted(1, 1, "add", "x"),
        Counted(2, 1, "give", value=1),
        Counted(3, 1, "add", "x"),
        Counted(4, 2, "take", value=1),
        Counted(5, 2, "add", "x"),
        Counted(6, 2, "count", "x", 7),
    ]
    assert growth.causal(steps) is None
    found = growth.causal([*steps[:-1], steps[-1]._replace(value=6)])
    assert found is not None
    assert found.ops == (5, 6)


def test_adds_of_both_sessions_count_though_neither_has_counted() -> None:
    steps = [
        Counted(0, 1, "add", "x"),
        Counted(1, 2, "add", "x"),
        Counted(2, 1, "give", value=1),
        Counted(3, 2, "take", value=1),
        Counted(4, 2, "count", "x", 1),
    ]
    assert growth.read_your_writes(steps) is None
    found = growth.causal(steps)
    assert found is not None
    assert found.ops == (3, 4)


def test_the_witness_of_own_adds_is_no_more_of_them_than_needed() -> None:
    steps = [Counted(op, 1, "add", "x") for op in range(5)]
    found = growth.read_your_writes([*steps, Counted(5, 1, "count", "x", 1)])
    assert found is not None
    assert found.ops == (0, 1, 5)
