"""How stale a number of a counter may be: by a bound that was promised, or by the age that was told."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from groundswell.verify.checks import counter
from groundswell.verify.checks.facts import Aged, Change, Seen, Violation, shown_by


def stale(adds: Sequence[Change], reads: Sequence[Seen], delta_ns: int) -> Violation | None:
    """Whether no order explains reads that may show a state from up to `delta_ns` before. Exact.

    O(n log n). Of adds of one: a read that begins that much earlier, and is then linearizable (delta
    atomicity; Golab, Li and Shah 2011).
    """
    earlier = [read._replace(start=read.start - delta_ns) for read in reads]
    return counter.linearizable(adds, earlier)


def honest(adds: Sequence[Change], reads: Sequence[Aged]) -> Violation | None:
    """Whether a read lacks an add of one that was over before the read began, less the age it told.

    O(n log n). Each read for itself, whatever others showed.
    """
    over = sorted(adds, key=lambda add: add.end)
    ends = [add.end for add in over]
    for read in reads:
        due = bisect_left(ends, read.start - read.age_ns)
        if read.value < due:
            what = f"read {read.value}, told to be {read.age_ns} ns old, when {due} were due"
            return shown_by(what, *over[max(read.value, 0) : due][:1], read)
    return None
