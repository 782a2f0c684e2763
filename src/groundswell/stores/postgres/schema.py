"""The schema: migrations, the tables of the declared kinds, and whether a database is fit for use."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from importlib import resources
from typing import Final, Literal, NamedTuple

import psycopg
from psycopg import sql

from groundswell.errors import StoreUnusable
from groundswell.kinds import Kind, Kinds, bucket
from groundswell.stores.postgres import citus
from groundswell.stores.postgres.errors import translated
from groundswell.stores.postgres.queues import Queue
from groundswell.stores.postgres.server import Connection, Server

SQL_TYPE: Final = {"int": "bigint", "uuid": "uuid", "text": 'text COLLATE "C"'}
PGQ_MIN: Final = (3, 5)
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('groundswell.migrate', 0))"


def migrations(queue: Queue) -> list[str]:
    """The numbered scripts, in order; the schema's version is how many of them have run."""
    folder = resources.files("groundswell.stores.postgres") / "sql"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    mine = [name for name in names if name.count(".") == 1 or name.endswith(f".{queue}.sql")]
    return [(folder / name).read_text("utf-8") for name in mine]


async def migrate(
    url: str,
    kinds: Kinds,
    *,
    queue: Literal["auto", "pgq", "outbox"] = "auto",
    distributed: Literal["", "citus"] = "",
) -> tuple[int, int]:
    """Bring the database to this program's schema, with the tables of `kinds`; versions before and after.

    Safe to call at any time, from any number of processes. Raises StoreUnusable, and changes nothing, for
    a newer schema, kinds declared otherwise, another queue than the store has, a store that is to be
    distributed and was not made so, or missing rights.
    """
    server = Server(url, connections=1)
    try:
        await server.open()

        async def work(connection: Connection) -> tuple[int, int]:
            async with connection.transaction():
                await connection.execute("SET LOCAL statement_timeout = 0")
                await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                await connection.execute(_LOCK)
                versions = await _migrate(connection, kinds, queue, distributed)
                if await citus.is_distributed(connection):
                    await citus.distribute(connection, kinds)
                return versions

        return await server.run("The store was not migrated", work)
    finally:
        await server.close()


async def _migrate(
    connection: Connection,
    kinds: Kinds,
    wanted: Literal["auto", "pgq", "outbox"],
    distributed: Literal["", "citus"],
) -> tuple[int, int]:
    before, standing = await _stands(connection)
    if distributed:
        await _refuse_citus(connection, before)
    if standing is None:
        queue = await _choose(connection, wanted)
        if queue == "pgq":
            await _install_pgq(connection)
    elif wanted not in ("auto", standing):
        raise StoreUnusable(
            f"This store's queue is {standing}, the settings say {wanted}; nothing was changed. Set "
            f'queue = "{standing}" or "auto": a store keeps the queue it was made with.'
        )
    else:
        queue = standing
    scripts = migrations(queue)
    _refuse_newer(before, len(scripts))
    if not before:
        await _make_schema(connection)
    else:
        await _refuse_stranded(connection)
    for script in scripts[before:]:
        await connection.execute(script.encode())
    if not before:
        await connection.execute(
            "INSERT INTO groundswell.identity VALUES (%s, %s)", (secrets.token_hex(8), queue)
        )
        if distributed:
            await citus.make(connection)
    comment = sql.SQL("COMMENT ON SCHEMA groundswell IS {}").format(f"version {len(scripts)}")
    await connection.execute(comment)
    await _declare(connection, kinds)
    return before, len(scripts)


async def _stands(connection: Connection) -> tuple[int, Queue | None]:
    """The schema's version (0: there is none) and the store's queue."""
    cursor = await connection.execute(
        "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = 'groundswell'"
    )
    row = await cursor.fetchone()
    said = re.fullmatch(r"version (\d+)", "" if row is None else row[0] or "")
    if said is None:
        return 0, None
    cursor = await connection.execute("SELECT queue FROM groundswell.identity")
    found = await cursor.fetchone()
    return int(said[1]), found[0] if found else None


async def _make_schema(connection: Connection) -> None:
    """Make it, unless there is an empty one, made for a user who may make none."""
    cursor = await connection.execute(
        """
        SELECT EXISTS (SELECT FROM pg_class WHERE relnamespace = n.oid)
            OR EXISTS (SELECT FROM pg_proc WHERE pronamespace = n.oid)
        FROM pg_namespace AS n WHERE nspname = 'groundswell'
        """
    )
    row = await cursor.fetchone()
    if row is None:
        await connection.execute("CREATE SCHEMA groundswell")
    elif row[0]:
        raise StoreUnusable(
            "The database has a schema groundswell that is no store's (its comment would say which "
            "version); nothing was changed. Use another database."
        )


async def _refuse_stranded(connection: Connection) -> None:
    """Refuse what a dump has brought from a server that was further on: its past is the future here.

    Events of both times could not be told apart, and the counts would be wrong without a word.
    """
    cursor = await connection.execute(
        """
        SELECT max(needed), max(groundswell.xmax(pg_current_snapshot()))
        FROM (
            (SELECT groundswell.xmax(snapshot) AS needed FROM groundswell.rollup
             ORDER BY number DESC LIMIT 1)
            UNION ALL
            SELECT xid + 1 FROM groundswell.event
            WHERE xid >= groundswell.xmax(pg_current_snapshot())
        ) AS known
        WHERE NOT pg_is_in_recovery()
        """
    )
    row = await cursor.fetchone()
    if row and row[0] is not None and row[0] > row[1]:
        raise StoreUnusable(
            f"The store knows of transactions up to {row[0]}, this server has come to {row[1]}: it was "
            "restored from a dump of another one. Nothing was changed. Let the server catch up, as "
            "docs/deploy.md says, or restore a physical copy."
        )


def _refuse_newer(version: int, known: int) -> None:
    if version > known:
        raise StoreUnusable(
            f"The store has schema version {version}, this program knows {known}; nothing was changed. "
            "Install the newer Groundswell."
        )


async def _refuse_citus(connection: Connection, version: int) -> None:
    """Refuse a server that cannot distribute, and a store that was made without."""
    await citus.require(connection)
    if version and not await citus.is_distributed(connection):
        raise StoreUnusable(
            'This store was made without distributed = "citus"; nothing was changed. Leave the setting '
            "out, or copy what is in the store into a new one: a store stays as it was made."
        )


async def _choose(connection: Connection, wanted: Literal["auto", "pgq", "outbox"]) -> Queue:
    if wanted != "auto":
        return wanted
    cursor = await connection.execute(
        """
        SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'pgq')
               AND EXISTS (SELECT FROM pg_roles WHERE rolname = 'pgq_admin')
               AND pg_has_role('pgq_admin', 'USAGE')
            OR EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pgq')
               AND (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
        """
    )
    row = await cursor.fetchone()
    return "pgq" if row and row[0] else "outbox"


async def _install_pgq(connection: Connection) -> None:
    cursor = await connection.execute(
        "SELECT default_version, installed_version FROM pg_available_extensions WHERE name = 'pgq'"
    )
    row = await cursor.fetchone()
    if row is None:
        raise StoreUnusable(
            "The server has no PgQ extension; nothing was changed. Install it (on Debian the package "
            f'postgresql-{connection.info.server_version // 10_000}-pgq3), or set queue = "outbox".'
        )
    version = row[1] or row[0]
    if tuple(int(part) for part in version.split(".")[:2]) < PGQ_MIN:
        need = ".".join(map(str, PGQ_MIN))
        raise StoreUnusable(
            f"The server's PgQ is {version}; {need} or newer is needed; nothing was changed. Update it "
            '(ALTER EXTENSION pgq UPDATE), or set queue = "outbox".'
        )
    try:
        if row[1] is None:
            await connection.execute("CREATE EXTENSION pgq")
        await connection.execute("SELECT pgq.create_queue('groundswell')")
    except psycopg.errors.InsufficientPrivilege as error:
        raise StoreUnusable(
            "This user may not use PgQ; nothing was changed. Let a superuser run CREATE EXTENSION pgq and "
            'GRANT pgq_admin TO the user, or set queue = "outbox".'
        ) from error


async def _declare(connection: Connection, kinds: Kinds) -> None:
    await _refuse_contradictions(connection, kinds)
    for kind in kinds:
        await connection.execute(
            "INSERT INTO groundswell.kind VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (kind.name, kind.source, kind.target, kind.unique, kind.exclusive),
        )
        await connection.cursor().executemany(  # what the rollup has to know of their targets
            "INSERT INTO groundswell.kind VALUES (%s, %s, %s, false, false) ON CONFLICT DO NOTHING",
            [(name, kind.source, kind.target) for name in _buckets(kind)],
        )
        if kind.unique:
            for statement in _edge_table(kind):
                await connection.execute(statement.encode())


def _buckets(kind: Kind) -> list[str]:
    return [bucket(kind.name, value) for value in kind.value.buckets] if kind.value else []


def _edge_table(kind: Kind) -> Iterable[str]:
    name = f"edge_{kind.name}"  # the name has passed Kind.check
    yield (
        f"CREATE TABLE IF NOT EXISTS groundswell.{name} ("
        f"target {SQL_TYPE[kind.target]} NOT NULL, source {SQL_TYPE[kind.source]} NOT NULL, "
        "created_at timestamptz NOT NULL, value bigint, data json, expires_at timestamptz, "
        "PRIMARY KEY (target, source))"
    )
    yield (  # a table of an earlier version; the lock is taken only then
        f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_attribute WHERE attname = 'expires_at' "
        f"AND attrelid = 'groundswell.{name}'::regclass) "
        f"THEN ALTER TABLE groundswell.{name} ADD COLUMN expires_at timestamptz; END IF; END $$"
    )
    yield (
        f"CREATE INDEX IF NOT EXISTS {name}_newest ON groundswell.{name} (target, created_at, source)"
    )
    if kind.inverse:
        yield (
            f"CREATE INDEX IF NOT EXISTS {name}_inverse "
            f"ON groundswell.{name} (source, created_at, target)"
        )
    if kind.exclusive:
        yield f"CREATE UNIQUE INDEX IF NOT EXISTS {name}_exclusive ON groundswell.{name} (target)"
        yield (
            f"CREATE INDEX IF NOT EXISTS {name}_expires ON groundswell.{name} (expires_at) "
            "WHERE expires_at IS NOT NULL"
        )


async def _known(connection: Connection) -> dict[str, tuple[str, str, bool, bool]]:
    cursor = await connection.execute(
        "SELECT name, source, target, is_unique, is_exclusive FROM groundswell.kind"
    )
    return {name: tuple(rest) async for name, *rest in cursor}


async def _refuse_contradictions(connection: Connection, kinds: Kinds) -> None:
    known = await _known(connection)
    for kind in kinds:
        declared = (kind.source, kind.target, kind.unique, kind.exclusive)
        if known.get(kind.name, declared) != declared:
            raise StoreUnusable(
                f"Kind {kind.name} is stored as (source, target, unique, exclusive) = "
                f"{known[kind.name]}, but declared as {declared}; nothing was changed. Declare it as "
                "stored, or choose another name."
            )


class Made(NamedTuple):
    """What a store is for good."""

    identity: str
    queue: Queue
    distributed: bool


async def check(connection: Connection, kinds: Kinds) -> Made:
    """What the store is, where the schema is this program's and knows all `kinds`.

    Raises StoreUnusable with what to do where it is not. The identity covers cluster and database: a copy
    of the database is another store, since transaction ids go their own way there.
    """
    with translated("The store cannot be opened"):
        version, queue = await _stands(connection)
        if queue is None:
            raise StoreUnusable(
                "The database holds no Groundswell store yet; nothing was changed. Run `groundswell "
                "migrate` first."
            )
        known = len(migrations(queue))
        _refuse_newer(version, known)
        if version < known:
            raise StoreUnusable(
                f"The store has schema version {version}, this program needs {known}; nothing was changed. "
                "Run `groundswell migrate` first."
            )
        await _refuse_stranded(connection)
        await _refuse_contradictions(connection, kinds)
        stored = await _known(connection)
        names = [name for kind in kinds for name in (kind.name, *_buckets(kind))]
        missing = [name for name in names if name not in stored]
        if missing:
            raise StoreUnusable(
                f"The store does not know {', '.join(missing)} yet; nothing was changed. Run "
                "`groundswell migrate` first."
            )
        distributed = await citus.is_distributed(connection)
        if distributed:
            await citus.check(connection, kinds)
        cursor = await connection.execute(
            """
            SELECT left(md5(concat_ws('-', store, system_identifier, oid)), 16)
            FROM groundswell.identity, pg_control_system(), pg_database WHERE datname = current_database()
            """
        )
        row = await cursor.fetchone()
        assert row is not None  # noqa: S101 - the migration wrote it
        return Made(row[0], queue, distributed)
