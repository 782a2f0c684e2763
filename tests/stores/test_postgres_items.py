"""Items on PostgreSQL: what the statement costs where statistics lie."""

from __future__ import annotations

import psycopg
import pytest

from groundswell.kinds import Kinds
from groundswell.store import Sight
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


@pytest.mark.parametrize("newest", [10, 50])
async def test_the_newest_edges_of_a_hot_target_are_all_that_is_read_of_it(
    database: str, newest: int
) -> None:
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
    [(before,)] = run(database, FETCHED)
    store = await PostgresStore.open(database, kinds)
    found = await store.items([Sight(("like", n), 7, newest) for n in range(1, 51)])
    await store.close()
    assert found is not None
    assert [edge.source for edge in found.rows[0].item.newest] == list(range(1, newest + 1))
    assert all(row.item.viewer for row in found.rows)
    await until(lambda: not run(database, OTHERS), "the store's connections have ended")
    [(after,)] = run(database, FETCHED)
    assert 50 * 10 <= after - before <= 50 * (newest + 1)
