"""What one server shows: the effect of the transactions that are visible there. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from groundswell.accounts import document
from groundswell.kinds import Kinds
from groundswell.model import (
    ACCOUNT,
    Account,
    Counter,
    Document,
    Edge,
    Id,
    Key,
    Movement,
    Newest,
)
from groundswell.revision import Revision
from groundswell.store import (
    CountChange,
    CounterRow,
    Item,
    ItemRow,
    Page,
    Rollup,
    Sight,
    Window,
    page,
)
from groundswell.stores.plan import EdgeKey, EdgeRow, TallyKey

Sums = dict[Key, tuple[int, int]]

ABSENT = CounterRow(Counter(0), 0, 0)


class Written(msgspec.Struct, kw_only=True):
    """The record of a transaction of writes: what it leaves behind, and its events."""

    xid: int
    seen: Revision  # the state that it found, before it had an id
    edges: dict[EdgeKey, EdgeRow | None] = {}
    tallies: list[TallyKey] = []
    documents: list[Document] = []
    accounts: list[Account] = []
    movements: list[Movement] = []
    counts: Sums = {}  # events
    objects: list[Document] = []  # events

    @property
    def events(self) -> int:
        """How many it puts on the queue."""
        return len(self.counts) + len(self.objects)


class RolledUp(msgspec.Struct, kw_only=True):
    """The record of a rollup."""

    xid: int
    rollup: Rollup
    epoch: int
    made_ms: int
    rows: dict[Key, CounterRow]
    kept: int  # of the newest rollups


class Ended(msgspec.Struct):
    """The record of a transaction that wrote nothing."""

    xid: int


Record = Written | RolledUp | Ended


class Image:
    """All that is visible, one record after the other."""

    def __init__(self, kinds: Kinds, epoch: int, revision: Revision) -> None:
        self._kinds = kinds
        self.edges: dict[EdgeKey, EdgeRow] = {}
        self.tallies: dict[TallyKey, None] = {}
        self.documents: dict[str, Document] = {}
        self.accounts: dict[str, Account] = {}
        self.movements: dict[str, Movement] = {}
        self.queue: dict[int, Written] = {}  # what no rollup has folded, by xid
        self.counters: dict[Key, CounterRow] = {}
        self.rollups: list[Rollup] = []
        self.latest = RolledUp(
            xid=0, rollup=Rollup(0, revision), epoch=epoch, made_ms=0, rows={}, kept=0
        )

    def apply(self, record: Record) -> None:
        """Show what the transaction did."""
        if isinstance(record, Written):
            self._apply_writes(record)
        elif isinstance(record, RolledUp):
            for xid in [xid for xid in self.queue if record.rollup.revision.sees(xid)]:
                del self.queue[xid]
            self.counters.update(record.rows)
            self.rollups.append(record.rollup)
            del self.rollups[: -record.kept]
            latest = Rollup(record.rollup.number, record.rollup.revision)
            self.latest = msgspec.structs.replace(record, rollup=latest, rows={})

    def _apply_writes(self, record: Written) -> None:
        for key, row in record.edges.items():
            if row is None:
                self.edges.pop(key, None)
            else:
                self.edges[key] = row
        self.tallies.update(dict.fromkeys(record.tallies))
        self.documents.update({one.id: one for one in record.documents})
        self.accounts.update({one.id: one for one in record.accounts})
        self.movements.update({one.id: one for one in record.movements})
        if record.events:
            self.queue[record.xid] = record

    # --- the rollup -----------------------------------------------------------------------------

    def stop_at(self, tick: Revision, events_max: int) -> Revision | None:
        """As `groundswell.stop_at` of the schema: where a bounded rollup ends; None: at the tick."""
        last = self.latest.rollup.revision
        waiting = sorted(self.queue.values(), key=lambda one: one.xid)
        new = [one for one in waiting if one.xid >= last.xmax]
        each = [one.xid for one in new for _ in range(one.events)]
        events = max(events_max, 1)
        while events <= len(each):
            after = [one for one in new if one.xid > each[events - 1]]
            if not after or after[0].seen.xmax >= tick.xmax:
                return None
            stop = after[0].seen
            if any(stop.sees(one.xid) for one in new if one.xid < stop.xmax):
                return stop
            events *= 2
        return None

    def fold(
        self, stop: Revision, number: int
    ) -> tuple[Rollup, dict[Key, CounterRow], list[Written]]:
        """The rollup that ends at `stop`, the counters that it changes, and what it folds."""
        taken = [one for one in self.queue.values() if stop.sees(one.xid)]
        rows: dict[Key, CounterRow] = {}
        for key, (count, sum_) in added(taken).items():
            before = self.counters.get(key, CounterRow(Counter(0), number, number))
            moved = Counter(before.counter.count + count, before.counter.sum + sum_)
            rows[key] = CounterRow(moved, before.born, number)
        newest: dict[str, Document] = {}
        for one in (each for record in taken for each in record.objects):
            if one.id not in newest or newest[one.id].version < one.version:
                newest[one.id] = one
        counts = (
            CountChange(*key, row.counter.count, row.counter.sum) for key, row in rows.items()
        )
        return Rollup(number, stop, tuple(counts), tuple(newest.values())), rows, taken

    # --- reads ----------------------------------------------------------------------------------

    def after(self, number: int, changes_max: int) -> tuple[tuple[Rollup, ...], bool]:
        """The rollups after `number`, and whether that is behind what is kept."""
        latest = self.latest.rollup.number
        kept = [rollup for rollup in self.rollups if rollup.number > number]
        if number < 0 or number > latest or (number < latest and kept[0].number != number + 1):
            return (), True
        found: list[Rollup] = []
        for rollup in kept:
            changes_max -= max(len(rollup.counts) + len(rollup.documents), 1)
            if found and changes_max < 0:
                break
            found.append(rollup)
        return tuple(found), False

    def current(self, keys: Sequence[Key]) -> tuple[Counter, ...]:
        """The counters with what waits."""
        waiting = added(self.queue.values())
        found = []
        for key in keys:
            row, (count, sum_) = self.counters.get(key, ABSENT), waiting.get(key, (0, 0))
            found.append(Counter(row.counter.count + count, row.counter.sum + sum_))
        return tuple(found)

    def item(self, sight: Sight) -> ItemRow:
        """What the sight shows, with what waits."""
        kind, target = sight.key
        listed = [
            Newest(key[2], row.created_ms, row.value, row.data)
            for key, row in self.edges.items()
            if key[:2] == sight.key
        ]
        listed.sort(key=lambda edge: (edge.created_ms, edge.source), reverse=True)
        viewer = None if sight.viewer is None else (kind, target, sight.viewer) in self.edges
        [counter] = self.current([sight.key])
        return ItemRow(
            Item(counter, tuple(listed[: sight.newest]), viewer),
            self.counters.get(sight.key, ABSENT),
            any(sight.key in one.counts for one in self.queue.values()),
        )

    def object(self, id_: str) -> Document | None:
        """An object, or an account as one."""
        if not id_.startswith(ACCOUNT):
            return self.documents.get(id_)
        found = self.accounts.get(id_.removeprefix(ACCOUNT))
        return None if found is None else document(found)

    def account(self, id_: str, now_ms: int) -> Account | None:
        """An account without what its expired holds keep."""
        found = self.accounts.get(id_)
        if found is None:
            return None
        held, expected = found.held, found.expected
        for hold in self.over(now_ms):
            held -= hold.amount if hold.debit_open and hold.debit == id_ else 0
            expected -= hold.amount if hold.credit_open and hold.credit == id_ else 0
        return msgspec.structs.replace(found, held=held, expected=expected)

    def over(self, now_ms: int) -> list[Movement]:
        """The holds that have expired, and that an account still counts."""
        return [
            one
            for one in self.movements.values()
            if one.expires_ms is not None
            and one.expires_ms <= now_ms
            and (one.debit_open or one.credit_open)
        ]

    def edge(self, key: EdgeKey) -> Edge | None:
        """One edge."""
        row = self.edges.get(key)
        return None if row is None else _edge(key, row)

    def page(
        self, on: Callable[[EdgeKey], bool], window: Window, at: Revision, *, inverse: bool
    ) -> Page:
        """One page of the edges for which `on` holds."""

        def place(edge: Edge) -> tuple[int, Id]:
            return edge.created_ms, edge.target if inverse else edge.source

        found = [_edge(key, row) for key, row in self.edges.items() if on(key)]
        if window.since_ms is not None:
            found = [edge for edge in found if edge.created_ms >= window.since_ms]
        if window.until_ms is not None:
            found = [edge for edge in found if edge.created_ms < window.until_ms]
        cursor = window.cursor
        newer = cursor is not None and cursor.newer
        if cursor is not None:
            end = (cursor.created_ms, cursor.other)
            found = [edge for edge in found if (place(edge) > end if newer else place(edge) < end)]
        found.sort(key=place, reverse=not newer)
        return page(found[: window.limit + 1], window, at, inverse=inverse)

    def recount(self, kind: str, target: Id) -> Counter:
        """The truth behind a counter."""
        rated = self._kinds.of_bucket(kind)
        name = rated[0].name if rated else kind
        if not self._kinds[name].unique:
            return self.current([(kind, target)])[0]
        rows = [row for key, row in self.edges.items() if key[:2] == (name, target)]
        if rated:
            return Counter(sum(1 for row in rows if row.value == rated[1]))
        return Counter(len(rows), sum(row.value or 0 for row in rows))


def added(records: Iterable[Written]) -> Sums:
    """What the events of these transactions come to."""
    total: Sums = {}
    for record in records:
        for key, (count, sum_) in record.counts.items():
            before = total.get(key, (0, 0))
            total[key] = before[0] + count, before[1] + sum_
    return total


def _edge(key: EdgeKey, row: EdgeRow) -> Edge:
    kind, target, source = key
    return Edge(
        kind=kind,
        target=target,
        source=source,
        created_ms=row.created_ms,
        value=row.value,
        data=row.data,
        expires_ms=row.expires_ms,
    )
