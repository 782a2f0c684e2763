from __future__ import annotations

import inspect
import re

import pytest

from groundswell import errors
from groundswell.errors import (
    GroundswellError,
    Overloaded,
    StoreUnavailable,
    VersionConflict,
    by_code,
)

CLASSES = [
    found
    for _, found in inspect.getmembers(errors, inspect.isclass)
    if issubclass(found, GroundswellError)
]


def drawn_tree() -> set[tuple[str, str]]:
    """(class, base) of every line of the tree in the module's docstring."""
    found: set[tuple[str, str]] = set()
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.fullmatch(r"    ([│ ├└─]*)(\w+)", line)
        if match is not None:
            depth = len(match[1]) // 4
            path[depth:] = [match[2]]
            if depth:
                found.add((match[2], path[depth - 1]))
    return found


def test_the_tree_in_the_docstring_is_the_real_one() -> None:
    real = {(c.__name__, c.__mro__[1].__name__) for c in CLASSES if c is not GroundswellError}
    assert drawn_tree() == real


def test_codes_are_unique() -> None:
    assert len({error.code for error in CLASSES}) == len(CLASSES)


@pytest.mark.parametrize("error", CLASSES)
def test_every_class_has_a_code_and_says_what_it_means(error: type[GroundswellError]) -> None:
    assert "code" in vars(error)
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", error.code)
    assert error.__doc__


@pytest.mark.parametrize("error", CLASSES)
def test_a_code_brings_back_its_class(error: type[GroundswellError]) -> None:
    found = by_code(error.code, "what happened")
    assert type(found) is error
    assert (found.detail, str(found), found.token) == ("what happened", "what happened", None)


def test_a_code_nobody_knows_is_still_one_of_ours() -> None:
    assert type(by_code("from-the-future", "x")) is GroundswellError


def test_a_version_conflict_says_where_the_object_stands() -> None:
    found = by_code("version-conflict", "x", version=7)
    assert isinstance(found, VersionConflict)
    assert found.version == 7
    assert vars(by_code("version-conflict", "x"))["version"] == 0


def test_overloaded_says_when_to_come_back() -> None:
    assert Overloaded("x").retry_after_s == 1
    assert Overloaded("x", retry_after_s=9).retry_after_s == 9


def test_who_catches_an_unavailable_store_catches_an_unusable_one() -> None:
    assert isinstance(by_code("store-unusable", "x"), StoreUnavailable)
