"""The reference model: the contract in plain dictionaries, one write at a time.

Written to be obviously right rather than fast, and independent of the other stores, so that it can be
the oracle of their tests. Nothing survives the process.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence

import msgspec

from groundswell.errors import StoreUnavailable
from groundswell.kinds import Kinds, bucket
from groundswell.model import (
    ACCOUNT,
    Account,
    Add,
    Counter,
    Delete,
    Document,
    Edge,
    Effect,
    Id,
    Key,
    Movement,
    Newest,
    Open,
    Post,
    Put,
    Remove,
    Settle,
    SettleAccount,
    SettleClaim,
    Tally,
    Transfer,
    Void,
    Write,
)
from groundswell.revision import Revision
from groundswell.store import (
    Batch,
    Changed,
    Committed,
    CountChange,
    CounterRow,
    Counters,
    Cursor,
    Documents,
    Feed,
    Head,
    Item,
    ItemRow,
    Items,
    Movements,
    Outcome,
    Page,
    Refused,
    Rolled,
    Rollup,
    Sight,
    Stored,
    Window,
    movements,
    page,
)
from groundswell.stores.bank import Bank


class _State:
    """What an atomic batch may have to take back."""

    def __init__(self) -> None:
        self.edges: dict[tuple[str, Id, Id], Edge] = {}
        self.documents: dict[str, Document] = {}
        self.tallies: set[tuple[str, Id, str]] = set()
        self.tallied: dict[Key, int] = {}
        self.bank = Bank()
        self.freed: dict[Key, Edge] = {}  # expired claims of this commit that nobody has replaced
        self.effects: dict[Key, Effect] = {}  # of the batch in hand
        self.changed = False  # whether the batch in hand changed anything

    def copy(self) -> _State:
        other = _State()
        other.edges, other.documents = dict(self.edges), dict(self.documents)
        other.tallies, other.tallied = set(self.tallies), dict(self.tallied)
        other.bank, other.freed = self.bank.copy(), dict(self.freed)
        return other


class MemoryStore:
    """See `groundswell.store.Store` for what the methods promise; durability apart."""

    label = "memory"

    def __init__(
        self,
        kinds: Kinds,
        *,
        rollups_kept: int = 1_000,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.identity = secrets.token_hex(8)
        self.epoch = 1
        self._kinds = kinds
        self._rollups_kept = rollups_kept
        self._now_ms = now_ms
        self._at_ms = 0
        self._state = _State()
        self._xid = 0
        self._queue: list[tuple[int, dict[Key, Effect], dict[str, Document]]] = []  # by transaction
        self._counters: dict[Key, CounterRow] = {}
        self._rollups: list[Rollup] = []
        self._rolled = Rollup(0, Revision.upto(0))
        self._closed = False

    async def close(self) -> None:
        """Refuse everything from now on."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("The store has been closed; nothing was changed.")

    # --- writing --------------------------------------------------------------------------------

    async def commit(self, batches: Sequence[Batch]) -> list[Committed]:  # noqa: D102
        self._check_open()
        xid, before = self._xid + 1, dict(self._state.documents)
        self._at_ms = max(self._at_ms, self._now_ms())
        let_go = self._let_go_of_claims(batches)
        results: list[tuple[tuple[Outcome, ...], dict[Key, Effect], bool]] = []
        for batch in batches:
            results.append(self._batch(batch, xid))
        self._settle_accounts(batches, xid)
        self._state.bank.touched = set()
        if (
            let_go
            or any(changed for _, _, changed in results)
            or self._state.documents != before  # holds that have expired
        ):
            self._xid = xid
            events: dict[Key, Effect] = {}
            for _, effects, _ in results:
                for effect in effects.values():
                    _add_up(events, effect)
            for edge in self._state.freed.values():
                for effect in self._effects(edge, -1):
                    _add_up(events, effect)
            documents = {
                id_: document
                for id_, document in self._state.documents.items()
                if document != before.get(id_)
            }
            self._queue.append((xid, events, documents))
        seen = Revision.upto(self._xid)
        return [
            Committed(
                outcomes,
                xid if changed else None,
                slot,
                tuple(e for e in effects.values() if e.count or e.sum),
                seen,
            )
            for slot, (outcomes, effects, changed) in enumerate(results)
        ]

    def _let_go_of_claims(self, batches: Sequence[Batch]) -> bool:
        """Drop the expired claims on targets that the writes name."""
        self._state.freed = {}
        for write in (write for batch in batches for write in batch.writes):
            if isinstance(write, Add | Remove | SettleClaim):
                for edge in list(self._state.edges.values()):
                    over = edge.expires_ms is not None and edge.expires_ms <= self._at_ms
                    if over and (edge.kind, edge.target) == (write.kind, write.target):
                        del self._state.edges[edge.kind, edge.target, edge.source]
                        self._state.freed[edge.kind, edge.target] = edge
        return bool(self._state.freed)

    def _settle_accounts(self, batches: Sequence[Batch], xid: int) -> None:
        """Bring the objects of all accounts that the writes name to where these stand."""
        bank, named = self._state.bank, set[str]()
        for write in (write for batch in batches for write in batch.writes):
            match write:
                case Open() | SettleAccount():
                    named.add(write.id)
                case Transfer():
                    named.update((write.debit, write.credit))
                case Post() | Void() if write.id in bank.movements:
                    movement = bank.movements[write.id]
                    named.update((movement.debit, movement.credit))
        for id_ in named:
            before = self._state.documents.get(ACCOUNT + id_)
            after = bank.document(id_, self._at_ms, before, xid)
            if after is not None:
                self._state.documents[after.id] = after

    def _batch(self, batch: Batch, xid: int) -> tuple[tuple[Outcome, ...], dict[Key, Effect], bool]:
        # A single write is atomic anyway, and needs no copy of everything.
        saved = self._state.copy() if batch.atomic and len(batch.writes) > 1 else None
        self._state.effects, self._state.changed = {}, False
        outcomes: list[Outcome] = []
        for index, write in enumerate(batch.writes):
            outcome = self._write(write, xid)
            outcomes.append(outcome)
            if saved and isinstance(outcome, Refused):
                self._state = saved
                rest = Refused(
                    "not-applied",
                    f"Nothing of this atomic batch was applied: write {index} was refused.",
                )
                after = len(batch.writes) - index - 1
                return (*[rest] * index, outcome, *[rest] * after), {}, False
        return tuple(outcomes), self._state.effects, self._state.changed

    def _write(self, write: Write | Settle, xid: int) -> Outcome:
        match write:
            case Add():
                return self._add(write)
            case Remove(kind, target, source):
                edge = self._state.edges.pop((kind, target, source), None)
                if edge is None:
                    return Changed(False)
                return self._changed(*self._effects(edge, -1))
            case Tally(kind, target, by, id_):
                if id_ is not None and (kind, target, id_) in self._state.tallies:
                    return Changed(False)
                if id_ is not None:
                    self._state.tallies.add((kind, target, id_))
                self._state.tallied[kind, target] = self._state.tallied.get((kind, target), 0) + by
                return self._changed(Effect(kind, target, by))
            case Put() | Delete():
                return self._object(write, xid)
            case Open() | Transfer() | Post() | Void():
                outcome = self._state.bank.write(write, self._at_ms)
                self._state.changed |= getattr(outcome, "changed", False)
                return outcome
            case SettleAccount() | SettleClaim():
                return Changed(False)  # done already

    def _add(self, write: Add) -> Outcome:
        key = (write.kind, write.target, write.source)
        old = self._state.edges.get(key)
        taken = self._kinds[write.kind].exclusive and any(
            (e.kind, e.target) == key[:2] for e in self._state.edges.values()
        )
        if old is None and taken:
            return Refused("seat-taken", "This target is held by another source.")
        lasts_s = write.expires_in_s
        expires_ms = None if lasts_s is None else self._at_ms + round(lasts_s * 1000)
        if old and expires_ms is not None:  # an add never shortens a claim
            expires_ms = None if old.expires_ms is None else max(old.expires_ms, expires_ms)
        if old and (old.value, old.data, old.expires_ms) == (write.value, write.data, expires_ms):
            return Changed(False)
        self._state.edges[key] = Edge(
            kind=write.kind,
            target=write.target,
            source=write.source,
            created_ms=old.created_ms if old else self._at_ms,
            value=write.value,
            data=write.data,
            expires_ms=expires_ms,
        )
        freed = None if old else self._state.freed.pop(key[:2], None)
        if freed is not None:  # one claim for another
            self._changed(*self._effects(freed, -1))
        effects = self._effects(self._state.edges[key], 1)
        if old is not None:
            effects = self._effects(old, -1) + effects
            if old.value == write.value:  # nothing has happened to the count of its value
                effects = [effect for effect in effects if effect.kind == write.kind]
        return self._changed(*effects)

    def _effects(self, edge: Edge, by: int) -> list[Effect]:
        """What an edge that comes (1) or goes (-1) does to counts."""
        found = [Effect(edge.kind, edge.target, by, by * (edge.value or 0))]
        declared = self._kinds[edge.kind].value
        if declared and edge.value is not None and edge.value in declared.buckets:
            found.append(Effect(bucket(edge.kind, edge.value), edge.target, by))
        return found

    def _changed(self, *effects: Effect) -> Outcome:
        self._state.changed = True
        for effect in effects:
            _add_up(self._state.effects, effect)
        return Changed(True)

    def _object(self, write: Put | Delete, xid: int) -> Outcome:
        old = self._state.documents.get(write.id)
        standing = old.version if old and old.data is not None else 0
        if write.if_version is not None and write.if_version != standing:
            where = f"stands at version {standing}" if standing else "does not exist"
            return Refused(
                "version-conflict",
                f"Object {write.id!r} {where}, not at version {write.if_version}.",
                standing,
            )
        version = (old.version if old else 0) + 1
        if isinstance(write, Put):
            if old and standing and (old.type, old.data) == (write.type, write.data):
                return Stored(standing, changed=False)
            new = Document(write.id, write.type, version, xid, write.data)
        elif old is None or not standing:
            return Changed(False)
        else:
            new = Document(write.id, old.type, version, xid, None)
        self._state.documents[write.id] = new
        self._state.changed = True
        return Stored(version) if isinstance(write, Put) else Changed(True)

    async def rollup(self, events_max: int) -> Rolled | None:  # noqa: D102
        self._check_open()
        taken, events = 0, 0
        while taken < len(self._queue) and events < events_max:
            _, counts, documents = self._queue[taken]
            events += len(counts) + len(documents)
            taken += 1
        if not taken:
            return None
        batch, self._queue = self._queue[:taken], self._queue[taken:]
        number, revision = self._rolled.number + 1, Revision.upto(batch[-1][0])
        changed: dict[Key, Effect] = {}
        changed_documents: dict[str, Document] = {}
        for _, counts, documents in batch:
            for effect in counts.values():
                _add_up(changed, effect)
            changed_documents.update(documents)
        for key, effect in changed.items():
            row = self._counters.get(key, CounterRow(Counter(0), number, number))
            counter = Counter(row.counter.count + effect.count, row.counter.sum + effect.sum)
            self._counters[key] = CounterRow(counter, row.born, number)
        self._rolled = Rollup(number, revision)
        published = tuple(
            CountChange(*key, self._counters[key].counter.count, self._counters[key].counter.sum)
            for key in changed
        )
        self._rollups.append(Rollup(number, revision, published, tuple(changed_documents.values())))
        self._rollups = self._rollups[-self._rollups_kept :]
        return Rolled(number, revision, events, more=bool(self._queue))

    # --- reading --------------------------------------------------------------------------------

    async def head(self) -> Head:  # noqa: D102
        self._check_open()
        return Head(self.epoch, Revision.upto(self._xid), self._rolled.number)

    async def backlog(self) -> int:  # noqa: D102
        self._check_open()
        return sum(len(counts) + len(documents) for _, counts, documents in self._queue)

    async def feed(self, after: int, changes_max: int) -> Feed:  # noqa: D102
        self._check_open()
        kept = [rollup for rollup in self._rollups if rollup.number > after]
        latest = self._rolled.number
        behind = after > latest or (after < latest and (not kept or kept[0].number != after + 1))
        found: list[Rollup] = []
        for rollup in [] if behind else kept:
            changes_max -= max(len(rollup.counts) + len(rollup.documents), 1)
            if found and changes_max < 0:
                break
            found.append(rollup)
        return Feed(self.epoch, Revision.upto(self._xid), self._rolled, tuple(found), behind)

    async def counters(self, keys: Sequence[Key]) -> Counters:  # noqa: D102
        self._check_open()
        absent = CounterRow(Counter(0), 0, 0)
        rows = tuple(self._counters.get(key, absent) for key in keys)
        return Counters(rows, self.epoch, self._rolled.number, self._rolled.revision)

    async def current(self, keys: Sequence[Key]) -> tuple[tuple[Counter, ...], Revision] | None:  # noqa: D102
        self._check_open()
        totals = {
            key: Effect(*key, row.counter.count, row.counter.sum)
            for key in keys
            if (row := self._counters.get(key))
        }
        for _, effects, _ in self._queue:
            for effect in effects.values():
                _add_up(totals, effect)
        found = (totals.get(key, Effect(*key, 0)) for key in keys)
        return tuple(Counter(e.count, e.sum) for e in found), Revision.upto(self._xid)

    async def items(self, sights: Sequence[Sight]) -> Items | None:  # noqa: D102
        self._check_open()
        rows = tuple(map(self._item_row, sights))
        return Items(rows, self.epoch, self._rolled.number, Revision.upto(self._xid))

    def _item_row(self, sight: Sight) -> ItemRow:
        row = self._counters.get(sight.key, CounterRow(Counter(0), 0, 0))
        waiting = [effects[sight.key] for _, effects, _ in self._queue if sight.key in effects]
        counter = Counter(
            row.counter.count + sum(effect.count for effect in waiting),
            row.counter.sum + sum(effect.sum for effect in waiting),
        )
        edges = [e for e in self._state.edges.values() if (e.kind, e.target) == sight.key]
        edges.sort(key=lambda edge: (edge.created_ms, edge.source), reverse=True)
        viewer = None
        if sight.viewer is not None:
            viewer = (*sight.key, sight.viewer) in self._state.edges
        newest = tuple(
            Newest(edge.source, edge.created_ms, edge.value, edge.data)
            for edge in edges[: sight.newest]
        )
        return ItemRow(Item(counter, newest, viewer), row, bool(waiting))

    async def documents(self, ids: Sequence[str]) -> Documents:  # noqa: D102
        self._check_open()
        rows = tuple(self._state.documents.get(id_) for id_ in ids)
        return Documents(rows, self.epoch, self._rolled.number, Revision.upto(self._xid))

    async def edge(self, kind: str, target: Id, source: Id) -> tuple[Edge | None, Revision]:  # noqa: D102
        self._check_open()
        return self._state.edges.get((kind, target, source)), Revision.upto(self._xid)

    async def edges(self, kind: str, target: Id, window: Window) -> Page:  # noqa: D102
        found = [e for e in self._state.edges.values() if (e.kind, e.target) == (kind, target)]
        return self._page(found, window, inverse=False)

    async def inverse(self, kind: str, source: Id, window: Window) -> Page:  # noqa: D102
        found = [e for e in self._state.edges.values() if (e.kind, e.source) == (kind, source)]
        return self._page(found, window, inverse=True)

    def _page(self, found: list[Edge], window: Window, *, inverse: bool) -> Page:
        self._check_open()

        def place(edge: Edge) -> tuple[int, Id]:
            return edge.created_ms, edge.target if inverse else edge.source

        if window.since_ms is not None:
            found = [edge for edge in found if edge.created_ms >= window.since_ms]
        if window.until_ms is not None:
            found = [edge for edge in found if edge.created_ms < window.until_ms]
        cursor = window.cursor
        newer = cursor is not None and cursor.newer
        if cursor is not None:
            at = (cursor.created_ms, cursor.other)
            found = [edge for edge in found if (place(edge) > at if newer else place(edge) < at)]
        found.sort(key=place, reverse=not newer)
        return page(found[: window.limit + 1], window, Revision.upto(self._xid), inverse=inverse)

    def _now(self) -> int:
        return max(self._at_ms, self._now_ms())

    async def account(self, id_: str) -> tuple[Account | None, Revision]:  # noqa: D102
        self._check_open()
        found = self._state.bank.account(id_, self._now())
        if found is not None:
            document = self._state.documents[ACCOUNT + id_]
            found = msgspec.structs.replace(found, version=document.version, xid=document.xid)
        return found, Revision.upto(self._xid)

    async def movement(self, id_: str) -> tuple[Movement | None, Revision]:  # noqa: D102
        self._check_open()
        return self._state.bank.movement(id_, self._now()), Revision.upto(self._xid)

    async def movements(self, account: str, limit: int, cursor: Cursor | None = None) -> Movements:  # noqa: D102
        self._check_open()
        bank = self._state.bank
        found = [m for m in bank.movements.values() if account in (m.debit, m.credit)]
        found.sort(key=lambda m: (m.created_ms, m.id), reverse=True)
        if cursor is not None:
            found = [m for m in found if (m.created_ms, m.id) < (cursor.created_ms, cursor.other)]
        listed = [bank.movement(m.id, self._now()) for m in found[: limit + 1]]
        return movements([m for m in listed if m], limit, Revision.upto(self._xid))

    async def expired(self, at_most: int) -> list[Settle]:  # noqa: D102
        self._check_open()
        bank, now_ms = self._state.bank, self._now()
        claims = [
            SettleClaim(edge.kind, edge.target)
            for edge in self._state.edges.values()
            if edge.expires_ms is not None and edge.expires_ms <= now_ms
        ]
        accounts: list[Settle] = []
        for id_ in bank.bounds:
            before = self._state.documents[ACCOUNT + id_]
            if bank.document(id_, now_ms, before, 0) is not before:
                accounts.append(SettleAccount(id_))
        return [*accounts, *claims][:at_most]

    async def recount(self, kind: str, target: Id) -> Counter:  # noqa: D102
        self._check_open()
        rated = self._kinds.of_bucket(kind)
        name = rated[0].name if rated else kind
        edges = [e for e in self._state.edges.values() if (e.kind, e.target) == (name, target)]
        if rated:
            return Counter(sum(1 for edge in edges if edge.value == rated[1]))
        tallied = self._state.tallied.get((kind, target), 0)
        return Counter(len(edges) + tallied, sum(edge.value or 0 for edge in edges))


def _add_up(effects: dict[Key, Effect], effect: Effect) -> None:
    old = effects.get((effect.kind, effect.target))
    if old is not None:
        effect = msgspec.structs.replace(
            effect, count=old.count + effect.count, sum=old.sum + effect.sum
        )
    effects[effect.kind, effect.target] = effect
