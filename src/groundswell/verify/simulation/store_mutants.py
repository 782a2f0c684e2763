"""Bugs planted in the simulated store: what a real one must not do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from groundswell.revision import Revision
from groundswell.verify.simulation.image import Image, RolledUp, Written
from groundswell.verify.simulation.mutants import (
    BACK,
    CAUSE,
    LINEAR,
    LOST,
    MORE,
    OLDER,
    ONE_STATE,
    OWN,
    PAIR,
    TRUTH,
    Patch,
    instead,
    mutant,
)
from groundswell.verify.simulation.primary import Primary
from groundswell.verify.simulation.standby import SimulatedStandby
from groundswell.verify.simulation.store import SimulatedStore

COUNTED = "counts are their edges"


@mutant(COUNTED, LINEAR)
def a_slow_transaction_is_never_folded() -> Patch:
    """The rollup goes on from the highest transaction id, and passes over those that end later."""

    def fold(original: Any, self: Image, stop: Revision, number: int) -> Any:
        last, queue = self.latest.rollup.revision.xmax, self.queue
        self.queue = {xid: one for xid, one in queue.items() if xid >= last or not one.counts}
        try:
            return original(self, stop, number)
        finally:
            self.queue = queue

    return instead(Image, "fold", fold)


@mutant(COUNTED, MORE)
def events_are_folded_twice() -> Patch:
    """A transaction that ended late stays on the queue for one more rollup."""

    def apply(original: Any, self: Image, record: Any) -> None:
        before = self.latest.rollup.revision
        late = {x: one for x, one in self.queue.items() if x < before.xmax}
        original(self, record)
        if isinstance(record, RolledUp):
            gone = {x: one for x, one in late.items() if x not in self.queue}
            self.queue.update({x: one for x, one in gone.items() if x not in _again(self)})
            _again(self).update(gone)

    return instead(Image, "apply", apply)


def _again(image: Image) -> dict[int, Written]:
    found: dict[int, Written] = image.__dict__.setdefault("again", {})
    return found


@mutant(OWN, BACK, CAUSE)
def a_rollup_claims_what_is_running() -> Patch:
    """The revision that is published leaves out the list of running transactions."""

    def after(original: Any, self: Image, number: int, changes_max: int) -> Any:
        rollups, behind = original(self, number, changes_max)
        return tuple(replace(one, revision=_closed(one.revision)) for one in rollups), behind

    return instead(Image, "after", after)


def _closed(revision: Revision) -> Revision:
    return Revision(revision.xmax, revision.xmax)


@mutant(PAIR, ONE_STATE)
def a_rollup_divides_a_transaction() -> Patch:
    """A rollup publishes a part of its counters, and the rest with the next one."""

    def fold(original: Any, self: Image, stop: Revision, number: int) -> Any:
        done, rows, taken = original(self, stop, number)
        held: list[Any] = self.__dict__.setdefault("held", [])
        counts = [*held, *done.counts]
        held[:] = counts[1::2] if len(done.counts) > 1 else []
        now = {(c.kind, c.target): c for c in counts if c not in held}
        return replace(done, counts=tuple(now.values())), rows, taken

    return instead(Image, "fold", fold)


@mutant(LOST, OWN, LINEAR, BACK)
def commits_are_acknowledged_before_they_are_durable() -> Patch:
    """`synchronous_commit = off`."""

    async def write(original: Any, self: Primary, tx: Any, record: Any) -> None:
        tx.record = record
        self.log.append(record)
        position, starts = len(self.log), self.starts

        def flush() -> None:
            if self.up and self.starts == starts and position > self.durable:
                self.durable = position
                for told in self.flushed:
                    told()

        asyncio.get_running_loop().call_later(0.05, flush)

    return instead(Primary, "write", write)


@mutant("no money is made or lost", "each transfer once", "no balance below", "balances within")
def accounts_are_not_locked() -> Patch:
    """Two transfers of one account decide upon the same balance."""

    async def lock(original: Any, self: Primary, tx: Any, rows: Iterable[Any]) -> None:
        await original(self, tx, [row for row in rows if row[0] != 4])

    return instead(Primary, "lock", lock)


@mutant("monotonic writes", "one value per version", "writes follow reads")
def objects_are_not_locked() -> Patch:
    """Two writes of one object find the same version."""

    async def lock(original: Any, self: Primary, tx: Any, rows: Iterable[Any]) -> None:
        await original(self, tx, [row for row in rows if row[0] != 2])

    return instead(Primary, "lock", lock)


@mutant(BACK, CAUSE, OLDER)
def a_read_claims_less_than_it_shows() -> Patch:
    """A read on the primary tells the newest rollup's revision, whatever waits for the next one."""
    return instead(Primary, "standing", lambda _, self: self.image.latest.rollup.revision)


@mutant(OLDER)
def a_standby_tells_its_own_head() -> Patch:
    """How far behind a standby is, it says itself: not at all."""

    async def feed(original: Any, self: SimulatedStandby, after: int, changes_max: int) -> Any:
        found = await original(self, after, changes_max)
        return replace(found, head=found.latest.revision)

    return instead(SimulatedStandby, "feed", feed)


@mutant(OWN, BACK, CAUSE)
def a_revision_is_taken_on_a_standby() -> Patch:
    """A follower is told the standby's own snapshot, which knows of no running transactions."""

    async def feed(original: Any, self: SimulatedStandby, after: int, changes_max: int) -> Any:
        found = await original(self, after, changes_max)
        if not found.rollups:
            return found
        last = found.rollups[-1]
        seen = max([last.revision.xmax - 1, *self._server.image.queue])
        last = replace(last, revision=Revision.upto(seen))
        return replace(found, rollups=(*found.rollups[:-1], last))

    return instead(SimulatedStandby, "feed", feed)


@mutant(TRUTH, ONE_STATE, BACK, OLDER)
def a_counter_does_not_tell_when_it_changed() -> Patch:
    """`changed` stays what it was when the counter was born, so that every fill looks valid."""

    async def counters(original: Any, self: SimulatedStore, keys: Any) -> Any:
        found = await original(self, keys)
        rows = (replace(r, changed=min(r.born, r.changed)) for r in found.rows)
        return replace(found, rows=tuple(rows))

    return instead(SimulatedStore, "counters", counters)


@mutant(TRUTH, OLDER, ONE_STATE, BACK)
def the_feed_leaves_a_rollup_out() -> Patch:
    """An answer that is cut short goes on after the place where it was cut."""

    def after(original: Any, self: Image, number: int, changes_max: int) -> Any:
        rollups, behind = original(self, number, changes_max)
        if len(rollups) > 2:
            empty = replace(rollups[1], counts=(), documents=())
            rollups = (rollups[0], empty, *rollups[2:])
        return rollups, behind

    return instead(Image, "after", after)
