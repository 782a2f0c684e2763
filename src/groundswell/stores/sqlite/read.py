"""Reads, as plain functions over a reader's connection; each sees one state."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from groundswell.model import Counter, Document, Edge, Id, Key, Newest, SettleClaim
from groundswell.revision import Revision
from groundswell.store import (
    CountChange,
    CounterRow,
    Counters,
    Documents,
    Feed,
    Head,
    Item,
    ItemRow,
    Items,
    Page,
    Rollup,
    Sight,
    Window,
    page,
)
from groundswell.stores.sqlite import rows
from groundswell.stores.sqlite.schema import transaction
from groundswell.stores.sqlite.write import find_documents, raw

CURRENT_MAX: Final = 10_000  # events that `current` looks through

_ABSENT: Final = CounterRow(Counter(0), 0, 0)
_COUNTERS: Final = (
    "SELECT kind, target, count, sum, born, changed FROM {rows} "
    "CROSS JOIN counter ON kind = column1 AND target = column2"
)
_WAITING: Final = (
    "SELECT kind, target, sum(count), sum(sum), count(*) FROM (SELECT * FROM event LIMIT ?) "
    "GROUP BY kind, target"
)
_COUNT_CHANGES: Final = msgspec.json.Decoder(tuple[CountChange, ...])


def head(connection: sqlite3.Connection, epoch: int) -> Head:
    """Where the store stands."""
    xid, number = connection.execute("SELECT xid, rollup FROM head").fetchone()
    return Head(epoch, Revision.upto(xid), number)


def backlog(connection: sqlite3.Connection) -> int:
    """How many events wait for a rollup."""
    counted = connection.execute(
        "SELECT (SELECT count(*) FROM event) + (SELECT count(*) FROM object_event)"
    ).fetchone()
    return int(counted[0])


def feed(connection: sqlite3.Connection, epoch: int, after: int, changes_max: int) -> Feed:
    """The rollups after number `after`."""
    newest, head = _newest(connection)
    if after >= newest.number:  # what followers hear most often: one statement is one state
        return Feed(epoch, head, newest, (), behind=after > newest.number)
    with transaction(connection, write=False):
        newest, head = _newest(connection)
        listed = connection.execute(
            "SELECT number, xid, changes FROM rollup WHERE number > ? ORDER BY number LIMIT ?",
            (after, max(changes_max, 1)),
        ).fetchall()
        behind = not listed or listed[0][0] != after + 1
        found: list[Rollup] = []
        for number, upto, changes in [] if behind else listed:
            changes_max -= max(changes, 1)
            if found and changes_max < 0:
                break
            found.append(_rollup(connection, number, upto, changes))
    return Feed(epoch, head, newest, tuple(found), behind)


def _newest(connection: sqlite3.Connection) -> tuple[Rollup, Revision]:
    """The newest rollup, without its changes, and all that is committed."""
    xid, number, rolled_xid = connection.execute(
        "SELECT xid, rollup, rolled_xid FROM head"
    ).fetchone()
    return Rollup(number, Revision.upto(rolled_xid)), Revision.upto(xid)


def _rollup(connection: sqlite3.Connection, number: int, upto: int, changes: int) -> Rollup:
    if not changes:
        return Rollup(number, Revision.upto(upto))
    packed = connection.execute(
        "SELECT json_group_array(json_array(kind, target, count, sum)) FROM change WHERE rollup = ?",
        (number,),
    ).fetchone()[0]
    documents = connection.execute(
        "SELECT id, type, version, xid, data FROM object_change WHERE rollup = ?", (number,)
    ).fetchall()
    return Rollup(
        number,
        Revision.upto(upto),
        _COUNT_CHANGES.decode(packed),
        tuple(
            Document(id_, type_, version, xid, raw(data))
            for id_, type_, version, xid, data in documents
        ),
    )


def counters(connection: sqlite3.Connection, epoch: int, keys: Sequence[Key]) -> Counters:
    """Counters as of the newest rollup."""
    with transaction(connection, write=False):
        number, xid = connection.execute("SELECT rollup, rolled_xid FROM head").fetchone()
        found = _rolled_up(connection, keys)
    return Counters(
        tuple(found.get(key, _ABSENT) for key in keys), epoch, number, Revision.upto(xid)
    )


def _rolled_up(connection: sqlite3.Connection, keys: Sequence[Key]) -> dict[Key, CounterRow]:
    """The stored counters among `keys`."""
    return {
        (kind, target): CounterRow(Counter(count, sum_), born, changed)
        for kind, target, count, sum_, born, changed in rows.execute(connection, _COUNTERS, keys)
    }


def _waiting(connection: sqlite3.Connection) -> dict[Key, Counter] | None:
    """What the events that wait for a rollup come to; None where more than CURRENT_MAX do."""
    found = connection.execute(_WAITING, (CURRENT_MAX + 1,)).fetchall()
    if sum(events for *_, events in found) > CURRENT_MAX:
        return None
    return {(kind, target): Counter(count, sum_) for kind, target, count, sum_, _ in found}


def _with(counter: Counter, more: Counter | None) -> Counter:
    return counter if more is None else Counter(counter.count + more.count, counter.sum + more.sum)


def current(
    connection: sqlite3.Connection, keys: Sequence[Key]
) -> tuple[tuple[Counter, ...], Revision] | None:
    """Counters with all that is committed; None where more than CURRENT_MAX events wait."""
    with transaction(connection, write=False):
        xid = connection.execute("SELECT xid FROM head").fetchone()[0]
        waiting = _waiting(connection)
        if waiting is None:
            return None
        found = _rolled_up(connection, keys)
    counted = tuple(_with(found.get(key, _ABSENT).counter, waiting.get(key)) for key in keys)
    return counted, Revision.upto(xid)


def items(connection: sqlite3.Connection, epoch: int, sights: Sequence[Sight]) -> Items | None:
    """Items with all that is committed; None where more than CURRENT_MAX events wait."""
    with transaction(connection, write=False):
        number, xid = connection.execute("SELECT rollup, xid FROM head").fetchone()
        waiting = _waiting(connection)
        if waiting is None:
            return None
        found = _rolled_up(connection, list(dict.fromkeys(sight.key for sight in sights)))
        listed = tuple(
            _item_row(connection, sight, found.get(sight.key, _ABSENT), waiting.get(sight.key))
            for sight in sights
        )
    return Items(listed, epoch, number, Revision.upto(xid))


def _item_row(
    connection: sqlite3.Connection, sight: Sight, row: CounterRow, waiting: Counter | None
) -> ItemRow:
    (kind, target), viewer = sight.key, None
    newest: tuple[Newest, ...] = ()
    if sight.viewer is not None:
        sql = f"SELECT EXISTS (SELECT 1 FROM edge_{kind} WHERE target = ? AND source = ?)"
        viewer = bool(connection.execute(sql, (target, sight.viewer)).fetchone()[0])
    if sight.newest:
        sql = (
            f"SELECT source, created_ms, value, data FROM edge_{kind} WHERE target = ? "
            "ORDER BY created_ms DESC, source DESC LIMIT ?"
        )
        newest = tuple(
            Newest(source, created_ms, value, raw(data))
            for source, created_ms, value, data in connection.execute(sql, (target, sight.newest))
        )
    counter = _with(row.counter, waiting)
    return ItemRow(Item(counter, newest, viewer), row, waiting is not None)


def documents(connection: sqlite3.Connection, epoch: int, ids: Sequence[str]) -> Documents:
    """Objects as they are now."""
    with transaction(connection, write=False):
        number, xid = connection.execute("SELECT rollup, xid FROM head").fetchone()
        found = {document.id: document for document in find_documents(connection, ids)}
    return Documents(tuple(found.get(id_) for id_ in ids), epoch, number, Revision.upto(xid))


def edge(
    connection: sqlite3.Connection, kind: str, target: Id, source: Id
) -> tuple[Edge | None, Revision]:
    """One edge as it is now."""
    with transaction(connection, write=False):
        xid = connection.execute("SELECT xid FROM head").fetchone()[0]
        row = connection.execute(
            f"SELECT target, source, created_ms, value, data, expires_ms FROM edge_{kind} "
            "WHERE target = ? AND source = ?",
            (target, source),
        ).fetchone()
    return row and _edge(kind, row), Revision.upto(xid)


def _edge(kind: str, row: tuple[Any, ...]) -> Edge:
    target, source, created_ms, value, data, expires_ms = row
    return Edge(
        kind=kind,
        target=target,
        source=source,
        created_ms=created_ms,
        value=value,
        data=raw(data),
        expires_ms=expires_ms,
    )


def edges(
    connection: sqlite3.Connection, kind: str, end: Id, window: Window, *, inverse: bool
) -> Page:
    """One page of the list of `end`: a target's sources, or the targets of a source if `inverse`."""
    end_column, other_column = ("source", "target") if inverse else ("target", "source")
    newer = window.cursor is not None and window.cursor.newer
    where, bound = [f"{end_column} = ?"], [end]
    if window.cursor is not None:
        where.append(f"(created_ms, {other_column}) {'>' if newer else '<'} (?, ?)")
        bound += [window.cursor.created_ms, window.cursor.other]
    if window.since_ms is not None:
        where.append("created_ms >= ?")
        bound.append(window.since_ms)
    if window.until_ms is not None:
        where.append("created_ms < ?")
        bound.append(window.until_ms)
    order = "ASC" if newer else "DESC"
    with transaction(connection, write=False):
        xid = connection.execute("SELECT xid FROM head").fetchone()[0]
        found = connection.execute(
            f"SELECT target, source, created_ms, value, data, expires_ms FROM edge_{kind} "
            f"WHERE {' AND '.join(where)} ORDER BY created_ms {order}, {other_column} {order} LIMIT ?",
            [*bound, window.limit + 1],
        ).fetchall()
    return page([_edge(kind, row) for row in found], window, Revision.upto(xid), inverse=inverse)


def expired_claims(
    connection: sqlite3.Connection, kind: str, at_most: int, now_ms: int
) -> list[SettleClaim]:
    """The targets of an exclusive kind whose claims are over."""
    with transaction(connection, write=False):
        at_ms = connection.execute("SELECT at_ms FROM head").fetchone()[0]
        found = connection.execute(
            f"SELECT target FROM edge_{kind} WHERE expires_ms <= ? ORDER BY expires_ms LIMIT ?",
            (max(now_ms, at_ms), at_most),
        ).fetchall()
    return [SettleClaim(kind, target) for (target,) in found]


def recount(connection: sqlite3.Connection, kind: str, target: Id, *, unique: bool) -> Counter:
    """The truth behind a counter."""
    if unique:
        sql = f"SELECT count(*), ifnull(sum(value), 0) FROM edge_{kind} WHERE target = ?"
        bound: tuple[Any, ...] = (target,)
    else:
        sql = (
            "SELECT ifnull(sum(count), 0), 0 FROM ("
            "SELECT count FROM counter WHERE kind = ? AND target = ? "
            "UNION ALL SELECT count FROM event WHERE kind = ? AND target = ?)"
        )
        bound = (kind, target, kind, target)
    count, sum_ = connection.execute(sql, bound).fetchone()
    return Counter(count, sum_)


def recount_value(connection: sqlite3.Connection, kind: str, target: Id, value: int) -> Counter:
    """The truth behind the counter of one value."""
    sql = f"SELECT count(*) FROM edge_{kind} WHERE target = ? AND value = ?"
    return Counter(connection.execute(sql, (target, value)).fetchone()[0])
