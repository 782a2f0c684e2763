"""Planted bugs: each is a mistake that somebody could make, and each has to be caught.

They are switched on by patching, here alone: the product has no switches. What is wrong with the store is
planted in the simulated one.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple
from unittest import mock

Patch = AbstractContextManager[Any]

# Parts of "level: checker", of those that must see a bug.
OWN = "read your writes"
BACK = "monotonic reads"
CAUSE = "no effect before its cause"
CAUSAL_COUNTS = "causal: no effect before its cause: counts"
ONE_STATE = "states of one order"
PAIR = "both of a pair"
OLDER = "no older than it says"
MORE = "no more than was added"
LINEAR = "linearizable: one order"
LOST = "nothing acknowledged is lost"
TRUTH = "replicas come to the truth"
DIES = "no part dies"
PAGE = "a page is of one state"


class Mutant(NamedTuple):
    """A bug, and who must see it."""

    name: str
    what: str
    caught_by: tuple[str, ...]  # parts of "level: checker", one of which is enough
    patch: Callable[[], Patch]


MUTANTS: Final[dict[str, Mutant]] = {}


def mutant(*caught_by: str) -> Callable[[Callable[[], Patch]], Callable[[], Patch]]:
    """Register what the decorated function patches; its docstring says what is wrong."""

    def register(patch: Callable[[], Patch]) -> Callable[[], Patch]:
        name = patch.__name__
        MUTANTS[name] = Mutant(name, (patch.__doc__ or "").strip(), caught_by, patch)
        return patch

    return register


def instead(owner: Any, name: str, planted: Callable[..., Any]) -> Patch:
    """A method, function or class replaced; `planted` gets the original one first."""
    original = getattr(owner, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        return planted(original, *args, **kwargs)

    return mock.patch.object(owner, name, call)
