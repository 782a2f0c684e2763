"""What a session may expect of numbers that only grow, by one with each add.

The first three go through the steps of all sessions once, each session's in its order, and each
token given before it is taken.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence

from groundswell.verify.checks.facts import Change, Counted, Seen, Violation, shown_by


def read_your_writes(steps: Sequence[Counted]) -> Violation | None:
    """Whether a session counts fewer than it has added itself. O(n)."""
    own: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
    for step in steps:
        adds = own[step.session, step.key]
        if step.did == "add":
            adds.append(step.op)
        elif step.did == "count" and step.value < len(adds):
            what = f"counted {step.value} of {step.key!r} after {len(adds)} adds of its own"
            return Violation(what, (*adds[: max(step.value, 0) + 1], step.op))
    return None


def monotonic_reads(steps: Sequence[Counted]) -> Violation | None:
    """Whether a session counts fewer than it has counted before. O(n)."""
    last: dict[tuple[int, str], Counted] = {}
    for step in steps:
        if step.did == "count":
            before = last.get((step.session, step.key), step)
            if step.value < before.value:
                what = f"counted {step.value} of {step.key!r} after {before.value}"
                return Violation(what, (before.op, step.op))
            last[step.session, step.key] = step
    return None


def causal(steps: Sequence[Counted]) -> Violation | None:
    """Whether a session counts fewer than its past holds, and that of the tokens it took.

    That is at least what was counted in the past, and one more for each add on any way from there
    to here; and it is every add in the past. Necessary, not sufficient: adds on several ways are not
    summed on top of a count. O(n), and for each token given or taken as much as its session knows.
    The witness is the last thing that raised what must be counted.
    """
    pasts: defaultdict[int, _Past] = defaultdict(_Past)
    given: dict[int, _Past] = {}
    for step in steps:
        past = pasts[step.session]
        if step.did == "add":
            past.add(step)
        elif step.did == "give":
            given[step.value] = past.copy()
        elif step.did == "take":
            past.join(given[step.value], step)
        else:
            least, op = past.least.get(step.key, (0, step.op))
            if step.value < least:
                what = f"counted {step.value} of {step.key!r}, when its past holds {least}"
                return Violation(what, tuple(dict.fromkeys((op, step.op))))
            past.least[step.key] = (step.value, step.op)
    return None


def possible(adds: Sequence[Change], reads: Sequence[Seen]) -> Violation | None:
    """Whether a read shows more than had begun by its end, or less than nothing. O(n log n)."""
    starts = sorted(add.start for add in adds)
    for read in reads:
        most = bisect_right(starts, read.end)
        if not 0 <= read.value <= most:
            return shown_by(f"read {read.value}, when {most} adds had begun", read)
    return None


class _Past:
    """What is known of the causal past of a session, or of a token."""

    def __init__(self) -> None:
        self.least: dict[
            str, tuple[int, int]
        ] = {}  # by key: what must be counted, which op says so
        self.adds: dict[str, dict[int, int]] = {}  # by key and session

    def copy(self) -> _Past:
        copy = _Past()
        copy.least = self.least.copy()
        copy.adds = {key: adds.copy() for key, adds in self.adds.items()}
        return copy

    def add(self, step: Counted) -> None:
        adds = self.adds.setdefault(step.key, {})
        adds[step.session] = adds.get(step.session, 0) + 1
        self.least[step.key] = (self.least.get(step.key, (0, 0))[0] + 1, step.op)

    def join(self, other: _Past, step: Counted) -> None:
        for key, least in other.least.items():
            self.least[key] = max(self.least.get(key, least), least)
        for key, theirs in other.adds.items():
            adds = self.adds.setdefault(key, {})
            for session, count in theirs.items():
                adds[session] = max(adds.get(session, 0), count)
            self.least[key] = max(self.least[key], (sum(adds.values()), step.op))
