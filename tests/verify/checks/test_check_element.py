from __future__ import annotations

import random
from typing import NamedTuple

from groundswell.verify.checks import element
from groundswell.verify.checks.facts import Change, Looked
from groundswell.verify.history import NEVER
from verify.checks.brute import Call, compare, linearizes, shows, span

ROUNDS = 20_000


class Edge(NamedTuple):
    added: Change | None
    removed: Change | None
    looks: list[Looked]


def drawn(draw: random.Random) -> Edge:
    """Of something that happened, half of the time with what one found changed; or anything."""
    at = sorted(draw.sample(range(30), 2))
    added: Change | None = None
    removed: Change | None = None
    from_, until = NEVER, NEVER
    if draw.random() < 0.9:
        start, end = span(draw, at[0], 8)
        known = draw.random() < 0.8
        added = Change(0, start, end if known else NEVER)
        from_ = at[0] if known or draw.random() < 0.7 else NEVER
        if known and end <= at[1] and draw.random() < 0.8:
            known = draw.random() < 0.8
            removed = Change(
                1, draw.randint(end, at[1]), at[1] + draw.randrange(8) if known else NEVER, -1
            )
            until = at[1] if known or draw.random() < 0.7 else NEVER
    looks: list[Looked] = []
    happened = draw.random() < 0.8
    for op in range(2, draw.randint(3, 8)):
        when = draw.randrange(35)
        found = from_ <= when < until if happened else draw.random() < 0.5
        looks.append(Looked(op, *span(draw, when), found))
    if happened and draw.random() < 0.5:
        i = draw.randrange(len(looks))
        looks[i] = looks[i]._replace(found=not looks[i].found)
    return Edge(added, removed, looks)


def one_order(edge: Edge) -> bool:
    calls = [Call(look.start, look.end, shows(look.found)) for look in edge.looks]
    if edge.added:
        calls.append(Call(edge.added.start, edge.added.end, lambda there: None if there else True))
    if edge.removed:
        calls.append(
            Call(edge.removed.start, edge.removed.end, lambda there: False if there else None)
        )
    return linearizes(calls, False)


def test_it_is_as_a_search_of_every_order(seed: int) -> None:
    found = compare(seed, ROUNDS, drawn, lambda one: element.linearizable(*one), one_order)
    for edge, violation in found:
        looks = [look for look in edge.looks if look.op in violation.ops]
        shown = edge._replace(looks=looks)
        assert len(violation.ops) <= 4
        assert not one_order(shown), f"{violation} of {edge} does not stand for itself"


def test_an_edge_that_is_lost_is_found() -> None:
    found = element.linearizable(Change(0, 0, 1), None, [Looked(1, 2, 3, False)])
    assert found is not None
    assert found.ops == (0, 1)


def test_an_edge_that_was_seen_may_not_be_gone_though_the_add_goes_on() -> None:
    looks = [Looked(1, 2, 3, True), Looked(2, 4, 5, False)]
    found = element.linearizable(Change(0, 0, NEVER), None, looks)
    assert found is not None
    assert found.ops == (0, 1, 2)


def test_an_edge_that_comes_back_is_found() -> None:
    added, removed = Change(0, 0, 1), Change(1, 2, 9, -1)
    looks = [Looked(2, 3, 4, False), Looked(3, 5, 6, True)]
    found = element.linearizable(added, removed, looks)
    assert found is not None
    assert found.ops == (0, 2, 3)


def test_an_edge_that_nobody_added_is_found() -> None:
    assert element.linearizable(None, None, [Looked(0, 0, 1, False)]) is None
    found = element.linearizable(None, None, [Looked(0, 0, 1, True)])
    assert found is not None
    assert found.ops == (0,)
