from __future__ import annotations

import msgspec

from groundswell.model import Add, Delete, Document, Effect, Put, Remove, Tally, Write
from groundswell.store import Batch
from groundswell.stores.plan import EdgeRow, Plan, wants
from groundswell.testing import KINDS

RAW = msgspec.Raw(b"{}")


def plan(
    *,
    edges: dict[tuple[str, int | str, int | str], EdgeRow] | None = None,
    documents: dict[str, Document] | None = None,
) -> Plan:
    return Plan(
        KINDS,
        xid=9,
        now_ms=50,
        edges=edges or {},
        tallies=[("view", 1, "known")],
        documents=documents or {},
        accounts={},
        movements={},
        expired=(),
    )


def test_wants_names_every_row_that_an_outcome_depends_on() -> None:
    writes: tuple[Write, ...] = (
        Add("like", 1, 2),
        Remove("seat", "a", 3),
        Tally("view", 1),
        Tally("view", 1, 1, "id"),
        Put("x", "t", RAW),
        Delete("y"),
    )
    found = wants([Batch(writes)], KINDS)
    assert found.edges == {("like", 1, 2), ("seat", "a", 3)}
    assert found.seats == {("seat", "a")}
    assert found.tallies == {("view", 1, "id")}
    assert found.documents == {"x", "y"}


def test_rows_come_out_in_key_order() -> None:
    made = plan()
    made.apply([Batch((Add("like", 2, 1), Add("like", 1, 9), Add("like", 1, 3)))])
    assert [row[:2] for row in made.edges_to_store()["like"]] == [(1, 3), (1, 9), (2, 1)]


def test_an_edge_added_and_removed_is_neither_stored_nor_dropped() -> None:
    made = plan()
    made.apply([Batch((Add("like", 1, 2), Remove("like", 1, 2)))])
    assert (made.edges_to_store(), made.edges_to_drop(), made.events) == (
        {},
        {},
        {("like", 1): (0, 0)},  # it may have been looked at: the target is published
    )


def test_an_edge_removed_and_added_alike_in_the_same_millisecond_is_left_alone() -> None:
    made = plan(edges={("like", 1, 2): EdgeRow(50, None, None)})
    [done] = made.apply([Batch((Remove("like", 1, 2), Add("like", 1, 2)))])
    assert done.changed
    assert (made.edges_to_store(), made.edges_to_drop()) == ({}, {})


def test_an_edge_removed_and_added_later_is_replaced() -> None:
    made = plan(edges={("like", 1, 2): EdgeRow(10, None, None)})
    made.apply([Batch((Remove("like", 1, 2), Add("like", 1, 2)))])
    assert made.edges_to_store() == {"like": [(1, 2, 50, None, None, None)]}
    assert made.edges_to_drop() == {}


def test_a_seat_that_changes_hands_is_dropped_and_stored() -> None:
    made = plan(edges={("seat", "a", 1): EdgeRow(10, None, None)})
    made.apply([Batch((Remove("seat", "a", 1), Add("seat", "a", 2)))])
    assert made.edges_to_drop() == {"seat": [("a", 1)]}
    assert made.edges_to_store() == {"seat": [("a", 2, 50, None, None, None)]}


def test_an_undone_batch_leaves_no_rows_and_no_events() -> None:
    made = plan(documents={"x": Document("x", "t", 3, 1, RAW)})
    [undone] = made.apply(
        [
            Batch(
                (
                    Add("like", 1, 2),
                    Tally("view", 1, 1, "new"),
                    Delete("x"),
                    Put("y", "t", RAW),
                    Put("y", "t", RAW, 7),
                ),
                atomic=True,
            )
        ]
    )
    assert not undone.changed
    assert made.edges_to_store() == {}
    assert made.tallies_to_store() == []
    assert made.documents_to_store() == []
    assert made.events == {}


def test_events_are_summed_over_the_batches_of_a_commit() -> None:
    made = plan()
    first, second = made.apply(
        [
            Batch((Add("review", 1, 1, 2), Add("review", 1, 2, 3))),
            Batch((Remove("review", 1, 1), Tally("view", 1, 4), Tally("view", 1, 4, "known"))),
        ]
    )
    assert first.effects == (Effect("review", 1, 2, 5),)
    assert second.effects == (Effect("review", 1, -1, -2), Effect("view", 1, 4))
    assert made.events == {("review", 1): (1, 3), ("view", 1): (4, 0)}
