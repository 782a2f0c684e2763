"""What psycopg raises, as errors of the store that say what to do."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Final

import psycopg
from psycopg import errors as pg
from psycopg_pool import PoolClosed, PoolTimeout

from groundswell.errors import StoreUnavailable, StoreUnusable

_FULL: Final = "The server has no connection left: lower `connections`, or raise its limit."

_UNUSABLE: Final[dict[type[psycopg.Error], str]] = {
    pg.InvalidSchemaName: "Run `groundswell migrate` first.",
    pg.UndefinedTable: "Run `groundswell migrate` first.",
    pg.UndefinedColumn: "Run `groundswell migrate` first.",
    pg.UndefinedFunction: "Run `groundswell migrate` first.",
    pg.InsufficientPrivilege: (
        "Grant the user what it lacks: ownership of schema groundswell (to make it, CREATE on the "
        "database), and with PgQ the role pgq_admin."
    ),
    pg.ReadOnlySqlTransaction: (
        "This server takes no writes: name the primary, or all hosts and "
        "target_session_attrs=read-write."
    ),
}
_UNAVAILABLE: Final[dict[type[psycopg.Error], str]] = {
    pg.QueryCanceled: "It took longer than statement_timeout allows; look for locks and long queries.",
    pg.LockNotAvailable: "Another session holds the lock; look for long transactions.",
    pg.IdleInTransactionSessionTimeout: "This process stood still too long in the middle of it.",
    pg.DiskFull: "Free disk space on the server, then try again.",
    pg.TooManyConnections: _FULL,
    pg.DeadlockDetected: "It met other writes on the same rows again and again; try again.",
    pg.SerializationFailure: "It met other writes on the same rows again and again; try again.",
}
# How Citus says that the server was killed while it waited for a worker: the code says nothing, and it may
# come on top of the result of the command.
_GONE: Final = "postmaster was shut down|received 2 results from command"
# A connection that is not made fails without a code: only its text tells why, in English unless the
# server's `lc_messages` says otherwise.
_NOT_MADE: Final[tuple[tuple[str, type[StoreUnavailable], str], ...]] = (
    (
        r'database "[^"]*" does not exist',
        StoreUnusable,
        "Create the database, or name another one.",
    ),
    (
        r'authentication failed|no password supplied|role "[^"]*" (does not exist|is not permitted)',
        StoreUnusable,
        "Check the URL's user and password, and pg_hba.conf.",
    ),
    (r"pg_hba\.conf", StoreUnusable, "Check the URL, and pg_hba.conf on the server."),
    (r"permission denied for database", StoreUnusable, "Grant the user CONNECT on the database."),
    (r"too many (clients|connections)|connection slots are reserved", StoreUnavailable, _FULL),
    (
        r"session is read-only|is in hot standby mode",
        StoreUnavailable,
        "No server that was named takes writes now: is a failover under way, or a host missing?",
    ),
    (
        r"^(connection (failed|timeout expired)|failed to resolve)",
        StoreUnavailable,
        "Is the server running, and are host and port right?",
    ),
)


@contextlib.contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn errors of the server and the connection into StoreUnavailable with what it was `doing`."""
    try:
        yield
    except PoolTimeout as error:
        raise StoreUnavailable(
            f"{doing}: no connection to PostgreSQL became free in time. Nothing was changed; try again, or "
            "raise `connections`, or the server's limit where the log tells of it."
        ) from error
    except PoolClosed as error:
        raise StoreUnavailable("The store has been closed; nothing was changed.") from error
    except psycopg.Error as error:
        known = unavailable(doing, error)
        if known is None:
            raise
        raise known from error


def unavailable(doing: str, error: psycopg.Error) -> StoreUnavailable | None:
    """The store's error for one of PostgreSQL; None for those that mean a defect of this program."""
    what = f"{doing}: {first_line(error)}"
    for cls, advice in _UNUSABLE.items():
        if isinstance(error, cls):
            return StoreUnusable(f"{what} Nothing was changed. {advice}")
    for cls, advice in _UNAVAILABLE.items():
        if isinstance(error, cls):
            return StoreUnavailable(f"{what} Nothing of it was changed. {advice}")
    if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
        for text, kind, advice in _NOT_MADE:
            if re.search(text, first_line(error)):
                return kind(f"{what} Nothing was changed. {advice}")
    gone = re.search(_GONE, first_line(error))
    if gone or isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return StoreUnavailable(f"{what} What was not acknowledged is not promised.")
    return None


def first_line(error: BaseException) -> str:
    """The first line of a message, as a sentence."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0].strip()
    return line if line.endswith(".") else f"{line}."
