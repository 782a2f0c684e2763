"""The same random operations on a store and on the reference model: every answer has to be the same.

Identity aside: transaction ids are compared by their order, and revisions by which of the commits so
far they include.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    multiple,
    rule,
)
from msgspec.structs import replace

from groundswell.kinds import Kinds
from groundswell.model import (
    ACCOUNT,
    Account,
    Add,
    Document,
    Id,
    Key,
    Movement,
    Remove,
    Write,
)
from groundswell.revision import Revision
from groundswell.store import (
    Batch,
    Before,
    Committed,
    Cursor,
    Feed,
    Items,
    Movements,
    Page,
    Refused,
    Rollup,
    Sight,
    Store,
    Window,
)
from groundswell.stores.memory import MemoryStore
from groundswell.testing.base import KINDS, Clock
from groundswell.testing.drawn import (
    ACCOUNTS,
    BATCHES,
    KEYS,
    LISTS,
    OBJECTS,
    SOURCES,
    TARGETS,
    TRANSFERS,
    sights,
    writes,
)

T = TypeVar("T")

ROLLUPS_KEPT: Final = 4


def _placeless(movement: Movement | None) -> Movement | None:
    """Without its place, of which the store promises the order alone."""
    return movement and replace(movement, place=0)


class _Side:
    """One of the two stores, with the ids of its transactions in the order of their commits."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.xids: list[int] = []

    def committed(self, answers: Sequence[Committed]) -> list[Any]:
        self.xids += sorted({a.xid for a in answers if a.xid is not None})
        return [
            (
                [(o.code, o.version) if isinstance(o, Refused) else o for o in answer.outcomes],
                self.place(answer.xid),
                answer.slot,
                sorted(answer.effects, key=str),
                self.revision(answer.seen),
            )
            for answer in answers
        ]

    def place(self, xid: int | None) -> Any:
        """Where a transaction stands; one that only let go of what had expired is between two others."""
        return None if xid is None else (bisect_left(self.xids, xid), xid in self.xids)

    def revision(self, revision: Revision) -> list[bool]:
        return [revision.sees(xid) for xid in self.xids]

    def document(self, document: Document | None) -> Any:
        if document is None:
            return None
        return document.id, document.type, document.version, document.data, self.place(document.xid)

    def rollup(self, rollup: Rollup) -> Any:
        return (
            rollup.number,
            self.revision(rollup.revision),
            sorted(rollup.counts, key=str),
            sorted(map(self.document, rollup.documents), key=str),
        )

    def feed(self, feed: Feed) -> Any:
        assert feed.head is not None
        found = [self.rollup(rollup) for rollup in feed.rollups]
        return found, feed.behind, self.rollup(feed.latest), self.revision(feed.head)

    def items(self, items: Items | None) -> Any:
        assert items is not None, "so short a backlog is not too long"
        return items.rows, items.rollup, self.revision(items.revision)

    def page(self, page: Page) -> Any:
        return page.edges, page.next, page.prev, self.revision(page.revision)


class StoreMachine(RuleBasedStateMachine):
    """A subclass provides `make`, as for `StoreConformance`; pytest runs its `TestCase`."""

    cursors = Bundle("cursors")

    async def make(
        self, kinds: Kinds, *, rollups_kept: int = 1_000, now_ms: Callable[[], int]
    ) -> Store:
        """An open, empty store."""
        raise NotImplementedError

    @initialize()
    def open(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._clock = Clock()
        given: dict[str, Any] = {"rollups_kept": ROLLUPS_KEPT, "now_ms": self._clock}
        model = MemoryStore(KINDS, **given)
        self._sides = _Side(self._run(self.make(KINDS, **given))), _Side(model)
        self._rollups = 0

    def _run(self, doing: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(doing)

    def _same(
        self,
        call: Callable[[Store], Coroutine[Any, Any, T]],
        shown: Callable[[_Side, T], Any],
    ) -> T:
        """The store's answer to `call`, after making sure that the model gives the same one."""
        (store, answer), (model, expected) = (
            (side, self._run(call(side.store))) for side in self._sides
        )
        assert shown(store, answer) == shown(model, expected)
        return answer

    @rule(group=st.lists(BATCHES, min_size=1, max_size=4), later_ms=st.integers(0, 2))
    def commit(self, group: list[Batch], later_ms: int) -> None:
        self._clock.at_ms += later_ms
        self._same(lambda store: store.commit(group), _Side.committed)

    @rule(write=writes(), later_ms=st.integers(0, 2))
    def commit_one(self, write: Write, later_ms: int) -> None:
        self.commit([Batch((write,))], later_ms)

    @rule(writes=st.lists(writes(), min_size=2, max_size=4))
    def commit_and_take_back(self, writes: list[Write]) -> None:
        """Edges added and removed within one commit: changes that may cancel out."""
        adds = [write for write in writes if isinstance(write, Add)]
        removes = [Remove(add.kind, add.target, add.source) for add in adds]
        self.commit([Batch((*adds, *removes))], 1)

    @rule(events_max=st.sampled_from([1, 2, 3, 4, 5, 8, 1_000]))
    def rollup(self, events_max: int) -> None:
        rolled = self._same(
            lambda store: store.rollup(events_max),
            lambda side, r: r and (r.number, side.revision(r.revision), r.events, r.more),
        )
        if rolled is not None:
            self._rollups = rolled.number

    @rule()
    def head(self) -> None:
        self._same(
            lambda store: store.head(),
            lambda side, head: (side.revision(head.revision), head.rollup),
        )
        self._same(lambda store: store.backlog(), lambda side, backlog: backlog)

    @rule(back=st.integers(-2, ROLLUPS_KEPT + 2), changes_max=st.integers(1, 8))
    def feed(self, back: int, changes_max: int) -> None:
        after = max(self._rollups - back, -1)
        self._same(lambda store: store.feed(after, changes_max), _Side.feed)

    @rule(keys=st.lists(st.sampled_from(KEYS), max_size=5))
    def counters(self, keys: list[Key]) -> None:
        found = self._same(
            lambda store: store.counters(keys),
            lambda side, found: (found.rows, found.rollup, side.revision(found.revision)),
        )
        assert all(row.counter.count >= 0 for row in found.rows)

    @rule(keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=5))
    def current(self, keys: list[Key]) -> None:
        found = self._same(
            lambda store: store.current(keys),
            lambda side, found: found and (found[0], side.revision(found[1])),
        )
        assert found is not None, "so short a backlog is not too long"

    @rule(sights=st.lists(sights(), max_size=6))
    def items(self, sights: list[Sight]) -> None:
        self._same(lambda store: store.items(sights), _Side.items)

    @rule(id_=st.sampled_from([*ACCOUNTS, "nobody"]))
    def account(self, id_: str) -> None:
        def shown(side: _Side, found: tuple[Account | None, Revision]) -> Any:
            account, revision = found
            place = account and side.place(account.xid)
            return account and replace(account, xid=0), place, side.revision(revision)

        self._same(lambda store: store.account(id_), shown)

    @rule(id_=st.sampled_from([*TRANSFERS, "never"]))
    def movement(self, id_: str) -> None:
        def shown(side: _Side, found: tuple[Movement | None, Revision]) -> Any:
            return _placeless(found[0]), side.revision(found[1])

        self._same(lambda store: store.movement(id_), shown)

    @rule(id_=st.sampled_from(ACCOUNTS), limit=st.integers(1, 3))
    def movements(self, id_: str, limit: int) -> None:
        goes_on: dict[Store, Before | None] = {}  # each with places of its own

        def shown(side: _Side, found: Movements) -> Any:
            goes_on[side.store] = found.next
            rows = [_placeless(row) for row in found.rows]
            return rows, found.next is None, side.revision(found.revision)

        for _ in range(3):
            page = self._same(lambda store: store.movements(id_, limit, goes_on.get(store)), shown)
            if page.next is None:
                break

    @rule(later_ms=st.integers(0, 6))
    def settle(self, later_ms: int) -> None:
        """As nodes do from time to time."""
        self._clock.at_ms += later_ms
        found = self._same(
            lambda store: store.expired(1_000), lambda side, found: sorted(found, key=str)
        )
        if found:
            self.commit([Batch(tuple(sorted(found, key=str)))], 0)

    @rule(
        ids=st.lists(
            st.sampled_from([*OBJECTS, *map(ACCOUNT.__add__, ACCOUNTS), "never"]), max_size=4
        )
    )
    def documents(self, ids: list[str]) -> None:
        self._same(
            lambda store: store.documents(ids),
            lambda side, found: (
                [side.document(row) for row in found.rows],
                found.rollup,
                side.revision(found.revision),
            ),
        )

    @rule(kind=st.sampled_from(list(SOURCES)), data=st.data())
    def edge(self, kind: str, data: st.DataObject) -> None:
        target = data.draw(st.sampled_from(TARGETS[kind]))
        source = data.draw(st.sampled_from(SOURCES[kind]))
        self._same(
            lambda store: store.edge(kind, target, source),
            lambda side, found: (found[0], side.revision(found[1])),
        )

    @rule(
        target=cursors,
        where=st.sampled_from(LISTS),
        first=st.booleans(),
        limit=st.integers(1, 4),
        since=st.none() | st.integers(0, 5),
        until=st.none() | st.integers(0, 30),
    )
    def page(
        self,
        where: tuple[str, bool],
        first: bool,
        limit: int,
        since: int | None,
        until: int | None,
    ) -> Any:
        start_ms = Clock().at_ms
        kind, inverse = where
        ends = (SOURCES if inverse else TARGETS)[kind]
        window = Window(
            limit,
            None,
            None if since is None else start_ms + since,
            None if until is None else start_ms + until,
        )
        return self._page(kind, inverse, ends[0 if first else 1], window)

    @rule(target=cursors, at=cursors, limit=st.integers(1, 4))
    def next_page(self, at: tuple[str, bool, Id, Cursor], limit: int) -> Any:
        kind, inverse, end, cursor = at
        return self._page(kind, inverse, end, Window(limit, Cursor.decode(cursor.encode())))

    def _page(self, kind: str, inverse: bool, end: Id, window: Window) -> Any:
        def read(store: Store) -> Coroutine[Any, Any, Page]:
            return (store.inverse if inverse else store.edges)(kind, end, window)

        page = self._same(read, _Side.page)
        return multiple(
            *((kind, inverse, end, cursor) for cursor in (page.next, page.prev) if cursor)
        )

    @rule(key=st.sampled_from(KEYS))
    def recount(self, key: Key) -> None:
        self._same(lambda store: store.recount(*key), lambda side, counter: counter)

    def teardown(self) -> None:
        """Whatever happened: once all is rolled up, every counter equals the truth behind it."""
        if not hasattr(self, "_sides"):
            return
        try:
            self._run(self._settle(self._sides[0].store))
        finally:
            for side in self._sides:
                self._run(side.store.close())
            self._loop.close()

    async def _settle(self, store: Store) -> None:
        while await store.rollup(1_000) is not None:
            pass
        rows = (await store.counters(KEYS)).rows
        for key, row in zip(KEYS, rows, strict=True):
            assert row.counter == await store.recount(*key), key
