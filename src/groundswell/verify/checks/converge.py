"""At rest, when all faults are over: every replica shows the truth, and the truth is what was written.

There are no operations to show it by, except where an edge is lost. All are O(n).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence, Set

from groundswell.verify.checks.facts import Violation


def converged(
    truth: Mapping[str, Hashable], shown: Mapping[str, Mapping[str, Hashable]]
) -> Violation | None:
    """Whether a replica, by its name, shows another value of a key than the primary, or more keys."""
    for replica, values in shown.items():
        for key, value in truth.items():
            if key not in values:
                return Violation(f"{replica!r} does not show {key!r}", ())
            if values[key] != value:
                return Violation(f"{key!r} is {value!r}, at {replica!r} {values[key]!r}", ())
        for key in values:
            if key not in truth:
                return Violation(f"{replica!r} shows {key!r}, which the primary does not", ())
    return None


def counted(
    counts: Mapping[str, int], listed: Mapping[str, Collection[Hashable]]
) -> Violation | None:
    """Whether a count is not the number of the key's edges, listed by their sources."""
    for key in dict.fromkeys([*counts, *listed]):
        count, edges = counts.get(key, 0), len(listed.get(key, ()))
        if count != edges:
            return Violation(f"the count of {key!r} is {count}, of {edges} edges", ())
    return None


def complete(
    listed: Mapping[str, Sequence[Hashable]],
    sure: Mapping[str, Mapping[Hashable, int]],
    unknown: Mapping[str, Set[Hashable]],
) -> Violation | None:
    """Whether a key's sources are not those that were added and stayed, or may have.

    `sure` has the operation that added each source that must be there, by key; `unknown` has those
    of which nobody knows.
    """
    for key in dict.fromkeys([*sure, *listed]):
        sources = Counter(listed.get(key, ()))
        added = sure.get(key, {})
        for source, op in added.items():
            if source not in sources:
                return Violation(f"{source!r} is not among the sources of {key!r}", (op,))
        maybe = unknown.get(key, frozenset())
        for source, times in sources.items():
            if times > 1:
                return Violation(f"{source!r} is among the sources of {key!r} twice", ())
            if source not in added and source not in maybe:
                return Violation(f"{source!r} should not be among the sources of {key!r}", ())
    return None
