"""A database server as PostgreSQL orders things: durable, then visible, then told.

A transaction has its id early, holds the rows that it decides upon, becomes durable in the order of the
log, visible some time later (in any order among those that run at once), and only then answers. A crash
loses what is not durable, and shows what is, told or not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from random import Random
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from groundswell.accounts import document
from groundswell.kinds import Kinds
from groundswell.model import Add, Movement
from groundswell.revision import Revision
from groundswell.store import Batch, Committed, Rolled
from groundswell.stores.ledger import PLACE_BITS
from groundswell.stores.plan import EdgeKey, EdgeRow, Plan, Wants, wants
from groundswell.stores.postgres import direct
from groundswell.verify.simulation.image import Ended, Image, Record, RolledUp, Written
from groundswell.verify.simulation.loop import Process

FIRST_XID: Final = 10

Row = tuple[int, str]  # what can be locked; in this order


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How long things take at the server, in seconds; all zero: nothing waits."""

    flush_s: float = 0.0
    visible_s: float = 0.0  # between durable and visible
    slow_s: float = 0.0  # how long a slow transaction stays open
    slow_share: float = 0.0
    long_visible_share: float = 0.0  # of those that wait so long to become visible, too
    idle_s: float | None = None  # as of the real store


class Transaction:
    """One that runs."""

    def __init__(self, xid: int) -> None:
        self.xid = xid
        self.task: asyncio.Task[Any] | None = None
        self.record: Record | None = None  # once it is in the log
        self.rows: list[Row] = []


class Primary:
    """The server, and what survives it."""

    def __init__(
        self,
        kinds: Kinds,
        rng: Random,
        pace: Pace,
        *,
        now_ms: Callable[[], int],
        rollups_kept: int,
    ) -> None:
        self.kinds = kinds
        self.identity = f"simulated-{rng.getrandbits(32):08x}"
        self.epoch = 1
        self.up = True
        self.starts = 1  # how often it was started: connections do not outlive that
        self.pace = pace
        self.flushed: list[Callable[[], None]] = []  # to be told of new durable records
        self.rolled: list[Callable[[int], None]] = []  # to be told of rollups
        self.log: list[Record] = []
        self.durable = 0  # so many records of the log
        self.image = Image(kinds, self.epoch, Revision.upto(FIRST_XID - 1))
        self._rng = rng
        self._now_ms = now_ms
        self._rollups_kept = rollups_kept
        self._running: dict[int, Transaction] = {}
        self._next_xid = FIRST_XID
        self._completed = FIRST_XID - 1  # the highest one that has ended
        self._commits = 0
        self._locked: dict[Row, int] = {}
        self._unlocked = asyncio.Event()
        self._rolling = asyncio.Lock()
        self._process = Process("primary")

    # --- what transactions see ------------------------------------------------------------------

    def snapshot(self) -> Revision:
        """What is visible now."""
        return Revision.of(self._completed + 1, tuple(self._running))

    def standing(self) -> Revision:
        """The same, or the newest rollup's revision where that shows the same."""
        return self.snapshot() if self.image.queue else self.image.latest.rollup.revision

    def moment(self, floor_ms: int = 0) -> int:
        """The time; never before the newest rollup."""
        return max(self._now_ms(), floor_ms, self.image.latest.made_ms)

    # --- life and death -------------------------------------------------------------------------

    def crash(self) -> None:
        """Lose everything that is not durable."""
        self._process.kill()
        self.up = False
        self._running.clear()
        self._locked.clear()
        del self.log[self.durable :]

    def fail_over(self, lost: int) -> None:
        """A standby that lacks the newest `lost` records takes the place of the one that crashed."""
        self.durable = max(0, self.durable - lost)
        del self.log[self.durable :]
        self.epoch += 1
        self.start()

    def start(self) -> None:
        """Recover from the log; nothing runs."""
        self.image = Image(self.kinds, 1, Revision.upto(FIRST_XID - 1))
        for record in self.log:
            self.image.apply(record)
        # Ids are taken from the log too: one that left no trace there comes again.
        self._completed = max([FIRST_XID - 1, *(record.xid for record in self.log)])
        self._next_xid = self._completed + 1
        self._unlocked = asyncio.Event()
        self._rolling = asyncio.Lock()
        self._process = Process("primary")
        self.up = True
        self.starts += 1

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run it at the server: whoever asked for it may go away."""
        return self._process.spawn(work)

    def abandoned(self, task: asyncio.Task[Any]) -> None:
        """Whoever asked has gone away: unless it is committing already, that may end it."""
        for tx in self._running.values():
            if tx.task is task and tx.record is None and self._rng.random() < 0.5:
                task.cancel()

    # --- transactions ---------------------------------------------------------------------------

    def begin(self) -> Transaction:
        """A transaction with an id, from here on in every snapshot as running."""
        tx = Transaction(self._next_xid)
        self._next_xid += 1
        self._running[tx.xid] = tx
        tx.task = asyncio.current_task()
        return tx

    def end(self, tx: Transaction) -> None:
        """Let it be visible, if it has done anything, and let go of its rows."""
        if self._running.get(tx.xid) is not tx:
            return  # the server has crashed meanwhile
        del self._running[tx.xid]
        self._completed = max(self._completed, tx.xid)
        if tx.record is None:
            self.log.append(Ended(tx.xid))
        else:
            self.image.apply(tx.record)
        for row in tx.rows:
            del self._locked[row]
        self._unlocked.set()
        self._unlocked = asyncio.Event()

    async def lock(self, tx: Transaction, rows: Iterable[Row]) -> None:
        """Wait for these rows, in the order that all transactions share."""
        for row in sorted(rows):
            await self._lock_row(tx, row, lambda: True)

    async def _lock_row(self, tx: Transaction, row: Row, there: Callable[[], bool]) -> bool:
        """Wait for it for as long as it is there; whether it was to the end."""
        while there():
            if self._locked.get(row, tx.xid) == tx.xid:
                if row not in self._locked:
                    self._locked[row] = tx.xid
                    tx.rows.append(row)
                return True
            await self._unlocked.wait()
        return False

    async def write(self, tx: Transaction, record: Record) -> None:
        """Make it durable, and then wait a while before it may be visible."""
        tx.record = record
        self.log.append(record)
        position = len(self.log)
        await self.pause(self.pace.flush_s)
        if position > self.durable:
            self.durable = position
            for told in self.flushed:
                told()
        longer = self._rng.random() < self.pace.long_visible_share
        await self.pause(self.pace.slow_s if longer else self.pace.visible_s)

    async def pause(self, mean_s: float) -> None:
        """Let others run for a while."""
        if mean_s:
            await asyncio.sleep(self._rng.expovariate(1 / mean_s))

    async def commit(self, batches: Sequence[Batch], floor_ms: int) -> tuple[list[Committed], int]:
        """See `stores.postgres.direct` and `stores.postgres.planned`, whose steps these are."""
        group = direct.Group.of(batches, self.kinds)
        at_ms, seen = self.moment(floor_ms), self.snapshot()
        tx = self.begin()
        try:
            wanted = wants(batches, self.kinds)
            began = await self._lock_edges(tx, wanted, batches)
            movements = await self._lock(tx, wanted)
            plan = self._plan(tx, wanted, movements, at_ms)
            planned = plan.apply(batches)
            if self._rng.random() < self.pace.slow_share:
                await self.pause(self.pace.slow_s)
            # A plan looks once more under all locks, and so does whoever puts objects; statements that
            # decide alone do not.
            puts = group is not None and bool(group.objects.puts)
            found = self.snapshot() if group is None or group.tallies or puts else began
            changed = plan.let_go or any(batch.changed for batch in planned)
            if changed:
                await self.write(tx, self._written(plan, tx.xid, seen))
        finally:
            self.end(tx)
        # As in `direct`: where others were faster, what they did may be newer than what was found.
        late = group is not None and any(direct.UNCHANGED in one.outcomes for one in planned)
        now = including(found, tx.xid) if puts or (changed and not late) else self.standing()
        return [
            Committed(batch.outcomes, tx.xid if batch.changed else None, slot, batch.effects, now)
            for slot, batch in enumerate(planned)
        ], at_ms

    async def _lock_edges(
        self, tx: Transaction, wanted: Wants, batches: Sequence[Batch]
    ) -> Revision:
        """Lock them, one statement per kind; what the last of these saw when it began.

        An edge that such a statement cannot see, or that goes while it waits, is none that it removes:
        that one is wanted no longer.
        """
        await self.lock(tx, [(0, repr(seat)) for seat in wanted.seats])
        adds = [w for batch in batches for w in batch.writes if isinstance(w, Add)]
        added = {(write.kind, write.target, write.source) for write in adds}
        began = self.snapshot()
        for kind in sorted({key[0] for key in wanted.edges}):
            began = self.snapshot()
            keys = {key for key in wanted.edges if key[0] == kind}
            there = keys & (added | self.image.edges.keys())
            for key in sorted(there, key=repr):
                lasts = partial(self._lasts, key, added)
                if not await self._lock_row(tx, (1, repr(key)), lasts):
                    there.discard(key)
            wanted.edges.difference_update(keys - there)
        return began

    def _lasts(self, key: EdgeKey, added: set[EdgeKey]) -> bool:
        return key in added or key in self.image.edges

    async def _lock(self, tx: Transaction, wanted: Wants) -> dict[str, Movement]:
        """Lock what else is wanted; the transfers among it, whose accounts are then wanted too."""
        image = self.image
        rows = [(1, repr(key)) for key in wanted.tallies]
        rows += [(2, id_) for id_ in wanted.documents]
        await self.lock(tx, rows + [(3, id_) for id_ in wanted.movements])
        movements = {id_: image.movements[id_] for id_ in wanted.movements & set(image.movements)}
        for id_ in wanted.resolved & set(movements):
            wanted.accounts.update((movements[id_].debit, movements[id_].credit))
        await self.lock(tx, [(4, id_) for id_ in wanted.accounts])
        return movements

    def _plan(
        self, tx: Transaction, wanted: Wants, movements: dict[str, Movement], at_ms: int
    ) -> Plan:
        image, names = self.image, wanted.accounts
        expired = [
            hold
            for hold in image.over(at_ms)
            if (hold.debit_open and hold.debit in names)
            or (hold.credit_open and hold.credit in names)
        ]
        edges: dict[tuple[str, Any, Any], EdgeRow] = {
            key: image.edges[key] for key in sorted(wanted.edges, key=repr) if key in image.edges
        }
        if wanted.seats:
            edges.update({k: row for k, row in image.edges.items() if k[:2] in wanted.seats})
        return Plan(
            self.kinds,
            xid=tx.xid,
            now_ms=at_ms,
            edges=edges,
            tallies=[key for key in image.tallies if key in wanted.tallies],
            documents={i: image.documents[i] for i in wanted.documents if i in image.documents},
            accounts={i: image.accounts[i] for i in names if i in image.accounts},
            movements=movements,
            expired=expired,
        )

    def _written(self, plan: Plan, xid: int, seen: Revision) -> Written:
        edges: dict[Any, EdgeRow | None] = {}
        for kind, dropped in plan.edges_to_drop().items():
            edges.update({(kind, *pair): None for pair in dropped})
        for kind, stored in plan.edges_to_store().items():
            edges.update({(kind, row[0], row[1]): EdgeRow(*row[2:]) for row in stored})
        documents, accounts = plan.documents_to_store(), plan.accounts_to_store()
        # Ids of transactions are not in the order of the locks; as the real store, number the commits.
        self._commits += 1
        first = self._commits << PLACE_BITS
        movements = [
            one
            if one.id in self.image.movements
            else replace(one, place=first | one.place & (1 << PLACE_BITS) - 1)
            for one in plan.movements_to_store()
        ]
        return Written(
            xid=xid,
            seen=seen,
            edges=edges,
            tallies=plan.tallies_to_store(),
            documents=documents,
            accounts=accounts,
            movements=movements,
            counts=dict(plan.events),
            objects=documents + [document(account) for account in accounts],
        )

    async def roll_up(self, events_max: int) -> Rolled | None:
        """See `groundswell.roll_up` of the schema."""
        if not self._due():
            return None
        async with self._rolling:
            return await self._roll_up(events_max) if self._due() else None

    async def _roll_up(self, events_max: int) -> Rolled:
        tick = self.snapshot()
        tx = self.begin()
        try:
            stop = self.image.stop_at(tick, events_max)
            number = self.image.latest.rollup.number + 1
            rollup, rows, taken = self.image.fold(stop or tick, number)
            record = RolledUp(
                xid=tx.xid,
                rollup=rollup,
                epoch=self.epoch,
                made_ms=self.moment(),
                rows=rows,
                kept=self._rollups_kept,
            )
            await self.write(tx, record)
        finally:
            self.end(tx)
        for told in self.rolled:
            told(number)
        events = sum(one.events for one in taken)
        return Rolled(number, rollup.revision, events, more=stop is not None)

    def _due(self) -> bool:
        if self.image.queue:
            return True
        latest = self.image.latest
        if latest.epoch != self.epoch:
            return True
        idle_s = self.pace.idle_s
        old = idle_s is not None and latest.made_ms + idle_s * 1000 < self._now_ms()
        return old and not including(latest.rollup.revision, latest.xid).includes(self.snapshot())


def including(revision: Revision, xid: int) -> Revision:
    """As `stores.postgres.snapshots.including`."""
    if revision.sees(xid):
        return revision
    running = [x for x in (*revision.xip, *range(revision.xmax, xid)) if x != xid]
    return Revision.of(max(revision.xmax, xid + 1), tuple(running))
