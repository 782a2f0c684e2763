"""What `groundswell.testing.model` draws: few keys, so that random operations meet each other."""

from __future__ import annotations

from typing import Final

from hypothesis import strategies as st

from groundswell.kinds import bucket
from groundswell.model import (
    Add,
    Delete,
    Id,
    Key,
    Open,
    Post,
    Put,
    Remove,
    Tally,
    Transfer,
    Void,
    Write,
)
from groundswell.store import Batch, Sight
from groundswell.testing.base import json

TARGETS: Final[dict[str, list[Id]]] = {
    "like": [1, 2],
    "follow": [1, -3],
    "review": [1, 2],
    "rating": [1, 2],
    "tag": ["1", "é"],
    "seat": ["1", "b"],
    "view": [1, 2],
    "play": ["1"],
}
SOURCES: Final[dict[str, list[Id]]] = {
    "like": [1, 2, 3, 4],
    "follow": [1, 2, 3, 4],
    "review": [1, 2, 3],
    "rating": [1, 2, 3],
    "tag": ["1", "2", "é", "😀"],
    "seat": [1, 2, 3],
}
LISTS: Final = [(kind, False) for kind in SOURCES] + [("follow", True), ("tag", True)]
_RATED: Final = {bucket("rating", value): TARGETS["rating"] for value in (1, 2, 3)}
KEYS: Final[list[Key]] = [
    (kind, target) for kind, ids in (TARGETS | _RATED).items() for target in ids
]
OBJECTS: Final = ["x", "y"]
ACCOUNTS: Final = ["a", "b", "mint"]
TRANSFERS: Final = ["t", "u", "v", "w"]


@st.composite
def sights(draw: st.DrawFn) -> Sight:
    """A key of a page, with what is wanted of it."""
    key = draw(st.sampled_from(KEYS))
    if key[0] not in SOURCES:
        return Sight(key)
    viewer = draw(st.none() | st.sampled_from(SOURCES[key[0]]))
    return Sight(key, viewer, draw(st.sampled_from([0, 1, 2, 50])))


@st.composite
def writes(draw: st.DrawFn) -> Write:
    """Any write, some of them refused."""
    op = draw(
        st.sampled_from(
            ["add", "add", "add", "remove", "remove", "tally", "put", "delete", "money", "money"]
        )
    )
    if op == "money":
        return draw(_money())
    version = draw(st.none() | st.integers(0, 4))
    if op == "put":
        data = json(n=draw(st.integers(0, 2)))
        return Put(draw(st.sampled_from(OBJECTS)), draw(st.sampled_from("ab")), data, version)
    if op == "delete":
        return Delete(draw(st.sampled_from(OBJECTS)), version)
    if op == "tally":
        kind = draw(st.sampled_from(["view", "play"]))
        id_ = draw(st.none() | st.sampled_from(["i", "j", "k"]))
        return Tally(kind, draw(st.sampled_from(TARGETS[kind])), draw(st.integers(1, 3)), id_)
    kind = draw(st.sampled_from(list(SOURCES)))
    target, source = draw(st.sampled_from(TARGETS[kind])), draw(st.sampled_from(SOURCES[kind]))
    if op == "remove":
        return Remove(kind, target, source)
    value = draw(st.integers(-2, 3)) if kind == "review" else None
    value = draw(st.integers(1, 3)) if kind == "rating" else value
    data_ = draw(st.sampled_from([None, None, None, json(n=1), json(n=2)]))
    lasts_s = draw(st.sampled_from([None, 0.002, 0.005])) if kind == "seat" else None
    return Add(kind, target, source, value, data_, lasts_s)


@st.composite
def _money(draw: st.DrawFn) -> Write:
    op = draw(st.sampled_from(["transfer", "transfer", "transfer", "open", "open", "post", "void"]))
    account = draw(st.sampled_from(ACCOUNTS))
    id_ = draw(st.sampled_from(TRANSFERS) | st.integers(0, 99).map(str))
    if op == "open":
        floor = None if account == "mint" else draw(st.sampled_from([0, 0, -3, 2]))
        return Open(account, floor, draw(st.sampled_from([None, None, 6])))
    if op == "post":
        return Post(id_, draw(st.sampled_from([None, None, 1, 3])))
    if op == "void":
        return Void(id_)
    other = draw(st.sampled_from([name for name in ACCOUNTS if name != account]))
    pending = draw(st.booleans())
    lasts_s = draw(st.sampled_from([None, 0.002, 0.005])) if pending else None
    return Transfer(id_, account, other, draw(st.integers(1, 4)), pending, lasts_s)


BATCHES: Final = st.builds(
    lambda writes, atomic: Batch(tuple(writes), atomic),
    st.lists(writes(), min_size=1, max_size=8),
    st.booleans(),
)
