"""Items, edges and lists on PostgreSQL: what their statements cost where statistics lie."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from groundswell.kinds import Kinds
from groundswell.store import Sight, Window
from groundswell.stores.postgres import PostgresStore, migrate
from pg_nodes import until

pytestmark = pytest.mark.anyio

HOT = 50_000
FETCHED = "SELECT idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'edge_like'"

# A connection tells what it has fetched when it ends, which is a moment after it was closed.
OTHERS = """
    SELECT FROM pg_stat_activity WHERE backend_type = 'client backend'
        AND datname = current_database() AND pid <> pg_backend_pid()
"""


def run(url: str, *statements: str) -> list[tuple[int]]:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements[:-1]:
            connection.execute(statement.encode())
        return connection.execute(statements[-1].encode()).fetchall()


@pytest.fixture
async def spiked(database: str) -> AsyncIterator[PostgresStore]:
    """Before the spike every target had ten edges, so that sorting them looked cheap."""
    kinds = Kinds()
    await migrate(database, kinds)
    insert = "INSERT INTO groundswell.edge_like SELECT t, s, now() - s * interval '1 ms'"
    run(
        database,
        f"{insert} FROM generate_series(2, 10000) AS t, generate_series(1, 10) AS s",
        "ANALYZE groundswell.edge_like",
        f"{insert} FROM generate_series(1, 1) AS t, generate_series(1, {HOT}) AS s RETURNING 1",
    )
    store = await PostgresStore.open(database, kinds)
    yield store
    await store.close()


async def fetched(database: str, store: PostgresStore) -> int:
    """Edges that were ever looked at by way of an index; the store is closed for it."""
    await store.close()
    await until(lambda: not run(database, OTHERS), "the store's connections have ended")
    [(edges,)] = run(database, FETCHED)
    return edges


@pytest.mark.parametrize("newest", [10, 50])
async def test_the_newest_edges_of_a_hot_target_are_all_that_is_read_of_it(
    database: str, spiked: PostgresStore, newest: int
) -> None:
    found = await spiked.items([Sight(("like", n), 7, newest) for n in range(1, 51)])
    assert found is not None
    assert [edge.source for edge in found.rows[0].item.newest] == list(range(1, newest + 1))
    assert all(row.item.viewer for row in found.rows)
    assert 50 * 10 <= await fetched(database, spiked) <= 50 * (newest + 1)


@pytest.mark.parametrize("limit", [1, 10, 50])
async def test_the_begin_of_a_list_is_all_that_is_read_of_it(
    database: str, spiked: PostgresStore, limit: int
) -> None:
    pages = await asyncio.gather(*(spiked.edges("like", n, Window(limit)) for n in range(1, 51)))
    edges = await asyncio.gather(*(spiked.edge("like", n, 7) for n in range(1, 51)))
    assert [edge.source for edge in pages[0].edges] == list(range(1, limit + 1))
    assert all(edge for edge, _ in edges)
    assert 50 * (min(limit, 9) + 1) <= await fetched(database, spiked) <= 50 * (limit + 2)
