"""What each level showed, kept or not promised: the anomalies that a reader could have noticed."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from groundswell.verify import views
from groundswell.verify.history import Op
from groundswell.verify.shape import LEVELS, grows

_CLEAN = 3.0  # by the rule of three: n clean reads prove a rate below 3/n at 95 %


class Row(msgspec.Struct, frozen=True):
    """The reads of one level."""

    level: str
    operations: int  # of sessions at this level, that succeeded
    reads: int  # of them
    refused: int  # reads that were answered with an error
    replica_share: float  # of the reads
    went_backwards: int  # showed less than the session had been shown before
    missed_own_write: int
    stale: int  # showed less than was acknowledged to anybody when the read began
    age_ms_max: float | None  # that was told

    @property
    def proves(self) -> float | None:
        """The share of reads that may still be wrong, at 95 %, where none of them was; None: no reads."""
        return _CLEAN / self.reads if self.reads else None


def tally(ops: Sequence[Op]) -> list[Row]:
    """A row for each level. O(n log n)."""
    acked = _acknowledged(ops)
    sessions: dict[int, list[Op]] = defaultdict(list)
    for op in ops:
        sessions[op.session].append(op)
    at: dict[str, list[list[Op]]] = {level: [] for level in LEVELS}
    for of_session in sessions.values():
        level = next((views.level_of(op) for op in of_session if op.level is not None), None)
        if level is not None:  # one without any read has none to speak of
            at[level].append(of_session)
    return [_row(level, at[level], acked) for level in LEVELS]


def _acknowledged(ops: Sequence[Op]) -> dict[str, list[int]]:
    """When each change of what only grows was acknowledged: likes by target, versions by object."""
    found: dict[str, list[int]] = defaultdict(list)
    for op in ops:
        if op.type == "ok" and op.f == "add":
            for name in op.keys:
                found[name].append(op.end)
    for ends in found.values():
        ends.sort()
    return found


def _row(level: str, sessions: Iterable[Sequence[Op]], acked: dict[str, list[int]]) -> Row:
    done = [op for ops in sessions for op in ops if op.type == "ok"]
    reads = [op for op in done if op.level is not None]
    backwards = missed = stale = 0
    for ops in sessions:
        shown: dict[str, int] = {}
        own: dict[str, int] = defaultdict(int)
        for op in ops:
            if op.type != "ok":
                continue
            if op.f == "add":
                for name in op.keys:
                    own[name] += 1
            elif op.f == "count":
                grown = _grown(op)
                backwards += any(value < shown.get(name, 0) for name, value in grown.items())
                missed += any(value < own[name] for name, value in grown.items())
                due = {name: bisect_left(acked.get(name, []), op.start) for name in grown}
                stale += any(value < due[name] for name, value in grown.items())
                shown |= grown
            elif op.f in ("put", "get"):
                name, version = op.keys[0], op.versions[0]
                if op.f == "get":
                    backwards += version < shown.get(name, 0)
                    missed += version < own[name]
                    shown[name] = version
                else:
                    own[name] = version
    ages = [op.age_ms for op in reads if op.age_ms is not None]
    return Row(
        level=level,
        operations=len(done),
        reads=len(reads),
        refused=sum(op.type == "fail" and op.level is not None for ops in sessions for op in ops),
        replica_share=sum(str(op.served_by).startswith("replica") for op in reads)
        / max(1, len(reads)),
        went_backwards=backwards,
        missed_own_write=missed,
        stale=stale,
        age_ms_max=max(ages, default=None),
    )


def _grown(op: Op) -> dict[str, int]:
    """What a read showed of targets that only grow."""
    return {name: value or 0 for name, value in zip(op.keys, op.found, strict=True) if grows(name)}
