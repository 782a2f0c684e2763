"""What a store does otherwise where Citus spreads its edges and objects over several servers.

Queue, counters, feed and accounts stay on the coordinator, so that a write and its event are one
transaction there. Each shard has snapshots of its own. Two empty tables make up for that:

- Citus commits in two phases only where it knows of more than one place that was written to, and our queue
  is not one that it knows of. A commit on one shard would be committed there first: a crash before the
  coordinator's own commit would leave an edge without its event. Citus counts any write on a table of its
  own at the coordinator, so every commit deletes from `two_phase`, where there is nothing.
- Shards show a commit a little later than the coordinator does. `gate` is locked by commits at their very
  end, until all shards show them, and by reads of shards, which so find no commit half shown: whatever they
  look at is of one moment.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final

import msgspec
from psycopg import AsyncCursor
from psycopg.rows import TupleRow

from groundswell.errors import StoreUnusable
from groundswell.kinds import Kind, Kinds
from groundswell.model import Edge, Id, Newest
from groundswell.revision import Revision
from groundswell.store import GROUP_MAX, Documents, Item, Items, Page, Sight, Window, page
from groundswell.stores.postgres import items as counted
from groundswell.stores.postgres import read
from groundswell.stores.postgres.edges import edge_columns, to_edge, where_of
from groundswell.stores.postgres.rows import SQL_TYPE, out, raw
from groundswell.stores.postgres.server import Connection
from groundswell.stores.postgres.statements import execute, fetch_all, one

# docs/citus.md has the figures of both.
SHARDS: Final = 8  # of each table
WRITES_PER_SHARD: Final = 2_500  # in one commit: it sends one task to each shard that it touches

_TABLES: Final = """
    CREATE TABLE groundswell.two_phase (nothing integer);
    CREATE TABLE groundswell.gate (nothing integer);
"""


def columns(kinds: Iterable[Kind]) -> dict[str, str]:
    """The distributed tables, each with the column by which it is."""
    edges = {f"edge_{kind.name}": "target" for kind in kinds if kind.by_target}
    return {"object": "id", "tally": "target", **edges}


# --- the schema ---------------------------------------------------------------------------------


async def require(connection: Connection) -> None:
    """Raise StoreUnusable, with what to do, where tables cannot be distributed."""
    found = await fetch_all(connection, "SELECT FROM pg_extension WHERE extname = 'citus'")
    if not found:
        raise StoreUnusable(
            "The database has no Citus extension; nothing was changed. Let a superuser run CREATE "
            "EXTENSION citus in it, here and on the workers, as docs/citus.md says."
        )
    if not await fetch_all(connection, "SELECT FROM pg_dist_node WHERE groupid = 0"):
        raise StoreUnusable(
            "Citus does not know this server as its coordinator; nothing was changed. Run SELECT "
            "citus_set_coordinator_host('its name') first, then citus_add_node for each worker."
        )


async def is_distributed(connection: Connection) -> bool:
    """Whether the store that is here was made with Citus."""
    [[found]] = await fetch_all(
        connection, "SELECT to_regclass('groundswell.two_phase') IS NOT NULL"
    )
    return bool(found)


async def make(connection: Connection) -> None:
    """What a distributed store has beside the tables of every store."""
    await connection.execute(_TABLES)
    await connection.execute("SELECT citus_add_local_table_to_metadata('groundswell.two_phase')")


async def distribute(connection: Connection, kinds: Kinds) -> None:
    """Distribute the tables that are not yet; what is in them moves to the shards."""
    wanted, found = columns(kinds), await _distributed(connection)
    for table in wanted.keys() - found:
        await execute(
            connection,
            "SELECT create_distributed_table(%s, %s, shard_count := %s)",
            [f"groundswell.{table}", wanted[table], SHARDS],
        )


async def check(connection: Connection, kinds: Kinds) -> None:
    """Raise StoreUnusable where tables are not distributed as the declared kinds need them."""
    wanted, found = columns(kinds), await _distributed(connection)
    for kind in kinds:
        if not kind.by_target and f"edge_{kind.name}" in found:
            raise StoreUnusable(
                f"The edges of kind {kind.name} are distributed by their target, so that it can have no "
                "lists by source; nothing was changed. Declare it without inverse, or choose another "
                "name."
            )
    if wanted.keys() - found:
        raise StoreUnusable(
            f"{', '.join(sorted(wanted.keys() - found))}: not distributed yet; nothing was changed. Run "
            "`groundswell migrate` first."
        )


async def group_max(connection: Connection) -> int:
    """How large a commit is worth its tasks: by the shards of the table that has most of them."""
    [[shards]] = await fetch_all(
        connection,
        """
        SELECT coalesce(max(shards), 0) FROM (
            SELECT count(*) AS shards FROM pg_dist_shard JOIN pg_class ON pg_class.oid = logicalrelid
            WHERE relnamespace = 'groundswell'::regnamespace GROUP BY logicalrelid
        ) AS tables
        """,
    )
    return max(GROUP_MAX, WRITES_PER_SHARD * int(shards))


async def _distributed(connection: Connection) -> set[str]:
    found = await fetch_all(
        connection,
        """
        SELECT relname::text FROM pg_dist_partition JOIN pg_class ON pg_class.oid = logicalrelid
        WHERE partmethod = 'h' AND relnamespace = 'groundswell'::regnamespace
        """,
    )
    return {name for (name,) in found}


# --- transactions -------------------------------------------------------------------------------


async def seal(connection: Connection) -> None:
    """What every commit does last, in its transaction."""
    await connection.execute("DELETE FROM groundswell.two_phase")
    await connection.execute("LOCK TABLE groundswell.gate IN ROW EXCLUSIVE MODE")


@contextlib.asynccontextmanager
async def still(connection: Connection) -> AsyncIterator[None]:
    """While no commit is shown: all that is read meanwhile is of one moment.

    Everything goes out at once, so that commits are not kept waiting; what is read is fetched afterwards.
    """
    async with connection.pipeline(), connection.transaction():
        await connection.execute("LOCK TABLE groundswell.gate IN SHARE MODE")
        yield


# --- reads --------------------------------------------------------------------------------------


async def edge(
    connection: Connection, kind: Kind, target: Id, source: Id
) -> tuple[Edge | None, Revision]:
    """One edge as it is now."""
    sql = (
        f"SELECT {edge_columns(kind)} FROM groundswell.edge_{kind.name} AS e "
        f"WHERE e.target = %s::{SQL_TYPE[kind.target]} AND e.source = %s::{SQL_TYPE[kind.source]}"
    )
    async with still(connection):
        standing = await execute(connection, read.STANDING)
        asked = await execute(connection, sql, [target, source])
    row = await asked.fetchone()
    return (to_edge(kind, row) if row else None), (await _state(standing)).now


async def edges(connection: Connection, kind: Kind, target: Id, window: Window) -> Page:
    """One page of a target's list."""
    where, bound = where_of(kind, target, window, inverse=False)
    order = "ASC" if window.cursor is not None and window.cursor.newer else "DESC"
    sql = (
        f"SELECT {edge_columns(kind)} FROM groundswell.edge_{kind.name} AS e WHERE {where} "
        f"ORDER BY e.created_at {order}, e.source {order} LIMIT %s"
    )
    async with still(connection):
        standing = await execute(connection, read.STANDING)
        asked = await execute(connection, sql, [*bound, window.limit + 1])
    listed = [to_edge(kind, row) for row in await asked.fetchall()]
    return page(listed, window, (await _state(standing)).now, inverse=False)


async def documents(connection: Connection, epoch: int, ids: Sequence[str]) -> Documents:
    """Objects as they are now."""
    objects, accounts = read.stored_as(ids)
    async with still(connection):
        standing = await execute(connection, read.STANDING)
        asked = [
            await execute(connection, read.OBJECTS, [objects]),
            await execute(connection, read.ACCOUNTS, [accounts]),
        ]
    found = [row for cursor in asked for row in await cursor.fetchall()]
    return read.to_documents(ids, found, await _state(standing), epoch)


async def _state(standing: AsyncCursor[TupleRow]) -> read.State:
    return read.State.of(await one(standing), standby=False)


async def items(
    connection: Connection, kinds: Kinds, epoch: int, sights: Sequence[Sight]
) -> Items | None:
    """Items with all that is committed; None where more events wait than are looked through."""
    async with still(connection):
        newest = [await _newest(connection, kinds, sight) for sight in sights]
        viewers = [await _viewer(connection, kinds, sight) for sight in sights]
        counts = await counted.items(connection, kinds, epoch, [Sight(s.key) for s in sights])
    if counts is None:
        return None
    rows = [
        msgspec.structs.replace(
            row,
            item=Item(
                row.item.counter,
                tuple(_to_newest(edge) for edge in await _rows(listed)),
                None if sight.viewer is None else bool(await _rows(viewer)),
            ),
        )
        for sight, row, listed, viewer in zip(sights, counts.rows, newest, viewers, strict=True)
    ]
    return msgspec.structs.replace(counts, rows=tuple(rows))


_Asked = AsyncCursor[TupleRow] | None  # None: not asked


async def _newest(connection: Connection, kinds: Kinds, sight: Sight) -> _Asked:
    kind, target = kinds[sight.key[0]], sight.key[1]
    if not sight.newest:
        return None
    return await execute(
        connection,
        f"""
        SELECT {out("source", kind.source)}, groundswell.ms(created_at), value, data::text
        FROM groundswell.edge_{kind.name} WHERE target = %s::{SQL_TYPE[kind.target]}
        ORDER BY created_at DESC, source DESC LIMIT %s
        """,
        [target, sight.newest],
    )


async def _viewer(connection: Connection, kinds: Kinds, sight: Sight) -> _Asked:
    kind, target = kinds[sight.key[0]], sight.key[1]
    if sight.viewer is None:
        return None
    return await execute(
        connection,
        f"SELECT 1 FROM groundswell.edge_{kind.name} "
        f"WHERE target = %s::{SQL_TYPE[kind.target]} AND source = %s::{SQL_TYPE[kind.source]}",
        [target, sight.viewer],
    )


async def _rows(asked: _Asked) -> list[TupleRow]:
    return [] if asked is None else await asked.fetchall()


def _to_newest(row: TupleRow) -> Newest:
    source, created_ms, value, data = row
    return Newest(source, created_ms, value, raw(data))
