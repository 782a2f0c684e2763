"""Edges, the targets of exclusive kinds, and ids of every type."""

from __future__ import annotations

import pytest

from groundswell.model import INT_MAX, Add, Counter, Edge, Effect, Id, Remove, Tally
from groundswell.store import Refused, Store, Window
from groundswell.testing.base import (
    DONE,
    NOTHING_DONE,
    Clock,
    Suite,
    check_settled,
    codes,
    commit,
    count,
    drain,
    json,
    likes,
    outcome,
)

ODD_TEXTS = [
    "0",
    "007",
    "1e3",
    "-1",
    "NULL",
    "null",
    "'; DROP TABLE edge_tag; --",
    '"quoted"',
    "back\\slash",
    "a/b?c=d&e#f",
    "100%_like",
    "a b",
    "é",
    "e\u0301",  # the same to the eye, another id
    "Zürich",
    "日本語",
    "😀👩\u200b".rstrip("\u200b"),
    "{}",
    "[1,2]",
    "*",
    "x" * 128,
    "😀" * 128,
]
UUIDS = [f"00000000-0000-4000-8000-{n:012x}" for n in range(3)]


class EdgeSuite(Suite):
    """An edge exists at most once; only a real change makes an event."""

    async def test_an_edge_is_added_once(self, store: Store) -> None:
        assert await outcome(store, Add("like", 1, 2)) == DONE
        assert await outcome(store, Add("like", 1, 2)) == NOTHING_DONE
        assert await store.backlog() == 1
        await drain(store)
        assert await count(store, "like", 1) == Counter(1)

    async def test_removing_an_edge_that_is_not_there_changes_nothing(self, store: Store) -> None:
        assert await outcome(store, Remove("like", 1, 2)) == NOTHING_DONE
        assert await store.backlog() == 0
        assert await store.rollup(10) is None
        await commit(store, Add("like", 1, 3))
        assert await outcome(store, Remove("like", 1, 2)) == NOTHING_DONE
        both = await commit(store, Remove("like", 1, 2), Add("like", 1, 4), Remove("like", 1, 2))
        assert both.effects == (Effect("like", 1, 1),)
        await check_settled(store, [("like", 1)])
        assert await count(store, "like", 1) == Counter(2)

    async def test_an_edge_can_be_removed_and_added_again(self, store: Store) -> None:
        for expected in (1, 0, 1):
            write = Add("like", 1, 2) if expected else Remove("like", 1, 2)
            assert await outcome(store, write) == DONE
            assert await outcome(store, write) == NOTHING_DONE
            await check_settled(store, [("like", 1)])
            assert await count(store, "like", 1) == Counter(expected)

    async def test_edge_returns_what_was_added(self, store: Store, clock: Clock) -> None:
        await commit(store, Add("review", 1, 2, 4, json(text="good")))
        edge, revision = await store.edge("review", 1, 2)
        assert edge == Edge(
            kind="review",
            target=1,
            source=2,
            created_ms=clock.at_ms,
            value=4,
            data=json(text="good"),
        )
        assert (await store.head()).revision.includes(revision)
        assert (await store.edge("review", 2, 1))[0] is None
        assert (await store.edge("like", 1, 2))[0] is None

    async def test_a_removed_edge_is_gone(self, store: Store) -> None:
        await commit(store, Add("like", 1, 2))
        await commit(store, Remove("like", 1, 2))
        assert (await store.edge("like", 1, 2))[0] is None

    async def test_another_value_moves_the_sum_by_the_difference(self, store: Store) -> None:
        await commit(store, Add("review", 1, 2, 4), Add("review", 1, 3, -5))
        changed = await commit(store, Add("review", 1, 2, 1))
        assert changed.outcomes == (DONE,)
        assert changed.effects == (Effect("review", 1, 0, -3),)
        await check_settled(store, [("review", 1)])
        assert await count(store, "review", 1) == Counter(2, -4)

    async def test_removal_takes_the_value_out_of_the_sum(self, store: Store) -> None:
        await commit(store, Add("review", 1, 2, 4))
        await commit(store, Add("review", 1, 2, 5))
        removed = await commit(store, Remove("review", 1, 2))
        assert removed.effects == (Effect("review", 1, -1, -5),)
        await check_settled(store, [("review", 1)])
        assert await count(store, "review", 1) == Counter(0, 0)

    async def test_other_data_is_a_change_that_moves_no_count(self, store: Store) -> None:
        await commit(store, Add("like", 1, 2, data=json(a=1)))
        changed = await commit(store, Add("like", 1, 2, data=json(a=2)))
        assert changed.outcomes == (DONE,)
        assert changed.xid is not None
        assert changed.effects == ()
        assert await store.backlog() == 2
        edge, _ = await store.edge("like", 1, 2)
        assert edge is not None
        assert edge.data == json(a=2)
        assert await outcome(store, Add("like", 1, 2, data=json(a=2))) == NOTHING_DONE
        assert await outcome(store, Add("like", 1, 2)) == DONE  # takes the data away
        await check_settled(store, [("like", 1)])

    async def test_a_replaced_edge_keeps_its_creation_time(
        self, store: Store, clock: Clock
    ) -> None:
        await commit(store, Add("review", 1, 2, 4))
        born_ms, clock.at_ms = clock.at_ms, clock.at_ms + 10
        await commit(store, Add("review", 1, 2, 5, json(a=1)))
        edge, _ = await store.edge("review", 1, 2)
        assert edge is not None
        assert (edge.value, edge.created_ms) == (5, born_ms)

    async def test_an_edge_added_anew_is_as_old_as_the_addition(
        self, store: Store, clock: Clock
    ) -> None:
        await commit(store, Add("like", 1, 2), Add("like", 1, 3))
        clock.at_ms += 10
        await commit(store, Remove("like", 1, 2))
        await commit(store, Add("like", 1, 2))
        await commit(store, Remove("like", 1, 3), Add("like", 1, 3))  # in one commit too
        for source in (2, 3):
            edge, _ = await store.edge("like", 1, source)
            assert edge is not None
            assert edge.created_ms == clock.at_ms

    async def test_later_edges_are_never_older_though_the_clock_goes_back(
        self, store: Store, clock: Clock
    ) -> None:
        await commit(store, Add("like", 1, 1))
        clock.at_ms -= 5_000
        await commit(store, Add("like", 1, 2))
        page = await store.edges("like", 1, Window())
        assert [edge.source for edge in page.edges] == [2, 1]
        assert page.edges[0].created_ms >= page.edges[1].created_ms

    async def test_kinds_targets_and_sources_are_kept_apart(self, store: Store) -> None:
        await commit(
            store,
            Add("like", 1, 2),
            Add("follow", 1, 2),
            Add("like", 2, 1),
            Add("like", 1, 3),
            Tally("view", 1),
        )
        await check_settled(store, [("like", 1), ("like", 2), ("follow", 1), ("view", 1)])
        assert await count(store, "like", 1) == Counter(2)
        assert await count(store, "like", 2) == Counter(1)
        assert await count(store, "follow", 1) == Counter(1)

    async def test_a_large_batch_is_one_commit(self, store: Store) -> None:
        added = await commit(store, *likes(1, range(3_000)), *likes(2, range(100)))
        assert codes(added) == [True] * 3_100
        assert set(added.effects) == {Effect("like", 1, 3_000), Effect("like", 2, 100)}
        again = await commit(store, *likes(1, range(1_500, 3_001)))
        assert codes(again) == [False] * 1_500 + [True]
        await check_settled(store, [("like", 1), ("like", 2)])
        assert await count(store, "like", 1) == Counter(3_001)

    # --- exclusive kinds ------------------------------------------------------------------------

    async def test_an_exclusive_target_has_one_source(self, store: Store) -> None:
        assert await outcome(store, Add("seat", "12A", 1)) == DONE
        refused = await outcome(store, Add("seat", "12A", 2))
        assert isinstance(refused, Refused)
        assert refused.code == "seat-taken"
        assert await outcome(store, Add("seat", "12A", 1)) == NOTHING_DONE
        assert await outcome(store, Add("seat", "12B", 1)) == DONE
        assert await outcome(store, Remove("seat", "12A", 2)) == NOTHING_DONE
        await check_settled(store, [("seat", "12A"), ("seat", "12B")])
        assert await count(store, "seat", "12A") == Counter(1)

    async def test_the_holder_of_a_seat_may_change_its_data(self, store: Store) -> None:
        await commit(store, Add("seat", "12A", 1))
        assert await outcome(store, Add("seat", "12A", 1, data=json(meal="fish"))) == DONE

    async def test_a_seat_given_up_can_be_taken(self, store: Store) -> None:
        await commit(store, Add("seat", "12A", 1))
        await commit(store, Remove("seat", "12A", 1))
        assert await outcome(store, Add("seat", "12A", 2)) == DONE
        await check_settled(store, [("seat", "12A")])

    async def test_a_seat_changes_hands_within_one_commit(self, store: Store) -> None:
        await commit(store, Add("seat", "12A", 1))
        moved = await commit(
            store,
            Add("seat", "12A", 2),
            Remove("seat", "12A", 1),
            Add("seat", "12A", 3),
            Add("seat", "12A", 1),
        )
        assert codes(moved) == ["seat-taken", True, True, "seat-taken"]
        assert moved.effects == ()
        page = await store.edges("seat", "12A", Window())
        assert [edge.source for edge in page.edges] == [3]
        await check_settled(store, [("seat", "12A")])

    async def test_a_seat_is_sold_once_within_one_commit(self, store: Store) -> None:
        sold = await commit(store, *[Add("seat", "12A", source) for source in range(5)])
        assert codes(sold) == [True, *["seat-taken"] * 4]

    # --- ids ------------------------------------------------------------------------------------

    @pytest.mark.parametrize("id_", [0, -1, INT_MAX, -INT_MAX, 2**53 + 1])
    async def test_integer_ids_come_back_exactly(self, store: Store, id_: int) -> None:
        await commit(store, Add("follow", id_, id_), Tally("view", id_))
        await self._check_ids(store, "follow", [id_])
        assert await count(store, "view", id_) == Counter(1)

    async def test_uuids_come_back_exactly(self, store: Store) -> None:
        await commit(store, *[Add("member", id_, id_) for id_ in UUIDS])
        await self._check_ids(store, "member", UUIDS)

    async def test_text_ids_of_any_printable_characters_come_back_exactly(
        self, store: Store
    ) -> None:
        assert all(text.isprintable() for text in ODD_TEXTS)
        await commit(store, *[Add("tag", text, text) for text in ODD_TEXTS])
        await commit(store, *[Tally("play", text, 1, text) for text in ODD_TEXTS])
        await self._check_ids(store, "tag", ODD_TEXTS)
        again = await commit(store, *[Tally("play", text, 1, text) for text in ODD_TEXTS])
        assert codes(again) == [False] * len(ODD_TEXTS)

    async def _check_ids(self, store: Store, kind: str, ids: list[str] | list[int]) -> None:
        keys: list[tuple[str, Id]] = [(kind, id_) for id_ in ids]
        await check_settled(store, keys)
        for id_ in ids:
            assert await count(store, kind, id_) == Counter(1)
            edge, _ = await store.edge(kind, id_, id_)
            assert edge is not None
            assert (edge.target, edge.source) == (id_, id_)
            listed = (await store.edges(kind, id_, Window())).edges
            assert listed == (edge,) == (await store.inverse(kind, id_, Window())).edges

    async def test_lists_order_text_ids_by_code_point(self, store: Store) -> None:
        sources = ["a", "B", "é", "z", "😀", "10", "9", "\uffe6"]
        await commit(store, *[Add("tag", "t", source) for source in sources])
        page = await store.edges("tag", "t", Window())
        assert [edge.source for edge in page.edges] == sorted(sources, reverse=True)
