from __future__ import annotations

import random
from itertools import combinations

from groundswell.verify.checks import pages
from groundswell.verify.checks.facts import Page
from verify.checks.brute import compare

ROUNDS = 10_000
PAIRS = [("a", "b"), ("c", "d")]


def drawn(draw: random.Random) -> list[Page]:
    """Of states of one order, of one or more sets of keys, and now and then not quite."""
    states = [dict.fromkeys("abcd", 0)]
    for _ in range(draw.randint(1, 6)):
        key = draw.choice("abcd")
        states.append(states[-1] | {key: states[-1][key] + 1})
    sets = [draw.sample("abcd", draw.randint(1, 4)) for _ in range(draw.randint(1, 3))]
    found: list[Page] = []
    for op in range(draw.randint(2, 7)):
        state = draw.choice(states)
        found.append(Page(op, {key: state[key] for key in draw.choice(sets)}))
    for page in found:
        if draw.random() < 0.3:
            key = draw.choice(list(page.counts))
            page.counts[key] += draw.choice([-1, 1, 2])
    return found


def paired(draw: random.Random) -> list[Page]:
    found: list[Page] = []
    for op in range(draw.randint(1, 4)):
        counts = {key: draw.randrange(9) for key in draw.sample("abcd", draw.randint(1, 4))}
        for key, partner in PAIRS:
            if key in counts and partner in counts and draw.random() < 0.8:
                counts[partner] = counts[key]
        found.append(Page(op, counts))
    return found


def no_fork(drawn: list[Page]) -> bool:
    for one, other in combinations(drawn, 2):
        shared = one.counts.keys() & other.counts.keys()
        ahead = any(one.counts[key] > other.counts[key] for key in shared)
        behind = any(one.counts[key] < other.counts[key] for key in shared)
        if ahead and behind:
            return False
    return True


def no_half(drawn: list[Page]) -> bool:
    return all(
        page.counts[key] == page.counts[partner]
        for page in drawn
        for key, partner in PAIRS
        if key in page.counts and partner in page.counts
    )


def test_it_is_as_every_pair_of_pages(seed: int) -> None:
    for drawn_, found in compare(seed, ROUNDS, drawn, pages.comparable, no_fork):
        assert len(found.ops) == 2
        assert not no_fork([page for page in drawn_ if page.op in found.ops])


def test_halves_are_as_every_pair_of_keys(seed: int) -> None:
    for drawn_, found in compare(
        seed, ROUNDS, paired, lambda one: pages.paired(one, PAIRS), no_half
    ):
        assert not no_half([page for page in drawn_ if page.op in found.ops])


def test_a_fork_of_pages_with_other_keys_is_found() -> None:
    one = Page(0, {"a": 1, "b": 0, "c": 5})
    found = pages.comparable([one, Page(1, {"b": 1, "d": 0}), Page(2, {"d": 9, "b": 1, "a": 0})])
    assert found is not None
    assert found.ops == (0, 2)
    assert "'a'" in found.what and "'b'" in found.what


def test_one_shared_key_makes_no_fork() -> None:
    assert pages.comparable([Page(0, {"a": 1, "b": 0}), Page(1, {"b": 1, "c": 0})]) is None


def test_half_of_a_write_is_found() -> None:
    found = pages.paired([Page(0, {"a": 1}), Page(1, {"a": 2, "b": 1})], PAIRS)
    assert found is not None
    assert found.ops == (1,)
