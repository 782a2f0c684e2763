"""Accounts and transfers: under locks for commits, as they are now for reads.

Accounts are locked in the order of their ids, then transfers in the order of theirs. Whoever holds an
account alone decides about its side of the transfers, so that no lock is ever waited for in between.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

import msgspec

from groundswell.model import Account, Movement, Settle
from groundswell.revision import Revision
from groundswell.store import Before, Movements, movements
from groundswell.stores.ledger import (
    ACCOUNT_FIELDS,
    MOVEMENT_FIELDS,
    PLACE_BITS,
    shown,
    to_account,
    to_movement,
    to_settle,
)
from groundswell.stores.plan import Wants
from groundswell.stores.postgres.read import STATE, WIDTH, State
from groundswell.stores.postgres.server import Connection
from groundswell.stores.postgres.statements import execute, fetch_all, fetch_one

_ACCOUNT: Final = ", ".join(ACCOUNT_FIELDS)
_MOVEMENT: Final = ", ".join(  # of groundswell.transfer AS t
    f"groundswell.ms(t.{name[:-3]}_at)" if name.endswith("_ms") else f"t.{name}"
    for name in MOVEMENT_FIELDS
)


class Books(NamedTuple):
    """What is stored of the accounts and transfers that a group wants, locked."""

    accounts: dict[str, Account]
    reserved: set[str]  # accounts that are only that
    movements: dict[str, Movement]  # those that are named
    expired: list[Movement]


async def lock(connection: Connection, wanted: Wants, opened: Collection[str], at_ms: int) -> Books:
    """Reserve the accounts that may be `opened`, and lock what the group depends on."""
    names = wanted.accounts | await _parties(connection, wanted.resolved)
    if not names:
        return Books({}, set(), {}, [])
    locked = await _lock_accounts(connection, names, opened)
    accounts = {account.id: account for account in locked if account.version}
    reserved = {account.id for account in locked if not account.version}
    known = await _lock_movements(connection, wanted.movements, accounts, at_ms)
    # Whose accounts are not locked has been made since these were looked up: it comes after this commit.
    later = {
        movement.id
        for movement in known
        if movement.id in wanted.resolved
        and not {movement.debit, movement.credit} <= accounts.keys()
    }
    return Books(
        accounts,
        reserved,
        {m.id: m for m in known if m.id in wanted.movements and m.id not in later},
        [m for m in known if m.expires_ms is not None and m.expires_ms <= at_ms and _is_open(m)],
    )


async def _lock_accounts(
    connection: Connection, names: Collection[str], opened: Collection[str]
) -> list[Account]:
    """The stored accounts among `names`; those of `opened` that are not stored, with version 0."""
    if opened:
        await execute(
            connection,
            f"""
            INSERT INTO groundswell.account AS a ({_ACCOUNT})
            SELECT id, 0, 0, 0, NULL, NULL, 0, 0 FROM unnest(%s::text[]) AS w (id) ORDER BY id
            ON CONFLICT (id) DO UPDATE SET id = a.id WHERE false
            """,
            [list(opened)],
        )
    found = await fetch_all(
        connection,
        f"SELECT {_ACCOUNT} FROM groundswell.account WHERE id = ANY (%s::text[]) ORDER BY id FOR UPDATE",
        [list(names)],
    )
    return [to_account(row) for row in found]


async def _lock_movements(
    connection: Connection, named: Collection[str], accounts: Collection[str], at_ms: int
) -> list[Movement]:
    """The stored transfers among `named`, and the holds that are over and open on `accounts`."""
    found = await fetch_all(
        connection,
        f"""
        SELECT {_MOVEMENT} FROM (
            SELECT unnest(%s::text[]) AS id
            UNION SELECT id FROM groundswell.transfer
            WHERE debit = ANY (%s::text[]) AND debit_open AND expires_at <= groundswell.instant(%s)
            UNION SELECT id FROM groundswell.transfer
            WHERE credit = ANY (%s::text[]) AND credit_open AND expires_at <= groundswell.instant(%s)
        ) AS w JOIN groundswell.transfer AS t USING (id) ORDER BY t.id FOR UPDATE OF t
        """,
        [list(named), list(accounts), at_ms, list(accounts), at_ms],
    )
    return [to_movement(row) for row in found]


def _is_open(movement: Movement) -> bool:
    return movement.debit_open or movement.credit_open


async def _parties(connection: Connection, ids: Collection[str]) -> set[str]:
    """The accounts of these transfers, which never change."""
    if not ids:
        return set()
    found = await fetch_all(
        connection,
        "SELECT debit, credit FROM groundswell.transfer WHERE id = ANY (%s::text[])",
        [list(ids)],
    )
    return {name for row in found for name in row}


async def write(
    connection: Connection, accounts: Sequence[Account], moved: Sequence[Movement], books: Books
) -> None:
    """Store what a plan came to, and let go of the reservations that it has no use for."""
    if accounts:
        await execute(connection, _WRITE_ACCOUNTS, [_json(accounts)])
    stored = {*books.movements, *(movement.id for movement in books.expired)}
    made = [movement for movement in moved if movement.id not in stored]
    changed = [movement for movement in moved if movement.id in stored]
    if made:  # the id of one that another transaction has made meanwhile is an error
        await execute(connection, _MAKE_MOVEMENTS, [_json(made)])
    if changed:
        await execute(connection, _CHANGE_MOVEMENTS, [_json(changed)])
    unused = books.reserved.difference(account.id for account in accounts)
    if unused:
        await execute(
            connection,
            "DELETE FROM groundswell.account WHERE id = ANY (%s::text[])",
            [list(unused)],
        )


def _json(rows: Sequence[Account] | Sequence[Movement]) -> str:
    """Rows as one parameter: the driver would spend more time on arrays of them than all else takes."""
    return msgspec.json.encode(rows).decode()


_WRITE_ACCOUNTS: Final = """
    UPDATE groundswell.account AS a
    SET balance = w.balance, held = w.held, expected = w.expected, floor = w.floor,
        ceiling = w.ceiling, version = w.version, xid = w.xid
    FROM json_to_recordset(%s::json) AS w (
        id text, balance bigint, held bigint, expected bigint, floor bigint, ceiling bigint,
        version bigint, xid bigint)
    WHERE a.id = w.id
"""
_GIVEN_MOVEMENTS: Final = """
    json_to_recordset(%s::json) AS w (
        id text, debit text, credit text, amount bigint, pending boolean, state text, posted bigint,
        created_ms bigint, expires_ms bigint, debit_balance bigint, credit_balance bigint,
        place bigint, debit_open boolean, credit_open boolean)
"""
# Transaction ids are not in the order in which commits got hold of an account; this sequence, which is
# asked when they have, is. Rows go in by id, so that two commits with the same ones do not deadlock.
_MAKE_MOVEMENTS: Final = f"""
    WITH n AS MATERIALIZED (SELECT nextval('groundswell.transfer_commit') << {PLACE_BITS} AS place)
    INSERT INTO groundswell.transfer (
        id, debit, credit, amount, pending, state, posted, created_at, expires_at, debit_balance,
        credit_balance, place, debit_open, credit_open)
    SELECT id, debit, credit, amount, pending, state, posted, groundswell.instant(created_ms),
           groundswell.instant(expires_ms), debit_balance, credit_balance,
           n.place | (w.place & {2**PLACE_BITS - 1}), debit_open, credit_open
    FROM n CROSS JOIN {_GIVEN_MOVEMENTS} ORDER BY id
"""
_CHANGE_MOVEMENTS: Final = f"""
    UPDATE groundswell.transfer AS t
    SET state = w.state, posted = w.posted, debit_open = w.debit_open, credit_open = w.credit_open
    FROM {_GIVEN_MOVEMENTS} WHERE t.id = w.id
"""


# --- reads --------------------------------------------------------------------------------------

_NOW: Final = "(SELECT groundswell.moment(%s, %s) AS at) AS n"


async def account(
    connection: Connection, id_: str, now_ms: int | None, floor_ms: int
) -> tuple[Account | None, Revision]:
    """One account, without what its expired holds kept."""
    row = await fetch_one(
        connection,
        f"""
        SELECT {STATE}, a.id, a.balance, a.held - coalesce((
                   SELECT sum(amount) FROM groundswell.transfer
                   WHERE debit = a.id AND debit_open AND expires_at <= n.at), 0)::bigint,
               a.expected - coalesce((
                   SELECT sum(amount) FROM groundswell.transfer
                   WHERE credit = a.id AND credit_open AND expires_at <= n.at), 0)::bigint,
               a.floor, a.ceiling, a.version, a.xid
        FROM groundswell.state AS s CROSS JOIN {_NOW} LEFT JOIN groundswell.account AS a ON a.id = %s
        """,
        [now_ms, floor_ms, id_],
    )
    found = None if row[WIDTH] is None else to_account(row[WIDTH:])
    return found, State.of(row, standby=False).now


async def movement(
    connection: Connection, id_: str, now_ms: int | None, floor_ms: int
) -> tuple[Movement | None, Revision]:
    """One transfer."""
    row = await fetch_one(
        connection,
        f"""
        SELECT {STATE}, groundswell.ms(n.at), {_MOVEMENT}
        FROM groundswell.state AS s CROSS JOIN {_NOW} LEFT JOIN groundswell.transfer AS t ON t.id = %s
        """,
        [now_ms, floor_ms, id_],
    )
    at_ms, *rest = row[WIDTH:]
    found = None if rest[0] is None else shown(to_movement(rest), at_ms)
    return found, State.of(row, standby=False).now


async def history(
    connection: Connection,
    account: str,
    limit: int,
    before: Before | None,
    now_ms: int | None,
    floor_ms: int,
) -> Movements:
    """The transfers of an account, newest first."""
    older = "" if before is None else "AND place < %s"
    place = [] if before is None else [before.place]

    def side(name: str) -> str:
        return f"""
            (SELECT * FROM groundswell.transfer WHERE {name} = %s {older}
             ORDER BY place DESC LIMIT %s)"""

    bound = [account, *place, limit + 1]
    rows = await fetch_all(
        connection,
        f"""
        SELECT {STATE}, groundswell.ms(n.at), {_MOVEMENT}
        FROM groundswell.state AS s CROSS JOIN {_NOW} LEFT JOIN LATERAL (
            {side("debit")} UNION ALL {side("credit")}
            ORDER BY place DESC LIMIT %s
        ) AS t ON true
        ORDER BY t.place DESC
        """,
        [now_ms, floor_ms, *bound, *bound, limit + 1],
    )
    at_ms = rows[0][WIDTH]
    listed = [
        shown(to_movement(row[WIDTH + 1 :]), at_ms) for row in rows if row[WIDTH + 1] is not None
    ]
    return movements(listed, limit, State.of(rows[0], standby=False).now)


async def expired(
    connection: Connection, at_most: int, now_ms: int | None, floor_ms: int
) -> list[Settle]:
    """The accounts that still count holds that are over."""
    rows = await fetch_all(
        connection,
        f"""
        SELECT t.debit, t.debit_open, t.credit, t.credit_open
        FROM {_NOW} JOIN groundswell.transfer AS t
        ON (t.debit_open OR t.credit_open) AND t.expires_at <= n.at
        ORDER BY t.expires_at LIMIT %s
        """,
        [now_ms, floor_ms, at_most],
    )
    return [*to_settle(rows)]
