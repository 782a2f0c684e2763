"""What a session may expect of registers whose versions it is told (Terry et al., PDIS 1994).

All go through the steps of all sessions once, O(n), each session's in its order. Versions of a key
rise with each write; 0 is a key that was never written.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from groundswell.verify.checks.facts import Step, Violation


def read_your_writes(steps: Sequence[Step]) -> Violation | None:
    """Whether a session reads an older version of a key than it has written."""
    return _not_risen(steps, "read {} after it wrote {}", wrote=True, writes=False)


def monotonic_reads(steps: Sequence[Step]) -> Violation | None:
    """Whether a session reads an older version of a key than it has read."""
    return _not_risen(steps, "read {} after it read {}", wrote=False, writes=False)


def monotonic_writes(steps: Sequence[Step]) -> Violation | None:
    """Whether a session's write of a key does not come after those that it made before."""
    return _not_risen(steps, "wrote {} after it wrote {}", wrote=True, writes=True)


def writes_follow_reads(steps: Sequence[Step]) -> Violation | None:
    """Whether a session's write of a key does not come after what it had read of it."""
    return _not_risen(steps, "wrote {} after it read {}", wrote=False, writes=True)


def one_value_per_version(steps: Sequence[Step]) -> Violation | None:
    """Whether a version of a key stands for two values; 0 stands for None."""
    first: dict[tuple[str, int], tuple[int | None, Hashable]] = {}
    for step in steps:
        initial = (None, None) if step.version == 0 else (step.op, step.value)
        op, value = first.setdefault((step.key, step.version), initial)
        if value != step.value:
            what = f"version {step.version} of {step.key!r} is {value!r} and {step.value!r}"
            return Violation(what, (step.op,) if op is None else tuple(sorted((op, step.op))))
    return None


def _not_risen(steps: Sequence[Step], what: str, *, wrote: bool, writes: bool) -> Violation | None:
    """A read below, or a write not above, the highest version that the session wrote or read before."""
    highest: dict[tuple[int, str], Step] = {}
    for step in steps:
        before = highest.get((step.session, step.key))
        if before and step.wrote == writes and step.version < before.version + writes:
            told = what.format(f"version {step.version}", f"version {before.version}")
            return Violation(f"a session {told} of {step.key!r}", (before.op, step.op))
        if step.wrote == wrote and (before is None or step.version > before.version):
            highest[step.session, step.key] = step
    return None
