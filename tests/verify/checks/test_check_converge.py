from __future__ import annotations

import random
from collections.abc import Hashable
from typing import NamedTuple

from groundswell.verify.checks import converge
from verify.checks.brute import compare

ROUNDS = 20_000


class Sources(NamedTuple):
    listed: dict[str, list[Hashable]]
    sure: dict[str, dict[Hashable, int]]
    unknown: dict[str, set[Hashable]]


def drawn(draw: random.Random) -> Sources:
    """Sources of two keys, mostly those that should be there."""
    found = Sources({}, {}, {})
    for op, key in enumerate("xy"[: draw.randint(1, 2)]):
        sure: dict[Hashable, int] = dict.fromkeys(draw.sample("abcde", draw.randrange(4)), op)
        unknown = set(draw.sample("abcdefg", draw.randrange(3)))
        listed = sorted({*sure, *unknown}, key=str)
        draw.shuffle(listed)
        if draw.random() < 0.5 and listed:
            listed.pop()
        if draw.random() < 0.2:
            listed.append(draw.choice("abcdefgh"))
        found.listed[key], found.sure[key] = [*listed], {**sure}
        found.unknown[key] = {*unknown}
    if draw.random() < 0.1:
        del found.listed["x"]
    return found


def is_complete(drawn: Sources) -> bool:
    for key in "xy":
        listed, sure = drawn.listed.get(key, []), set(drawn.sure.get(key, {}))
        allowed = sure | drawn.unknown.get(key, set())
        if len(set(listed)) != len(listed) or not sure <= set(listed) <= allowed:
            return False
    return True


def test_sources_are_as_the_sets(seed: int) -> None:
    compare(seed, ROUNDS, drawn, lambda one: converge.complete(*one), is_complete)


def test_a_replica_that_shows_something_else_is_found() -> None:
    truth = {"x": 1, "y": None}
    assert converge.converged(truth, {"a": {"x": 1, "y": None}, "b": {"y": None, "x": 1}}) is None
    for wrong in ({"x": 2, "y": None}, {"x": 1}, {"x": 1, "y": None, "z": 0}):
        assert converge.converged(truth, {"a": {"x": 1, "y": None}, "b": wrong}) is not None


def test_a_count_is_the_number_of_edges() -> None:
    assert converge.counted({"x": 2, "y": 0}, {"x": ["a", "b"]}) is None
    assert converge.counted({"x": 2}, {"x": ["a"]}) is not None
    assert converge.counted({}, {"x": ["a"]}) is not None
    assert converge.counted({"y": 1}, {}) is not None


def test_a_source_that_is_lost_is_found_with_its_add() -> None:
    found = converge.complete({"x": ["a"]}, {"x": {"a": 4, "b": 7}}, {})
    assert found is not None
    assert found.ops == (7,)
