"""Opening the database file: connections, schema versions, the tables of the declared kinds."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Final

from groundswell.errors import StoreUnavailable, StoreUnusable
from groundswell.kinds import Kind, Kinds

APPLICATION_ID: Final = 0x47525357  # "GRSW", in the file's header
BUSY_S: Final = 5.0  # how long a process waits for another one's transaction
SQLITE_MIN: Final = (3, 38, 0)  # STRICT, RETURNING, and the JSON functions built in
CACHE_KIB: Final = 32 * 1024  # of the writer; each reader has a quarter

_SQL_TYPE: Final = {"int": "INTEGER", "uuid": "TEXT", "text": "TEXT"}


@contextlib.contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn SQLite's errors into StoreUnavailable with what it was `doing`."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "") or type(error).__name__
        raise StoreUnavailable(f"{doing}: {error} ({name}). {_advice(name)}") from error


def _advice(name: str) -> str:
    if name.startswith("SQLITE_FULL"):
        return "Nothing of it was stored; free disk space, then try again."
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return "Another process holds the database; nothing of it was stored; try again."
    if name.startswith("SQLITE_READONLY"):
        return "Nothing was stored; make the file and its folder writable for this user."
    if name.startswith("SQLITE_IOERR"):
        return "What was not acknowledged may or may not be stored; check the disk."
    return "What was not acknowledged is not promised."


def connect(path: str, *, writer: bool) -> sqlite3.Connection:
    """A connection with the settings that durability rests on."""
    connection = sqlite3.connect(
        path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
    )
    try:
        if _to_wal(connection) != "wal":
            raise StoreUnusable(f"{path}: this file system does not support SQLite's WAL mode.")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB if writer else CACHE_KIB // 4}")
        if not writer:
            connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _to_wal(connection: sqlite3.Connection) -> str:
    """The mode it has then. SQLite itself does not wait here for a writer of a file not yet in WAL mode."""
    deadline_s = time.monotonic() + BUSY_S
    while True:
        try:
            [mode] = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            return str(mode)
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorname.startswith("SQLITE_BUSY")
            if not busy or time.monotonic() > deadline_s:
                raise
        time.sleep(BUSY_S / 500)


def migrations() -> list[str]:
    """The numbered scripts, in order; the schema's version is how many of them have run."""
    folder = resources.files("groundswell.stores.sqlite") / "sql"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [(folder / name).read_text("utf-8") for name in names]


def migrate(path: str) -> tuple[int, int]:
    """Bring the file to this program's schema, creating it where there is none; (before, after).

    Safe to call at any time from any number of processes. Raises StoreUnusable, and changes nothing,
    for a file that is locked, read-only, not a database, another program's, or of a newer schema.
    """
    if sqlite3.sqlite_version_info < SQLITE_MIN:
        need = ".".join(map(str, SQLITE_MIN))
        raise StoreUnusable(
            f"This Python has SQLite {sqlite3.sqlite_version}; {need} or newer is needed."
        )
    if not Path(path).parent.is_dir():
        raise StoreUnusable(f"{path}: its folder does not exist; create it first.")
    try:
        _refuse_foreign(path)
        with contextlib.closing(connect(path, writer=True)) as connection:
            return _migrate(connection, path)
    except (sqlite3.Error, OSError) as error:
        raise StoreUnusable(f"{path} cannot be opened: {error}. {_why(error)}") from error


def _why(error: Exception) -> str:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_NOTADB"):
        return "It is not an SQLite database; it was not changed. Name another file."
    return _advice(name) if name else "It was not changed."


def _refuse_foreign(path: str) -> None:
    """Look before the first write: even switching to WAL mode would change another program's file."""
    if not Path(path).exists() or Path(path).stat().st_size == 0:
        return
    uri = Path(path).absolute().as_uri() + "?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=BUSY_S)) as connection:
        owner = connection.execute("PRAGMA application_id").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if owner != APPLICATION_ID and (owner or tables):
        raise StoreUnusable(
            f"{path} is the database of another program; it was not changed. Name another file."
        )


def _migrate(connection: sqlite3.Connection, path: str) -> tuple[int, int]:
    scripts = migrations()
    with transaction(connection):
        before: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if before > len(scripts):
            raise StoreUnusable(
                f"{path} has schema version {before}, this program knows {len(scripts)}; "
                "it was not changed. Install the newer Groundswell."
            )
        for number, script in enumerate(scripts[before:], before + 1):
            for statement in _statements(script):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    return before, len(scripts)


def _statements(script: str) -> Iterator[str]:
    """The statements one by one: `executescript` would commit the transaction around them."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, *, write: bool = True) -> Iterator[None]:
    """One transaction: committed at the end, rolled back on any error."""
    connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def declare(connection: sqlite3.Connection, kinds: Kinds, path: str) -> None:
    """Make the tables of the declared kinds; StoreUnusable where one exists with other ids."""
    known = {row[0]: row[1:] for row in connection.execute("SELECT * FROM kind")}
    for kind in kinds:
        declared = (kind.source, kind.target, int(kind.unique), int(kind.exclusive))
        if kind.name in known and known[kind.name] != declared:
            raise StoreUnusable(
                f"Kind {kind.name} is stored in {path} with (source, target, unique, exclusive) = "
                f"{known[kind.name]}, but declared as {declared}; nothing was changed. Declare it as "
                "stored, or choose another name."
            )
    with transaction(connection):
        for kind in kinds:
            connection.execute(
                "INSERT INTO kind VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (kind.name, kind.source, kind.target, kind.unique, kind.exclusive),
            )
            if kind.unique:
                _make_edge_table(connection, kind)


def _make_edge_table(connection: sqlite3.Connection, kind: Kind) -> None:
    table = f"edge_{kind.name}"  # the name has passed Kind.check
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {table} ("
        f"target {_SQL_TYPE[kind.target]} NOT NULL, source {_SQL_TYPE[kind.source]} NOT NULL, "
        "created_ms INTEGER NOT NULL, value INTEGER, data TEXT, expires_ms INTEGER, "
        "PRIMARY KEY (target, source)) STRICT, WITHOUT ROWID"
    )
    columns = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
    if "expires_ms" not in columns:  # made by an earlier version
        connection.execute(f"ALTER TABLE {table} ADD COLUMN expires_ms INTEGER")
    connection.execute(
        f"CREATE INDEX IF NOT EXISTS {table}_newest ON {table} (target, created_ms, source)"
    )
    if kind.inverse:
        connection.execute(
            f"CREATE INDEX IF NOT EXISTS {table}_inverse ON {table} (source, created_ms, target)"
        )
    if kind.exclusive:
        connection.execute(
            f"CREATE UNIQUE INDEX IF NOT EXISTS {table}_exclusive ON {table} (target)"
        )
        connection.execute(
            f"CREATE INDEX IF NOT EXISTS {table}_expires ON {table} (expires_ms) "
            "WHERE expires_ms IS NOT NULL"
        )
