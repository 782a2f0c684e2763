"""Accounts and transfers, as plain functions over a connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec.structs import astuple, replace

from groundswell.model import Account, Movement, SettleAccount
from groundswell.revision import Revision
from groundswell.store import Before, Movements, movements
from groundswell.stores.ledger import (
    ACCOUNT_FIELDS,
    MOVEMENT_FIELDS,
    shown,
    to_account,
    to_movement,
    to_settle,
)
from groundswell.stores.sqlite import rows
from groundswell.stores.sqlite.schema import transaction

_ACCOUNT: Final = ", ".join(ACCOUNT_FIELDS)
_MOVEMENT: Final = ", ".join(MOVEMENT_FIELDS)


def find_accounts(connection: sqlite3.Connection, ids: Iterable[str]) -> dict[str, Account]:
    """The stored accounts among `ids`."""
    sql = f"SELECT {_ACCOUNT} FROM {{rows}} CROSS JOIN account ON id = column1"
    found = map(to_account, rows.execute(connection, sql, [(id_,) for id_ in sorted(ids)]))
    return {account.id: account for account in found}


def find_movements(connection: sqlite3.Connection, ids: Iterable[str]) -> dict[str, Movement]:
    """The stored transfers among `ids`."""
    sql = f"SELECT {_MOVEMENT} FROM {{rows}} CROSS JOIN transfer ON id = column1"
    found = map(to_movement, rows.execute(connection, sql, [(id_,) for id_ in sorted(ids)]))
    return {movement.id: movement for movement in found}


def find_expired(
    connection: sqlite3.Connection, accounts: Iterable[str], now_ms: int
) -> list[Movement]:
    """The holds that are over by `now_ms` and that one of `accounts` still counts."""
    found: dict[str, Movement] = {}
    for side in ("debit", "credit"):
        sql = (
            f"SELECT {_MOVEMENT} FROM {{rows}} CROSS JOIN transfer "
            f"ON {side} = column1 AND {side}_open AND expires_ms <= column2"
        )
        wanted = [(id_, now_ms) for id_ in sorted(accounts)]
        found |= {row[0]: to_movement(row) for row in rows.execute(connection, sql, wanted)}
    return list(found.values())


def write(
    connection: sqlite3.Connection, accounts: Sequence[Account], movements: Sequence[Movement]
) -> None:
    """Store these states of accounts and transfers."""
    rows.run(
        connection,
        f"INSERT INTO account ({_ACCOUNT}) SELECT * FROM {{rows}} WHERE column1 IS NOT NULL "
        "ON CONFLICT DO UPDATE SET balance = excluded.balance, held = excluded.held, "
        "expected = excluded.expected, floor = excluded.floor, ceiling = excluded.ceiling, "
        "version = excluded.version, xid = excluded.xid",
        [astuple(account) for account in accounts],
    )
    rows.run(
        connection,
        f"INSERT INTO transfer ({_MOVEMENT}) SELECT * FROM {{rows}} WHERE column1 IS NOT NULL "
        "ON CONFLICT DO UPDATE SET state = excluded.state, posted = excluded.posted, "
        "debit_open = excluded.debit_open, credit_open = excluded.credit_open",
        [astuple(movement) for movement in movements],
    )


def account(
    connection: sqlite3.Connection, id_: str, now_ms: int
) -> tuple[Account | None, Revision]:
    """One account, without what its expired holds kept."""
    with transaction(connection, write=False):
        xid, at_ms = connection.execute("SELECT xid, at_ms FROM head").fetchone()
        found = find_accounts(connection, [id_]).get(id_)
        over = find_expired(connection, [id_], max(now_ms, at_ms)) if found else []
    if found and over:
        held = sum(hold.amount for hold in over if hold.debit == id_)
        expected = sum(hold.amount for hold in over if hold.credit == id_)
        found = replace(found, held=found.held - held, expected=found.expected - expected)
    return found, Revision.upto(xid)


def movement(
    connection: sqlite3.Connection, id_: str, now_ms: int
) -> tuple[Movement | None, Revision]:
    """One transfer."""
    with transaction(connection, write=False):
        xid, at_ms = connection.execute("SELECT xid, at_ms FROM head").fetchone()
        found = find_movements(connection, [id_]).get(id_)
    return found and shown(found, max(now_ms, at_ms)), Revision.upto(xid)


def history(
    connection: sqlite3.Connection, account: str, limit: int, before: Before | None, now_ms: int
) -> Movements:
    """The transfers of an account, newest first."""
    older = "" if before is None else "AND place < :place"
    side = (
        f"SELECT * FROM (SELECT {_MOVEMENT} FROM transfer WHERE {{side}} = :account {older} "
        "ORDER BY place DESC LIMIT :limit)"
    )
    given = {"account": account, "limit": limit + 1}
    if before is not None:
        given["place"] = before.place
    with transaction(connection, write=False):
        xid, at_ms = connection.execute("SELECT xid, at_ms FROM head").fetchone()
        found = connection.execute(
            f"{side.format(side='debit')} UNION ALL {side.format(side='credit')} "
            "ORDER BY place DESC LIMIT :limit",
            given,
        ).fetchall()
    listed = [shown(to_movement(row), max(now_ms, at_ms)) for row in found]
    return movements(listed, limit, Revision.upto(xid))


def expired(connection: sqlite3.Connection, at_most: int, now_ms: int) -> list[SettleAccount]:
    """The accounts that still count holds that are over."""
    with transaction(connection, write=False):
        at_ms = connection.execute("SELECT at_ms FROM head").fetchone()[0]
        found = connection.execute(
            "SELECT debit, debit_open, credit, credit_open FROM transfer "
            "WHERE (debit_open OR credit_open) AND expires_ms <= ? ORDER BY expires_ms LIMIT ?",
            (max(now_ms, at_ms), at_most),
        ).fetchall()
    return to_settle(found)
