"""The write transaction and the rollup, as plain functions over the writer's connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from groundswell.accounts import document
from groundswell.kinds import Kinds
from groundswell.model import ACCOUNT, Document, Id, Key
from groundswell.revision import Revision
from groundswell.store import Batch, Committed, Rolled
from groundswell.stores.plan import EdgeKey, EdgeRow, Plan, Planned, TallyKey, Wants, wants
from groundswell.stores.sqlite import ledger, rows
from groundswell.stores.sqlite.schema import transaction


def raw(text: str | None) -> msgspec.Raw | None:
    """JSON as stored, as the model carries it."""
    return None if text is None else msgspec.Raw(text.encode("utf-8"))


def text(data: msgspec.Raw | None) -> str | None:
    """JSON as the model carries it, as stored."""
    return None if data is None else bytes(data).decode("utf-8")


def commit(
    connection: sqlite3.Connection, kinds: Kinds, batches: Sequence[Batch], now_ms: int
) -> list[Committed]:
    """One group of batches in one transaction: look up, plan, write."""
    with transaction(connection):
        last, at_ms = connection.execute("SELECT xid, at_ms FROM head").fetchone()
        plan = _plan(connection, kinds, wants(batches, kinds), last + 1, max(now_ms, at_ms))
        planned = plan.apply(batches)
        changed = plan.let_go or any(batch.changed for batch in planned)
        if changed:
            _write(connection, plan, last + 1, max(now_ms, at_ms))
    seen = Revision.upto(last + changed)
    return [_committed(batch, slot, last + 1, seen) for slot, batch in enumerate(planned)]


def _committed(planned: Planned, slot: int, xid: int, seen: Revision) -> Committed:
    return Committed(
        planned.outcomes, xid if planned.changed else None, slot, planned.effects, seen
    )


def _plan(
    connection: sqlite3.Connection, kinds: Kinds, wanted: Wants, xid: int, now_ms: int
) -> Plan:
    movements = ledger.find_movements(connection, wanted.movements)
    resolved = [movements[id_] for id_ in wanted.resolved if id_ in movements]
    named = wanted.accounts.union(*((m.debit, m.credit) for m in resolved))
    accounts = ledger.find_accounts(connection, named)
    return Plan(
        kinds,
        xid=xid,
        now_ms=now_ms,
        edges=_find_edges(connection, wanted.edges) | _find_seats(connection, wanted.seats),
        tallies=_find_tallies(connection, wanted.tallies),
        documents={d.id: d for d in find_documents(connection, sorted(wanted.documents))},
        accounts=accounts,
        movements=movements,
        expired=ledger.find_expired(connection, accounts, now_ms),
    )


def _find_edges(connection: sqlite3.Connection, wanted: set[EdgeKey]) -> dict[EdgeKey, EdgeRow]:
    by_kind: dict[str, list[tuple[Id, Id]]] = {}
    for kind, target, source in wanted:
        by_kind.setdefault(kind, []).append((target, source))
    return _edges(connection, by_kind, "target = column1 AND source = column2")


def _find_seats(connection: sqlite3.Connection, wanted: set[Key]) -> dict[EdgeKey, EdgeRow]:
    by_kind: dict[str, list[tuple[Id]]] = {}
    for kind, target in wanted:
        by_kind.setdefault(kind, []).append((target,))
    return _edges(connection, by_kind, "target = column1")


def _edges(
    connection: sqlite3.Connection, wanted: Mapping[str, Sequence[tuple[Id, ...]]], match: str
) -> dict[EdgeKey, EdgeRow]:
    found: dict[EdgeKey, EdgeRow] = {}
    for kind, keys in wanted.items():
        sql = (
            "SELECT target, source, created_ms, value, data, expires_ms FROM {rows} "
            f"CROSS JOIN edge_{kind} ON {match}"
        )
        for target, source, created_ms, value, data, expires_ms in rows.execute(
            connection, sql, sorted(keys)
        ):
            found[kind, target, source] = EdgeRow(created_ms, value, raw(data), expires_ms)
    return found


def _find_tallies(connection: sqlite3.Connection, wanted: set[TallyKey]) -> list[TallyKey]:
    sql = (
        "SELECT kind, target, id FROM {rows} "
        "CROSS JOIN tally ON kind = column1 AND target = column2 AND id = column3"
    )
    return [(kind, target, id_) for kind, target, id_ in rows.execute(connection, sql, [*wanted])]


def find_documents(connection: sqlite3.Connection, ids: Sequence[str]) -> list[Document]:
    """The stored objects among `ids`, deletion marks and accounts included."""
    sql = "SELECT id, type, version, xid, data FROM {rows} CROSS JOIN object ON id = column1"
    mine = [(id_,) for id_ in ids if not id_.startswith(ACCOUNT)]
    accounts = [id_.removeprefix(ACCOUNT) for id_ in ids if id_.startswith(ACCOUNT)]
    found = [
        Document(id_, type_, version, xid, raw(data))
        for id_, type_, version, xid, data in rows.execute(connection, sql, mine)
    ]
    return found + [document(a) for a in ledger.find_accounts(connection, accounts).values()]


def _write(connection: sqlite3.Connection, plan: Plan, xid: int, now_ms: int) -> None:
    # Drops first: a seat that was given up may have been taken in the same transaction.
    for kind, keys in plan.edges_to_drop().items():
        rows.run(
            connection,
            f"DELETE FROM edge_{kind} WHERE (target, source) IN (SELECT * FROM {{rows}})",
            keys,
        )
    for kind, edges in plan.edges_to_store().items():
        rows.run(
            connection,
            f"INSERT INTO edge_{kind} (target, source, created_ms, value, data, expires_ms) "
            "SELECT * FROM {rows} WHERE column1 IS NOT NULL "
            "ON CONFLICT DO UPDATE SET created_ms = excluded.created_ms, value = excluded.value, "
            "data = excluded.data, expires_ms = excluded.expires_ms",
            # created_ms: where it was removed and added in one commit
            [(*edge[:4], text(edge[4]), edge[5]) for edge in edges],
        )
    rows.run(connection, _INSERT.format(table="tally"), plan.tallies_to_store())
    _write_documents(connection, plan.documents_to_store())
    accounts = plan.accounts_to_store()
    ledger.write(connection, accounts, plan.movements_to_store())
    _queue_documents(connection, [document(account) for account in accounts])
    events = [(xid, *key, *change) for key, change in sorted(plan.events.items(), key=str)]
    rows.run(connection, _INSERT.format(table="event"), events)
    connection.execute("UPDATE head SET xid = ?, at_ms = ?", (xid, now_ms))


def _write_documents(connection: sqlite3.Connection, documents: Sequence[Document]) -> None:
    stored = [(d.id, d.type, d.version, d.xid, text(d.data)) for d in documents]
    rows.run(
        connection,
        "INSERT INTO object (id, type, version, xid, data) "
        "SELECT * FROM {rows} WHERE column1 IS NOT NULL ON CONFLICT DO UPDATE "
        "SET type = excluded.type, version = excluded.version, xid = excluded.xid, "
        "data = excluded.data",
        stored,
    )
    _queue_documents(connection, documents)


def _queue_documents(connection: sqlite3.Connection, documents: Sequence[Document]) -> None:
    events = [(d.xid, d.id, d.type, d.version, text(d.data)) for d in documents]
    rows.run(connection, _INSERT.format(table="object_event"), events)


_INSERT: Final = "INSERT INTO {table} SELECT * FROM {{rows}} WHERE column1 IS NOT NULL"


def rollup(connection: sqlite3.Connection, events_max: int, rollups_kept: int) -> Rolled | None:
    """Fold the oldest whole transactions into counters and publish them, in one transaction."""
    xid, rolled_xid = connection.execute("SELECT xid, rolled_xid FROM head").fetchone()
    if xid == rolled_xid:
        return None  # looked at without the write lock: an idle node leaves others alone
    with transaction(connection):
        xid, number, rolled_xid = connection.execute(
            "SELECT xid, rollup, rolled_xid FROM head"
        ).fetchone()
        if xid == rolled_xid:
            return None
        upto = _last_xid(connection, xid, events_max)
        number += 1
        given = {"number": number, "upto": upto, "oldest": number - rollups_kept + 1}
        connection.execute(_FOLD, given)
        changes = connection.execute(_PUBLISH, given).rowcount
        changes += connection.execute(_PUBLISH_OBJECTS, given).rowcount
        events = connection.execute("DELETE FROM event WHERE xid <= :upto", given).rowcount
        events += connection.execute("DELETE FROM object_event WHERE xid <= :upto", given).rowcount
        connection.execute("INSERT INTO rollup VALUES (?, ?, ?)", (number, upto, changes))
        connection.execute("UPDATE head SET rollup = :number, rolled_xid = :upto", given)
        for table, column in (
            ("change", "rollup"),
            ("object_change", "rollup"),
            ("rollup", "number"),
        ):
            connection.execute(f"DELETE FROM {table} WHERE {column} < :oldest", given)
    return Rolled(number, Revision.upto(upto), events, more=upto < xid)


def _last_xid(connection: sqlite3.Connection, xid: int, events_max: int) -> int:
    """The transaction whose events reach `events_max`, or else the last one."""
    end = connection.execute(
        "SELECT xid FROM (SELECT xid FROM event UNION ALL SELECT xid FROM object_event) "
        "ORDER BY xid LIMIT 1 OFFSET ?",
        (events_max - 1,),
    ).fetchone()
    return xid if end is None else int(end[0])


_FOLD: Final = """
    INSERT INTO counter (kind, target, count, sum, born, changed)
    SELECT kind, target, sum(count), sum(sum), :number, :number FROM event WHERE xid <= :upto
    GROUP BY kind, target ORDER BY kind, target
    ON CONFLICT DO UPDATE SET
        count = count + excluded.count, sum = sum + excluded.sum, changed = excluded.changed
"""
_PUBLISH: Final = """
    INSERT INTO change (rollup, kind, target, count, sum)
    SELECT :number, kind, target, counter.count, counter.sum
    FROM (SELECT DISTINCT kind, target FROM event WHERE xid <= :upto) JOIN counter USING (kind, target)
"""
_PUBLISH_OBJECTS: Final = """
    INSERT INTO object_change (rollup, id, type, version, xid, data)
    SELECT :number, id, type, max(version), xid, data FROM object_event WHERE xid <= :upto
    GROUP BY id  -- with max(), SQLite takes the other columns from the row that holds it
"""
