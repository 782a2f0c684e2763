"""Running statements: the few forms in which they are run here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import AsyncCursor
from psycopg.rows import TupleRow

from groundswell.stores.postgres.server import Connection


async def execute(
    connection: Connection, sql: str, bound: Sequence[Any] = ()
) -> AsyncCursor[TupleRow]:
    """Execute; identifiers in `sql` come from checked kinds, everything else from `bound`."""
    return await connection.execute(sql.encode(), bound)


async def one(cursor: AsyncCursor[TupleRow]) -> TupleRow:
    """The row of a statement that always returns one."""
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101
    return row


async def fetch_one(connection: Connection, sql: str, bound: Sequence[Any] = ()) -> TupleRow:
    """Execute a statement that always returns one row."""
    return await one(await execute(connection, sql, bound))


async def fetch_all(connection: Connection, sql: str, bound: Sequence[Any] = ()) -> list[TupleRow]:
    """Execute; all its rows."""
    return await (await execute(connection, sql, bound)).fetchall()
