"""The contract on the reference model."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from groundswell.errors import StoreUnavailable
from groundswell.kinds import Kinds
from groundswell.model import (
    ACCOUNT,
    Account,
    Counter,
    Document,
    Edge,
    Effect,
    Id,
    Key,
    Movement,
    Newest,
    Settle,
    SettleAccount,
    SettleClaim,
)
from groundswell.revision import Revision
from groundswell.store import (
    GROUP_MAX,
    Batch,
    Before,
    Committed,
    CountChange,
    CounterRow,
    Counters,
    Documents,
    Feed,
    Head,
    Item,
    ItemRow,
    Items,
    Movements,
    Page,
    Rolled,
    Rollup,
    Sight,
    Window,
    movements,
    page,
)
from groundswell.stores.memory.state import Effects, Queued, State, Transaction, add_up


class MemoryStore:
    """See `groundswell.store.Store` for what the methods promise; durability apart."""

    label = "memory"
    group_max = GROUP_MAX
    commits_max = 1

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
        self._state = State()
        self._xid = 0
        self._queue: list[Queued] = []  # in the order of the commits
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
        self._at_ms = self._now()
        xid = self._xid + 1
        transaction = Transaction(self._state, self._kinds, xid=xid, now_ms=self._at_ms)
        done, queued = transaction.apply(batches)
        self._state = transaction.state
        if queued is not None:
            self._xid = xid
            self._queue.append(queued)
        seen = Revision.upto(self._xid)
        return [
            Committed(
                outcomes,
                xid if changed else None,
                slot,
                tuple(e for e in effects.values() if e.count or e.sum),
                seen,
            )
            for slot, (outcomes, effects, changed) in enumerate(done)
        ]

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
        changed: Effects = {}
        changed_documents: dict[str, Document] = {}
        for _, counts, documents in batch:
            for effect in counts.values():
                add_up(changed, effect)
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
                add_up(totals, effect)
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
        edges = self._state.sources(*sight.key)
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
        return self._page(self._state.sources(kind, target), window, inverse=False)

    async def inverse(self, kind: str, source: Id, window: Window) -> Page:  # noqa: D102
        return self._page(self._state.targets(kind, source), window, inverse=True)

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
            found = replace(found, version=document.version, xid=document.xid)
        return found, Revision.upto(self._xid)

    async def movement(self, id_: str) -> tuple[Movement | None, Revision]:  # noqa: D102
        self._check_open()
        return self._state.bank.movement(id_, self._now()), Revision.upto(self._xid)

    async def movements(self, account: str, limit: int, before: Before | None = None) -> Movements:  # noqa: D102
        self._check_open()
        bank = self._state.bank
        found = [m for m in bank.movements.values() if account in (m.debit, m.credit)]
        found.sort(key=lambda m: m.place, reverse=True)
        if before is not None:
            found = [m for m in found if m.place < before.place]
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
        edges = self._state.sources(name, target)
        if rated:
            return Counter(sum(1 for edge in edges if edge.value == rated[1]))
        tallied = self._state.tallied.get((kind, target), 0)
        return Counter(len(edges) + tallied, sum(edge.value or 0 for edge in edges))
