"""Lists: newest first, with cursors that stand still while writes happen."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from groundswell.model import Add, Edge, Id, Remove, Write
from groundswell.store import Cursor, Page, Store, Window
from groundswell.testing.base import Clock, Suite, commit, json


class Listed(NamedTuple):
    """Which list is read: of a target, or of a source."""

    kind: str
    inverse: bool

    def edge(self, other: int) -> Add:
        return Add(self.kind, other, 7) if self.inverse else Add(self.kind, 7, other)

    def gone(self, other: int) -> Remove:
        return Remove(self.kind, other, 7) if self.inverse else Remove(self.kind, 7, other)

    async def read(self, store: Store, window: Window) -> Page:
        read = store.inverse if self.inverse else store.edges
        return await read(self.kind, 7, window)

    def other(self, edge: Edge) -> Id:
        return edge.target if self.inverse else edge.source

    async def ids(self, store: Store, window: Window) -> list[Id]:
        return [self.other(edge) for edge in (await self.read(store, window)).edges]

    async def walk(self, store: Store, limit: int, cursor: Cursor | None = None) -> list[Id]:
        """From the cursor (or the newest) to the oldest, page by page."""
        found: list[Id] = []
        while True:
            page = await self.read(store, Window(limit, cursor))
            found += [self.other(edge) for edge in page.edges]
            if page.next is None:
                return found
            assert page.edges, "an empty page promises more"
            cursor = page.next


class ListSuite(Suite):
    """What a page shows, and where its cursors lead."""

    @pytest.fixture(params=[False, True], ids=["of-a-target", "of-a-source"])
    def listed(self, request: pytest.FixtureRequest) -> Listed:
        return Listed("follow", request.param)

    async def _fill(self, store: Store, clock: Clock, listed: Listed, *commits: list[int]) -> None:
        """Edges to these ids, the commits a millisecond apart; and strangers around them."""
        for others in commits:
            writes: list[Write] = [listed.edge(other) for other in others]
            await commit(store, *writes, Add("follow", 8, 8), Add("like", 7, 1))
            clock.at_ms += 1

    async def test_a_list_is_newest_first_then_by_the_greater_id(
        self, store: Store, clock: Clock, listed: Listed
    ) -> None:
        await self._fill(store, clock, listed, [5, 1, 3], [2], [9, 4])
        assert await listed.ids(store, Window()) == [9, 4, 2, 5, 3, 1]

    async def test_an_empty_list_has_no_cursors(self, store: Store, listed: Listed) -> None:
        page = await listed.read(store, Window())
        assert (page.edges, page.next, page.prev) == ((), None, None)

    @pytest.mark.parametrize("limit", [1, 2, 3, 5, 6, 7, 100])
    async def test_pages_of_any_size_show_each_edge_once(
        self, store: Store, clock: Clock, listed: Listed, limit: int
    ) -> None:
        await self._fill(store, clock, listed, [5, 1, 3], [2], [9, 4])
        assert await listed.walk(store, limit) == [9, 4, 2, 5, 3, 1]

    async def test_a_full_last_page_says_that_it_is_the_last(
        self, store: Store, clock: Clock, listed: Listed
    ) -> None:
        await self._fill(store, clock, listed, [1, 2, 3])
        assert (await listed.read(store, Window(3))).next is None
        assert (await listed.read(store, Window(2))).next is not None

    async def test_prev_leads_back_to_the_neighbours(
        self, store: Store, clock: Clock, listed: Listed
    ) -> None:
        await self._fill(store, clock, listed, [1, 2, 3, 4, 5, 6])
        first = await listed.read(store, Window(2))
        second = await listed.read(store, Window(2, first.next))
        third = await listed.read(store, Window(2, second.next))
        assert [listed.other(e) for e in third.edges] == [2, 1]
        assert (await listed.read(store, Window(2, third.prev))).edges == second.edges
        assert (await listed.read(store, Window(2, second.prev))).edges == first.edges
        back = await listed.read(store, Window(4, third.prev))
        assert back.edges == first.edges + second.edges
        assert back.next is not None
        assert (await listed.read(store, Window(2, back.next))).edges == third.edges

    async def test_next_skips_and_repeats_nothing_while_edges_arrive_and_go(
        self, store: Store, clock: Clock, listed: Listed
    ) -> None:
        await self._fill(store, clock, listed, [1, 2, 3], [4, 5, 6])
        page = await listed.read(store, Window(2))
        assert [listed.other(e) for e in page.edges] == [6, 5]
        await self._fill(store, clock, listed, [7, 8])
        await commit(store, listed.gone(5), listed.gone(2), listed.gone(6))
        assert page.next is not None
        assert await listed.walk(store, 2, page.next) == [4, 3, 1]

    async def test_prev_of_the_newest_page_waits_for_those_to_come(
        self, store: Store, clock: Clock, listed: Listed
    ) -> None:
        await self._fill(store, clock, listed, [1, 2])
        page = await listed.read(store, Window(2))
        empty = await listed.read(store, Window(2, page.prev))
        assert empty.edges == ()
        await self._fill(store, clock, listed, [3, 4], [5])
        for prev in (page.prev, empty.prev):
            newer = await listed.read(store, Window(2, prev))
            assert [listed.other(e) for e in newer.edges] == [4, 3]
            newest = await listed.read(store, Window(2, newer.prev))
            assert [listed.other(e) for e in newest.edges] == [5]

    async def test_turning_round_at_an_empty_page_skips_nothing(
        self, store: Store, clock: Clock, listed: Listed
    ) -> None:
        await self._fill(store, clock, listed, [1, 2], [3, 4])
        top = await listed.read(store, Window(2, (await listed.read(store, Window(2))).prev))
        assert top.edges == ()
        assert top.next is not None
        assert await listed.walk(store, 3, top.next) == [4, 3, 2, 1]
        page = await listed.read(store, Window(3))
        await commit(store, listed.gone(1))
        bottom = await listed.read(store, Window(3, page.next))
        assert (bottom.edges, bottom.next) == ((), None)
        back = await listed.read(store, Window(3, bottom.prev))
        assert [listed.other(e) for e in back.edges] == [4, 3, 2]

    async def test_a_cursor_outlives_the_edge_it_was_made_at(
        self, store: Store, clock: Clock, listed: Listed
    ) -> None:
        await self._fill(store, clock, listed, [1, 2, 3, 4])
        page = await listed.read(store, Window(2))
        await commit(store, listed.gone(3))
        assert await listed.ids(store, Window(2, page.next)) == [2, 1]

    async def test_since_is_included_and_until_is_not(
        self, store: Store, clock: Clock, listed: Listed
    ) -> None:
        start = clock.at_ms
        await self._fill(store, clock, listed, [1], [2], [3], [4])
        since, until = start + 1, start + 3
        assert await listed.ids(store, Window(since_ms=since)) == [4, 3, 2]
        assert await listed.ids(store, Window(until_ms=until)) == [3, 2, 1]
        assert await listed.ids(store, Window(since_ms=since, until_ms=until)) == [3, 2]
        assert await listed.ids(store, Window(since_ms=until, until_ms=since)) == []

    async def test_cursors_keep_within_since_and_until(
        self, store: Store, clock: Clock, listed: Listed
    ) -> None:
        start = clock.at_ms
        await self._fill(store, clock, listed, [1], [2], [3], [4])
        window = Window(1, since_ms=start + 1, until_ms=start + 3)
        first = await listed.read(store, window)
        assert [listed.other(e) for e in first.edges] == [3]
        second = await listed.read(store, Window(1, first.next, start + 1, start + 3))
        assert [listed.other(e) for e in second.edges] == [2]
        assert second.next is None
        above = await listed.read(store, Window(1, first.prev, start + 1, start + 3))
        assert above.edges == ()

    async def test_a_page_tells_the_state_it_was_read_in(
        self, store: Store, listed: Listed
    ) -> None:
        done = await commit(store, listed.edge(1))
        page = await listed.read(store, Window())
        assert done.xid is not None
        assert page.revision.sees(done.xid)

    async def test_a_list_shows_edges_as_they_are_now(self, store: Store, clock: Clock) -> None:
        await commit(store, Add("review", 7, 1, 3), Add("review", 7, 2, 4))
        clock.at_ms += 5
        await commit(store, Add("review", 7, 1, 5, json(a=1)))
        page = await store.edges("review", 7, Window())
        assert [(e.source, e.value, e.data) for e in page.edges] == [
            (2, 4, None),
            (1, 5, json(a=1)),  # replaced in its old place
        ]
        assert (await store.inverse("review", 1, Window())).edges == page.edges[1:]
