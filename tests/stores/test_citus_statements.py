"""Every statement on a distributed table names the column by which it is distributed.

On an ordinary PostgreSQL, so that it is always run: the store is told that its tables are distributed, and
the conformance suite drives it. Each statement is looked at before it is sent.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, ClassVar, Final

import psycopg
import pytest

from clusters import Cluster
from groundswell.stores.postgres import PostgresStore, citus
from groundswell.stores.postgres.server import Connection
from groundswell.testing import KINDS
from pg_conformance import Conformance, Databases

COLUMNS: Final = citus.columns(KINDS)

# What a store looks at to see that it is distributed, and how far: the two tables, and Citus's own lists.
PRETEND: Final = f"""
    CREATE TABLE groundswell.two_phase (nothing integer);
    CREATE TABLE groundswell.gate (nothing integer);
    CREATE TABLE pg_dist_partition AS
    SELECT 'groundswell.' || name AS logicalrelid, 'h' AS partmethod
    FROM unnest('{{{",".join(COLUMNS)}}}'::text[]) AS name;
    ALTER TABLE pg_dist_partition ALTER logicalrelid TYPE regclass USING logicalrelid::regclass;
    CREATE TABLE pg_dist_shard AS
    SELECT logicalrelid, shard AS shardid FROM pg_dist_partition, generate_series(1, 8) AS shard;
"""


def unnamed(sql: str) -> list[str]:
    """The distributed tables that a statement uses somewhere without naming their column there."""
    found = []
    for use in re.finditer(r"groundswell\.(\w+)(?: AS (\w+))?", sql):
        table, alias = use[1], use[2] or use[1]
        if table in COLUMNS and not _names(sql, use, alias, COLUMNS[table]):
            found.append(table)
    return found


def _names(sql: str, use: re.Match[str], alias: str, column: str) -> bool:
    if sql[: use.start()].endswith("INSERT INTO "):
        listed = re.match(r"\s*\(([\w, ]+)\)", sql[use.end() :])
        return listed is not None and column in listed[1].split(", ")
    condition = _rest_of_query(sql[use.end() :])
    return re.search(rf"(?<![\w.])({alias}\.)?{column} = ", condition) is not None


def _rest_of_query(rest: str) -> str:
    """Up to where the parenthesis ends that the table stands in, or the set operation's next part."""
    depth = 0
    for place, sign in enumerate(rest):
        depth += {"(": 1, ")": -1}.get(sign, 0)
        if depth < 0 or (depth == 0 and rest.startswith("UNION", place)):
            return rest[:place]
    return rest


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("SELECT 1 FROM groundswell.edge_like WHERE target = %s AND source = %s", []),
        ("SELECT 1 FROM groundswell.edge_like AS e WHERE e.target = %s", []),
        ("SELECT 1 FROM groundswell.edge_like WHERE source = %s", ["edge_like"]),
        ("SELECT 1 FROM groundswell.edge_like AS e WHERE w.target = %s", ["edge_like"]),
        ("SELECT (SELECT 1 FROM groundswell.edge_like) WHERE target = 1", ["edge_like"]),
        (
            "SELECT 1 FROM groundswell.edge_like UNION SELECT 1 FROM groundswell.edge_rating "
            "WHERE target = %s",
            ["edge_like"],
        ),
        ("DELETE FROM groundswell.edge_like", ["edge_like"]),
        ("INSERT INTO groundswell.object AS o (id, type) VALUES ('x', '')", []),
        ("INSERT INTO groundswell.tally (kind, id) VALUES ('', '')", ["tally"]),
        ("INSERT INTO groundswell.tally SELECT 1", ["tally"]),
        ("SELECT 1 FROM groundswell.edge_follow WHERE source = %s", []),  # on the coordinator
    ],
)
def test_a_statement_without_the_column_is_found(sql: str, tables: list[str]) -> None:
    assert unnamed(sql) == tables


class Pretending(Databases):
    """Stores that take themselves for distributed."""

    made: ClassVar[dict[tuple[int, str], str]] = {}

    async def _migrate(self, url: str) -> None:
        await super()._migrate(url)
        async with await psycopg.AsyncConnection.connect(url) as connection:
            await connection.execute(PRETEND.encode())


@pytest.fixture(scope="module")
def pretending(cluster: Cluster) -> Pretending:
    """Ready: what makes tables names no columns."""
    databases = Pretending(cluster, "outbox")
    asyncio.run(databases.fresh())
    return databases


class TestStatements(Conformance):
    queue = "outbox"

    @pytest.fixture(autouse=True)
    def places(self, pretending: Pretending, monkeypatch: pytest.MonkeyPatch) -> None:
        """Such databases, and nothing sent there that does not name the columns."""
        self.databases = pretending
        self.urls = []
        execute = Connection.execute

        async def looking(self: Connection, query: Any, *args: Any, **kwargs: Any) -> Any:
            sql = query.decode() if isinstance(query, bytes) else str(query)
            assert not unnamed(sql), sql
            return await execute(self, query, *args, **kwargs)

        monkeypatch.setattr(Connection, "execute", looking)

    async def test_it_takes_itself_for_distributed(self) -> None:
        store = await self.make(KINDS)
        assert store.distributed
        await store.close()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("shards", "writes"),
    [
        (1, 10_000),  # as any store
        (8, 20_000),
        (32, 80_000),
    ],
)
async def test_commits_grow_with_the_shards_of_the_table_that_has_most(
    pretending: Pretending, shards: int, writes: int
) -> None:
    url = await pretending.fresh()
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute(
            "DELETE FROM pg_dist_shard WHERE shardid > 1 AND logicalrelid <> %s::regclass",
            ["groundswell.edge_like"],
        )
        await connection.execute(
            "INSERT INTO pg_dist_shard SELECT 'groundswell.edge_like'::regclass, "
            "generate_series(9, %s)",
            [shards],
        )
        await connection.execute("DELETE FROM pg_dist_shard WHERE shardid > %s", [shards])
    store = await PostgresStore.open(url, KINDS, idle_s=None)
    assert store.group_max == writes
    await store.close()


@pytest.mark.anyio
async def test_what_is_not_distributed_advises_as_any_store(cluster: Cluster) -> None:
    store = await PostgresStore.open(await Databases(cluster, "outbox").fresh(), KINDS, idle_s=None)
    assert (store.distributed, store.group_max) == (False, 10_000)
    await store.close()
