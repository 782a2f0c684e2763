"""One edge that is added once and removed at most once, and those who look whether it is there."""

from __future__ import annotations

from collections.abc import Sequence

from groundswell.verify.checks.facts import Change, Looked, Timed, Violation, shown_by


def linearizable(
    added: Change | None, removed: Change | None, looks: Sequence[Looked]
) -> Violation | None:
    """Whether no moments of the two changes explain what was found. Exact; the removal begins after.

    O(n). The edge appears as late as those allow who found it, and disappears as early; whoever
    found none then looked before the one or after the other. A set is linearizable if each of its
    elements is (this project's form of what Jepsen's `set-full` checks).
    """
    found = [look for look in looks if look.found]
    if found and added is None:
        return shown_by("an edge that nobody added is there", found[0])
    if added is None:
        return None
    appears: Timed = added
    disappears: Timed | None = removed
    for look in found:
        if look.end < appears.end:
            appears = look
        if disappears is not None and look.start > disappears.start:
            disappears = look
    if appears.end < added.start:
        return shown_by("an edge is there before it is added", appears, added)
    if removed is not None and disappears is not None and disappears.start > removed.end:
        return shown_by("an edge is there after it is removed", removed, disappears)
    for look in looks:
        in_time = disappears is not None and disappears.start <= look.end
        if not look.found and look.start > appears.end and not in_time:
            causes = [appears] if disappears is None else [appears, disappears]
            return shown_by("an edge that was added is not there", added, *causes, look)
    return None
