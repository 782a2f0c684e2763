"""Reads of edges on PostgreSQL that share a statement."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from groundswell.kinds import Kind, Kinds
from groundswell.model import Add, Id, Write
from groundswell.store import Batch, Window
from groundswell.stores.postgres import PostgresStore, edges, migrate, statements
from pg_nodes import locked, rows, until

pytestmark = pytest.mark.anyio

ODD: list[Id] = ['"', "\\", "{}", "a,b", "'", "null", "é\u2028", "%s", " "]
KINDS = Kinds(
    [
        Kind(name="like", inverse=True),
        Kind(name="note", source="text", target="text", inverse=True),
        Kind(name="view", unique=False),
    ]
)


def _like(target: Id, source: Id) -> Write:
    return Add("like", target, source)


async def test_those_that_come_while_a_statement_runs_share_the_next(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And each gets its own answer."""
    asked = 0

    async def counted(*args: Any) -> Any:
        nonlocal asked
        asked += 1
        return await fetch_one(*args)

    fetch_one = statements.fetch_one
    monkeypatch.setattr(edges, "fetch_one", counted)
    await migrate(database, KINDS)
    store = await PostgresStore.open(database, KINDS)
    try:
        await store.commit([Batch(tuple(_like(n, s) for n in range(1, 51) for s in range(n)))])
        waits = "SELECT FROM pg_locks WHERE relation = 'groundswell.edge_like'::regclass"
        with locked(database, "edge_like"):
            one = [asyncio.create_task(store.edge("like", 1, 0))]
            part = [asyncio.create_task(store.edges("like", 1, Window(5)))]
            back = [asyncio.create_task(store.inverse("like", 0, Window(5)))]
            await until(lambda: len(rows(database, f"{waits} AND NOT granted")) == 3, "they wait")
            for n in range(2, 60):
                one += [asyncio.create_task(store.edge("like", n, n - s)) for s in (1, 0)]
                part += [asyncio.create_task(store.edges("like", n, Window(s))) for s in (3, 9)]
                back += [asyncio.create_task(store.inverse("like", n - 1, Window(4)))]
            await asyncio.sleep(0)
        found = [edge for edge, _ in await asyncio.gather(*one)]
        lists, inverse = await asyncio.gather(*part), await asyncio.gather(*back)
    finally:
        await store.close()
    assert asked == 6
    assert found[0] is not None
    for n in range(2, 60):
        there, not_there = found[2 * n - 3 : 2 * n - 1]
        assert not_there is None
        assert (there and (there.target, there.source)) == ((n, n - 1) if n <= 50 else None)
        for wanted, listed in zip((3, 9), lists[2 * n - 3 : 2 * n - 1], strict=True):
            newest = range(n - 1, -1, -1)[:wanted] if n <= 50 else range(0)
            assert [(edge.target, edge.source) for edge in listed.edges] == [(n, s) for s in newest]
            assert (listed.next is None) == (wanted >= n or n > 50)
        did = inverse[n - 1].edges
        assert [(edge.target, edge.source) for edge in did] == [
            (target, n - 1) for target in range(50, max(n - 1, 46), -1)
        ]


async def test_ids_that_look_like_something_else(database: str) -> None:
    await migrate(database, KINDS)
    store = await PostgresStore.open(database, KINDS)
    try:
        data = msgspec.Raw(b'{"a":["\\u0022",null,1e3]}')
        await store.commit([Batch(tuple(Add("note", t, s, data=data) for t in ODD for s in ODD))])
        for id_ in ODD:
            for other in ODD:
                edge, _ = await store.edge("note", id_, other)
                assert edge is not None
                assert (edge.target, edge.source) == (id_, other)
                assert bytes(edge.data or b"") == bytes(data)
            listed = await store.edges("note", id_, Window(20))
            assert {edge.source for edge in listed.edges} == {*ODD}
            assert {edge.target for edge in listed.edges} == {id_}
            listed = await store.inverse("note", id_, Window(20))
            assert {edge.target for edge in listed.edges} == {*ODD}
            assert {edge.source for edge in listed.edges} == {id_}
    finally:
        await store.close()
