"""Commits that need a plan: under locks on every row they depend on, decided in Python, then written.

A row that is not there cannot be locked, so what a write may create is inserted at once, as a reservation:
it makes everybody else wait, and goes away again where the plan has no use for it. With the rows that
others had stored before, locked too, nothing that the plan depends on can change until the commit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, NamedTuple

from psycopg import AsyncCursor
from psycopg.rows import TupleRow

from groundswell.accounts import document
from groundswell.kinds import Kind, Kinds
from groundswell.model import Add, Document, Id, Open, Put
from groundswell.store import Batch, Committed
from groundswell.stores.plan import EdgeKey, EdgeRow, Plan, TallyKey, Wants, wants
from groundswell.stores.postgres import citus, ledger, queues, read
from groundswell.stores.postgres.edges import edge_columns
from groundswell.stores.postgres.queues import Queue
from groundswell.stores.postgres.rows import SQL_TYPE, array, json, out, raw
from groundswell.stores.postgres.server import Connection
from groundswell.stores.postgres.snapshots import including, parse
from groundswell.stores.postgres.statements import execute, fetch_all, fetch_one, one

_BEGIN: Final = """
    SELECT groundswell.ms(groundswell.moment(%s, %s)), pg_current_snapshot()::text,
           pg_current_xact_id()::text::bigint
"""


class _Found(NamedTuple):
    """What is stored, reservations included, and which of it are only those."""

    edges: dict[EdgeKey, EdgeRow]
    reserved: set[EdgeKey]
    tallies: set[TallyKey]  # those reserved: the others of the group are stored already
    documents: dict[str, Document]  # version 0 where only reserved


async def commit(
    connection: Connection,
    queue: Queue,
    kinds: Kinds,
    batches: Sequence[Batch],
    *,
    distributed: bool = False,
    now_ms: int | None,
    floor_ms: int,
) -> tuple[list[Committed], int]:
    """Write the group in one transaction; what its batches came to, and its time.

    All that is written goes out at once. What is decided upon is not asked for in that way: the server
    ends a transaction that stands still under its locks only where it knows that no more is on its way.
    """
    put: AsyncCursor[TupleRow] | None = None
    async with connection.transaction():
        at_ms, seen, xid = await fetch_one(connection, _BEGIN, [now_ms, floor_ms])
        plan, found, books = await _plan(connection, kinds, batches, xid, at_ms, distributed)
        planned = plan.apply(batches)
        documents, accounts = plan.documents_to_store(), plan.accounts_to_store()
        async with connection.pipeline():
            await _write_edges(connection, kinds, plan, found)
            await _free_tallies(connection, found.tallies.difference(plan.tallies_to_store()))
            await _write_documents(connection, documents, found)
            await ledger.write(connection, accounts, plan.movements_to_store(), books)
            if plan.let_go or any(batch.changed for batch in planned):
                published = [*documents, *map(document, accounts)]
                put = await queues.put(connection, queue, plan.events, published, seen)
            if distributed:
                await citus.seal(connection)
    if put is None:
        now = await read.standing(connection)
    else:  # what it has seen under all locks
        now = including(parse((await one(put))[0]), xid)
    committed = [
        Committed(batch.outcomes, xid if batch.changed else None, slot, batch.effects, now)
        for slot, batch in enumerate(planned)
    ]
    return committed, at_ms


async def _plan(
    connection: Connection,
    kinds: Kinds,
    batches: Sequence[Batch],
    xid: int,
    at_ms: int,
    distributed: bool,
) -> tuple[Plan, _Found, ledger.Books]:
    """A plan over what is stored, which is locked; reservations are nothing to it."""
    wanted = wants(batches, kinds)
    found = await _find(connection, kinds, batches, wanted, at_ms, distributed)
    opened = {w.id for batch in batches for w in batch.writes if isinstance(w, Open)}
    books = await ledger.lock(connection, wanted, opened, at_ms)
    plan = Plan(
        kinds,
        xid=xid,
        now_ms=at_ms,
        edges={key: row for key, row in found.edges.items() if key not in found.reserved},
        tallies=wanted.tallies - found.tallies,
        documents={id_: d for id_, d in found.documents.items() if d.version},
        accounts=books.accounts,
        movements=books.movements,
        expired=books.expired,
    )
    return plan, found, books


# --- what is there ------------------------------------------------------------------------------


async def _find(
    connection: Connection,
    kinds: Kinds,
    batches: Sequence[Batch],
    wanted: Wants,
    at_ms: int,
    distributed: bool,
) -> _Found:
    """Reserve what may be created and lock what is there, in an order that all commits share."""
    found = _Found({}, set(), set(), {})
    adds: dict[EdgeKey, Add] = {}
    puts: set[str] = set()
    for batch in batches:
        for write in batch.writes:
            if isinstance(write, Add):
                key: EdgeKey = (write.kind, write.target, write.source)
                adds.setdefault(key, write)
            elif isinstance(write, Put):
                puts.add(write.id)
    for name in sorted({key[0] for key in wanted.edges} | {seat[0] for seat in wanted.seats}):
        kind = kinds[name]
        reserved = await _reserve(
            connection, kind, [a for k, a in adds.items() if k[0] == name], at_ms
        )
        found.reserved.update((name, target, source) for target, source in reserved)
        keys = [key for key in wanted.edges if key[0] == name]
        seats = [seat[1] for seat in wanted.seats if seat[0] == name]
        on_shards = distributed and kind.by_target
        found.edges.update(await _lock(connection, kind, keys, seats, on_shards))
    found.tallies.update(await _reserve_tallies(connection, wanted.tallies))
    found.documents.update(await _lock_documents(connection, puts, wanted.documents, distributed))
    return found


async def _reserve(
    connection: Connection, kind: Kind, adds: Iterable[Add], at_ms: int
) -> list[tuple[Id, Id]]:
    """Insert those edges that are not there, and lock the others; the ones inserted.

    Of an exclusive kind it is the seat that is reserved, by whoever asked first.
    """
    firsts = {add.target: add for add in reversed([*adds])} if kind.exclusive else None
    rows = list(adds) if firsts is None else list(firsts.values())
    if not rows:
        return []
    unique = "target" if kind.exclusive else "target, source"
    t, s = SQL_TYPE[kind.target], SQL_TYPE[kind.source]
    found = await fetch_all(
        connection,
        f"""
        INSERT INTO groundswell.edge_{kind.name} AS e (target, source, created_at, value, data)
        SELECT target, source, groundswell.instant(%s), value, data::json
        FROM unnest(%s::{t}[], %s::{s}[], %s::bigint[], %s::text[]) AS w (target, source, value, data)
        ORDER BY target, source
        ON CONFLICT ({unique}) DO UPDATE SET source = e.source WHERE false
        RETURNING {out("e.target", kind.target)}, {out("e.source", kind.source)}
        """,
        [
            at_ms,
            array(kind.target, [add.target for add in rows]),
            array(kind.source, [add.source for add in rows]),
            [add.value for add in rows],
            [json(add.data) for add in rows],
        ],
    )
    return [(target, source) for target, source in found]


async def _lock(
    connection: Connection,
    kind: Kind,
    keys: Sequence[EdgeKey],
    seats: Sequence[Id],
    on_shards: bool,
) -> dict[EdgeKey, EdgeRow]:
    """The stored edges among `keys`, of an exclusive kind all that are on one of `seats`."""
    bound = [array(kind.target, seats)]
    ends = f"SELECT * FROM unnest(%s::{SQL_TYPE[kind.target]}[]) AS w (target)"
    match = "e.target = w.target"
    if not kind.exclusive:
        bound = [
            array(kind.target, [key[1] for key in keys]),
            array(kind.source, [key[2] for key in keys]),
        ]
        ends = (
            f"SELECT * FROM unnest(%s::{SQL_TYPE[kind.target]}[], %s::{SQL_TYPE[kind.source]}[]) "
            "AS w (target, source)"
        )
        match += " AND e.source = w.source"
    columns = edge_columns(kind)
    if on_shards:  # Citus takes row locks on one shard at a time, but for an update
        sql = f"""
            WITH locked AS (
                UPDATE groundswell.edge_{kind.name} AS e SET source = e.source
                FROM ({ends}) AS w WHERE {match} RETURNING e.*
            )
            SELECT {columns} FROM locked AS e
        """
    else:
        sql = f"""
            SELECT {columns}
            FROM ({ends}) AS w JOIN groundswell.edge_{kind.name} AS e ON {match}
            ORDER BY e.target, e.source FOR UPDATE OF e
        """
    found = await fetch_all(connection, sql, bound)
    return {
        (kind.name, target, source): EdgeRow(created_ms, value, raw(data), expires_ms)
        for target, source, created_ms, value, data, expires_ms in found
    }


async def _reserve_tallies(connection: Connection, wanted: set[TallyKey]) -> list[TallyKey]:
    """Insert those ids that are not there; the ones inserted, with their targets as they were given."""
    if not wanted:
        return []
    given = {(kind, str(target), id_): (kind, target, id_) for kind, target, id_ in wanted}
    found = await fetch_all(
        connection,
        """
        INSERT INTO groundswell.tally (kind, target, id)
        SELECT * FROM unnest(%s::text[], %s::text[], %s::text[]) ORDER BY 1, 2, 3
        ON CONFLICT DO NOTHING RETURNING kind, target, id
        """,
        [list(column) for column in zip(*given, strict=True)],
    )
    return [given[kind, target, id_] for kind, target, id_ in found]


async def _lock_documents(
    connection: Connection, puts: set[str], wanted: set[str], on_shards: bool
) -> dict[str, Document]:
    """The stored objects among `wanted`; those of `puts` that are not stored are reserved."""
    if not wanted:
        return {}
    await execute(
        connection,
        """
        INSERT INTO groundswell.object AS o (id, type, version, xid)
        SELECT id, '', 0, 0 FROM unnest(%s::text[]) AS w (id) ORDER BY id
        ON CONFLICT (id) DO UPDATE SET id = o.id WHERE false
        """,
        [list(puts)],
    )
    columns = "id, type, version, xid, data::text"
    if on_shards:
        sql = f"""
            UPDATE groundswell.object SET version = version
            WHERE id = ANY (%s::text[]) RETURNING {columns}
        """
    else:
        sql = f"""
            SELECT {columns} FROM groundswell.object
            WHERE id = ANY (%s::text[]) ORDER BY id FOR UPDATE
        """
    found = await fetch_all(connection, sql, [list(wanted)])
    return {
        id_: Document(id_, type_, version, xid, raw(data))
        for id_, type_, version, xid, data in found
    }


# --- what is to be there ------------------------------------------------------------------------


async def _write_edges(connection: Connection, kinds: Kinds, plan: Plan, found: _Found) -> None:
    # Drops first: a seat that was given up may have been taken in the same transaction.
    for name, pairs in plan.edges_to_drop(found.edges).items():
        kind = kinds[name]
        t, s = SQL_TYPE[kind.target], SQL_TYPE[kind.source]
        await execute(
            connection,
            f"""
            DELETE FROM groundswell.edge_{name} AS e
            USING unnest(%s::{t}[], %s::{s}[]) AS w (target, source)
            WHERE e.target = w.target AND e.source = w.source
            """,
            [array(kind.target, [p[0] for p in pairs]), array(kind.source, [p[1] for p in pairs])],
        )
    for name, rows in plan.edges_to_store(found.edges).items():
        await _store(connection, kinds[name], rows)


async def _free_tallies(connection: Connection, unused: Collection[TallyKey]) -> None:
    """Take back those reservations that nothing has come of."""
    if unused:
        await execute(
            connection,
            """
            DELETE FROM groundswell.tally AS t
            USING unnest(%s::text[], %s::text[], %s::text[]) AS w (kind, target, id)
            WHERE t.kind = w.kind AND t.target = w.target AND t.id = w.id
            """,
            [list(c) for c in zip(*((k, str(t), i) for k, t, i in unused), strict=True)],
        )


async def _store(connection: Connection, kind: Kind, rows: Sequence[tuple[Any, ...]]) -> None:
    targets, sources, created_ms, values, data, expires_ms = zip(*rows, strict=True)
    t, s = SQL_TYPE[kind.target], SQL_TYPE[kind.source]
    await execute(
        connection,
        f"""
        INSERT INTO groundswell.edge_{kind.name}
            (target, source, created_at, value, data, expires_at)
        SELECT target, source, groundswell.instant(created_ms), value, data::json,
               groundswell.instant(expires_ms)
        FROM unnest(%s::{t}[], %s::{s}[], %s::bigint[], %s::bigint[], %s::text[], %s::bigint[])
            AS w (target, source, created_ms, value, data, expires_ms)
        ON CONFLICT (target, source) DO UPDATE
        SET created_at = excluded.created_at, value = excluded.value, data = excluded.data,
            expires_at = excluded.expires_at
        """,
        [
            array(kind.target, targets),
            array(kind.source, sources),
            list(created_ms),
            list(values),
            [json(one) for one in data],
            list(expires_ms),
        ],
    )


async def _write_documents(
    connection: Connection, documents: Sequence[Document], found: _Found
) -> None:
    if documents:
        await execute(
            connection,
            """
            UPDATE groundswell.object AS o
            SET type = w.type, version = w.version, xid = w.xid, data = w.data::json
            FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::text[])
                AS w (id, type, version, xid, data)
            WHERE o.id = w.id
            """,
            [
                [d.id for d in documents],
                [d.type for d in documents],
                [d.version for d in documents],
                [d.xid for d in documents],
                [json(d.data) for d in documents],
            ],
        )
    stored = {document.id for document in documents}
    unused = [id_ for id_, d in found.documents.items() if not d.version and id_ not in stored]
    if unused:
        await execute(
            connection, "DELETE FROM groundswell.object WHERE id = ANY (%s::text[])", [unused]
        )
