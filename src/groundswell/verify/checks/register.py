"""Registers: a value that operations replace and others read, each at one moment while it ran."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Sequence
from itertools import pairwise
from typing import NamedTuple

from groundswell.verify.checks.facts import Got, Violation, Wrote, shown_by


class _Zone(NamedTuple):
    """When the register held a value, as far as those who wrote and read it tell.

    With `since` < `until` it held it all the time between; else at some moment from `until` to
    `since`.
    """

    since: int  # the first end
    until: int  # the last start
    told_by: tuple[Wrote | Got, ...]


def linearizable(writes: Sequence[Wrote], reads: Sequence[Got]) -> Violation | None:
    """Whether no order of these writes and reads of one register explains what was read. Exact.

    O(n log n), for values that are each written once. The zones of Gibbons and Korach ("Testing
    shared memories", 1997): no time at which two values were held all along, none at which one was
    held all along and another was held too. Nobody may have held the initial state, None, after
    anything else.
    """
    told: dict[Hashable, list[Wrote | Got]] = {write.value: [write] for write in writes}
    initial: Got | None = None
    for read in reads:
        if read.value is None:
            if initial is None or read.start > initial.start:
                initial = read
        elif read.value not in told:
            return shown_by(f"read {read.value!r}, a value that nobody wrote", read)
        else:
            told[read.value].append(read)
    for facts in told.values():
        for read_ in facts:
            if read_.end < facts[0].start:
                return shown_by(f"read {read_.value!r} before it was written", read_, facts[0])
    zones = [_zone(facts) for facts in told.values()]
    return _not_initial(zones, initial) or _overlap(zones)


def _zone(facts: list[Wrote | Got]) -> _Zone:
    first = min(facts, key=lambda fact: fact.end)
    last = max(facts, key=lambda fact: fact.start)
    return _Zone(first.end, last.start, (facts[0], first, last))


def _not_initial(zones: list[_Zone], initial: Got | None) -> Violation | None:
    if initial is not None and zones:
        first = min(zones, key=lambda zone: zone.since)
        if first.since < initial.start:
            what = f"read the initial state after {_value(first)!r} was there"
            return shown_by(what, initial, *first.told_by)
    return None


def _overlap(zones: list[_Zone]) -> Violation | None:
    lasting = sorted((zone for zone in zones if zone.since < zone.until), key=lambda zone: zone[:2])
    for zone, after in pairwise(lasting):
        if after.since < zone.until:
            return _both(zone, after)
    starts = [zone.since for zone in lasting]
    for zone in zones:
        if zone.since >= zone.until:
            around = bisect_left(starts, zone.until) - 1  # the last to begin, and so to end, before
            if around >= 0 and zone.since < lasting[around].until:
                return _both(lasting[around], zone)
    return None


def _both(zone: _Zone, other: _Zone) -> Violation:
    what = f"{_value(zone)!r} was there before and after {_value(other)!r}"
    return shown_by(what, *zone.told_by, *other.told_by)


def _value(zone: _Zone) -> Hashable:
    return zone.told_by[0].value
