"""Items of a page: counters, newest edges and single edges, all in one state."""

from __future__ import annotations

import asyncio

from groundswell.model import Add, Counter, Key, Newest, Put, Remove, Tally, Write
from groundswell.store import CounterRow, Item, ItemRow, Items, Sight, Store
from groundswell.testing.base import Clock, Suite, check_settled, commit, drain, json, likes
from groundswell.testing.edges import UUIDS


async def items(store: Store, *sights: Sight) -> Items:
    """The items; the backlog is short."""
    found = await store.items(sights)
    assert found is not None
    assert len(found.rows) == len(sights)
    return found


async def item(store: Store, sight: Sight) -> Item:
    """One item."""
    return (await items(store, sight)).rows[0].item


class ItemSuite(Suite):
    """What `items` shows, and what of it a replica may take over."""

    async def test_nothing_is_an_item_too(self, store: Store) -> None:
        absent = CounterRow(Counter(0), 0, 0)
        found = await items(store, Sight(("like", 1), 7, 3), Sight(("view", 1)))
        assert found.rows == (
            ItemRow(Item(Counter(0), (), False), absent, False),
            ItemRow(Item(Counter(0)), absent, False),
        )
        assert (await items(store)).rows == ()

    async def test_items_show_what_is_committed(self, store: Store, clock: Clock) -> None:
        await commit(store, Add("review", 1, 1, 4, json(a=1)), Tally("view", 1, 7))
        at_ms = clock.at_ms
        clock.at_ms += 1
        await commit(store, Add("review", 1, 2, -2), Add("seat", "a", 5), Put("x", "t", json()))
        for waiting in (True, False):
            found = await items(
                store,
                Sight(("review", 1), 1, 5),
                Sight(("review", 1), 3, 1),
                Sight(("seat", "a"), 5),
                Sight(("view", 1)),
            )
            newest = (Newest(2, at_ms + 1, -2), Newest(1, at_ms, 4, json(a=1)))
            assert [row.item for row in found.rows] == [
                Item(Counter(2, 2), newest, True),
                Item(Counter(2, 2), newest[:1], False),
                Item(Counter(1), (), True),
                Item(Counter(7)),
            ]
            assert [row.waiting for row in found.rows] == [waiting] * 4
            await drain(store)

    async def test_the_newest_are_in_the_order_of_lists(self, store: Store, clock: Clock) -> None:
        for others in ([5, 1, 3], [2], [9, 4]):
            await commit(store, *likes(7, others), *likes(8, [1]))
            clock.at_ms += 1
        for newest in (1, 2, 4, 6, 50):
            found = await item(store, Sight(("like", 7), None, newest))
            assert [edge.source for edge in found.newest] == [9, 4, 2, 5, 3, 1][:newest]

    async def test_items_of_every_type_of_id(self, store: Store) -> None:
        text, uuid = "a'/é😀", UUIDS[1]
        await commit(store, Add("tag", text, text), Add("member", uuid, uuid), Add("like", -1, -5))
        sights: list[tuple[Key, int | str]] = [
            (("tag", text), text),
            (("member", uuid), uuid),
            (("like", -1), -5),
        ]
        found = await items(store, *[Sight(key, viewer, 3) for key, viewer in sights])
        assert [[edge.source for edge in row.item.newest] for row in found.rows] == [
            [viewer] for _, viewer in sights
        ]
        assert [row.item.viewer for row in found.rows] == [True] * 3
        found = await items(store, Sight(("tag", text), "a"), Sight(("member", uuid), UUIDS[2]))
        assert [row.item.viewer for row in found.rows] == [False, False]

    async def test_the_same_key_may_be_asked_for_by_many_viewers(self, store: Store) -> None:
        await commit(store, *likes(1, range(0, 20, 2)))
        found = await items(store, *[Sight(("like", 1), viewer, 1) for viewer in range(20)])
        assert [row.item.viewer for row in found.rows] == [True, False] * 10
        assert len({row.item.newest for row in found.rows}) == 1

    async def test_the_rolled_up_counter_is_told_apart(self, store: Store) -> None:
        await commit(store, *likes(1, [1, 2]))
        await drain(store)
        await commit(store, *likes(1, [3]), *likes(2, [1]))
        found = await items(store, Sight(("like", 1)), Sight(("like", 2)))
        assert [(row.row, row.waiting) for row in found.rows] == [
            (CounterRow(Counter(2), 1, 1), True),
            (CounterRow(Counter(0), 0, 0), True),
        ]
        assert [row.item.counter for row in found.rows] == [Counter(3), Counter(1)]
        assert found.rollup == 1

    async def test_what_moves_no_count_waits_too(self, store: Store) -> None:
        """Or a replica would take over a list that is newer than where it stands."""
        await commit(store, *likes(1, [1]), *likes(2, [1]), *likes(3, [1]))
        await drain(store)
        await commit(store, Add("like", 1, 1, data=json(a=1)))
        await commit(store, Add("like", 2, 2), Remove("like", 2, 1))
        found = await items(store, *[Sight(("like", target), 1, 3) for target in (1, 2, 3)])
        assert [row.waiting for row in found.rows] == [True, True, False]
        assert [row.item.viewer for row in found.rows] == [True, False, True]

    async def test_items_tell_the_state_they_were_read_in(self, store: Store) -> None:
        done = await commit(store, *likes(1, [1]))
        assert done.xid is not None
        assert (await items(store, Sight(("like", 1), 1, 1))).revision.includes(done.seen)
        await drain(store)
        found = await items(store, Sight(("like", 1), 1, 1))
        assert (found.epoch, found.rollup) == (store.epoch, (await store.head()).rollup)
        assert found.revision.sees(done.xid)

    async def test_items_do_not_look_through_a_long_backlog(self, store: Store) -> None:
        for number in range(3):
            writes: list[Write] = [Add("like", target, number) for target in range(4_000)]
            await commit(store, *writes)
        found = await store.items([Sight(("like", 1), 1, 1)])
        assert found is None or found.rows[0].item.counter == Counter(3)
        await drain(store)
        assert (await item(store, Sight(("like", 1), 1, 1))).counter == Counter(3)

    async def test_items_are_of_one_state_while_commits_run(self, store: Store) -> None:
        """Every commit adds to both targets: no answer may show one without the other."""

        async def write() -> None:
            for source in range(40):
                await commit(store, Add("like", 1, source), Add("review", 1, source, 1))
                if source % 7 == 0:
                    await store.rollup(1_000)

        writing = asyncio.create_task(write())
        while not writing.done():
            found = await items(store, Sight(("like", 1), 0, 50), Sight(("review", 1), 0, 50))
            one, two = (row.item for row in found.rows)
            assert one.counter.count == two.counter.count == len(one.newest) == len(two.newest)
            assert one.viewer == two.viewer == bool(one.newest)
            await asyncio.sleep(0)
        await writing
        await check_settled(store, [("like", 1), ("review", 1)])
