"""What is wrong with a server, a user, a database or the settings is said plainly, and harms nothing."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest

from clusters import Cluster, Installation, installations, missing
from groundswell.errors import BadSettings, GroundswellError, StoreUnavailable, StoreUnusable
from groundswell.kinds import BUILT_IN, Kind, Kinds
from groundswell.model import Add
from groundswell.store import Batch
from groundswell.stores.postgres import PostgresStandby, PostgresStore, migrate, schema
from groundswell.testing.base import check_settled
from pg_nodes import on_both_queues, rows

pytestmark = pytest.mark.anyio

KINDS = Kinds()
needs_pgq = pytest.mark.skipif(bool(missing(pgq=True)), reason=missing(pgq=True))

# Everything in the database that a migration could have made or changed.
CONTENTS = """
    SELECT 'schema', nspname, obj_description(oid, 'pg_namespace') FROM pg_namespace
    UNION ALL SELECT 'extension', extname, extversion FROM pg_extension
    UNION ALL SELECT 'relation', oid::regclass::text, relkind::text FROM pg_class
    UNION ALL SELECT 'function', oid::regprocedure::text, md5(prosrc) FROM pg_proc
    ORDER BY 1, 2
"""


@contextlib.asynccontextmanager
async def opened(url: str, kinds: Kinds = KINDS, **options: Any) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(url, kinds, idle_s=None, **options)
    try:
        yield store
    finally:
        await store.close()


async def refused(url: str, kinds: Kinds = KINDS) -> GroundswellError:
    """The error of opening the store, the same as that of migrating it."""
    with pytest.raises(GroundswellError) as opening:
        await PostgresStore.open(url, kinds)
    with pytest.raises(type(opening.value)) as migrating:
        await migrate(url, kinds)
    # Numbers may differ: other databases of the server use up transaction ids meanwhile.
    said = [re.sub(r"\d+", "n", str(error.value)) for error in (migrating, opening)]
    assert said[0] == said[1]
    return check(opening.value)


def check(error: GroundswellError) -> GroundswellError:
    """Whole sentences, one of which says that nothing was changed; and nobody has to guess why."""
    assert "othing" in error.detail, error
    assert error.detail.endswith((".", "?")), error
    assert "\n" not in error.detail
    return error


@contextlib.contextmanager
def unchanged(url: str) -> Iterator[None]:
    before = rows(url, CONTENTS)
    yield
    assert rows(url, CONTENTS) == before


@pytest.fixture(autouse=True)
async def nothing_is_left_at_work() -> AsyncIterator[None]:
    yield
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("postgres")]


@contextlib.contextmanager
def someone(cluster: Cluster, database: str, rights: str = "") -> Iterator[str]:
    """The URL of the database for a user who is no superuser, gone at the end with all that is theirs."""
    cluster.execute(f"CREATE ROLE someone LOGIN PASSWORD '{cluster.password}' {rights}")
    try:
        yield cluster.url(urlsplit(database).path[1:], user="someone")
    finally:
        rows(database, "DROP OWNED BY someone CASCADE")
        cluster.execute("DROP ROLE someone")


# --- reaching the server --------------------------------------------------------------------------


async def test_a_server_that_is_not_running() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as held:
        port = held.getsockname()[1]
    error = await refused(f"postgresql://me:secret@127.0.0.1:{port}/x")
    assert type(error) is StoreUnavailable
    assert f'"127.0.0.1", port {port} failed: Connection refused' in error.detail
    assert "Is the server running" in error.detail


async def test_a_server_that_accepts_and_never_answers() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as hole:
        url = f"postgresql://me:secret@127.0.0.1:{hole.getsockname()[1]}/x?connect_timeout=2"
        async with asyncio.timeout(60):
            error = await refused(url)
    assert type(error) is StoreUnavailable
    assert "connection timeout expired" in error.detail
    assert "Is the server running" in error.detail


async def test_a_host_that_has_no_address() -> None:
    error = await refused("postgresql://me:secret@no-such-host.invalid/x")
    assert type(error) is StoreUnavailable
    assert "failed to resolve host 'no-such-host.invalid'" in error.detail


async def test_a_database_that_is_not_there(cluster: Cluster) -> None:
    error = await refused(cluster.url("nowhere"))
    assert type(error) is StoreUnusable
    assert 'database "nowhere" does not exist' in error.detail
    assert "Create the database" in error.detail


@pytest.mark.parametrize(
    ("credentials", "said"),
    [
        ("postgres:mistaken", "password authentication failed"),
        ("postgres", "no password supplied"),
        ("stranger:mistaken", "password authentication failed"),
    ],
)
async def test_a_wrong_user_or_password(cluster: Cluster, credentials: str, said: str) -> None:
    error = await refused(f"postgresql://{credentials}@127.0.0.1:{cluster.port}/postgres")
    assert type(error) is StoreUnusable
    assert said in error.detail
    assert "user and password" in error.detail
    assert "mistaken" not in error.detail


async def test_a_user_who_may_not_connect(cluster: Cluster, database: str) -> None:
    name = urlsplit(database).path[1:]
    cluster.execute(f'REVOKE CONNECT ON DATABASE "{name}" FROM public')
    with someone(cluster, database) as url:
        error = await refused(url)
        cluster.execute("ALTER ROLE someone NOLOGIN")
        assert "not permitted to log in" in (await refused(url)).detail
    assert type(error) is StoreUnusable
    assert f'permission denied for database "{name}"' in error.detail
    assert "CONNECT" in error.detail


async def test_a_server_that_has_no_connection_left(cluster: Cluster, database: str) -> None:
    await migrate(database, KINDS)
    with someone(cluster, database, "CONNECTION LIMIT 0") as url:
        error = await refused(url)
    assert type(error) is StoreUnavailable
    assert 'too many connections for role "someone"' in error.detail
    assert "lower `connections`, or raise its limit" in error.detail


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:se cret@[bad/x",
        "postgresql://me:secret@host/x?connect_timeuot=1",
        "postgresql://me:se%zzcret@host/x",
        "postgresql://me:secret@host/x?password",
        "host=x password='secret",
        "host=x passwrd=secret",
    ],
)
async def test_a_url_that_cannot_be_read_is_not_repeated(url: str) -> None:
    for attempt in (PostgresStore.open, migrate):
        with pytest.raises(BadSettings) as caught:
            await attempt(url, KINDS)
        assert "write postgresql://user@host/database" in caught.value.detail
        assert "cret" not in caught.value.detail


# --- what is found there --------------------------------------------------------------------------


async def test_a_database_without_a_store(database: str) -> None:
    with unchanged(database), pytest.raises(StoreUnusable) as caught:
        await PostgresStore.open(database, KINDS)
    assert "no Groundswell store" in check(caught.value).detail
    assert "`groundswell migrate` first" in caught.value.detail


async def test_a_newer_schema(database: str) -> None:
    _, version = await migrate(database, KINDS)
    rows(database, f"COMMENT ON SCHEMA groundswell IS 'version {version + 1}'")
    with unchanged(database):
        error = await refused(database)
    assert type(error) is StoreUnusable
    assert f"version {version + 1}, this program knows {version}" in error.detail
    assert "Install the newer" in error.detail


async def test_an_older_schema(database: str) -> None:
    await migrate(database, KINDS)
    rows(database, "COMMENT ON SCHEMA groundswell IS 'version 1'")
    with unchanged(database), pytest.raises(StoreUnusable) as caught:
        await PostgresStore.open(database, KINDS)
    assert "schema version 1, this program needs" in check(caught.value).detail
    assert "`groundswell migrate` first" in caught.value.detail


@on_both_queues
async def test_a_store_of_an_older_schema_goes_on_after_migrating(
    database: str, queue: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what it has counted, and what waits to be."""
    scripts = schema.migrations(queue)
    with monkeypatch.context() as older:
        older.setattr(schema, "migrations", lambda queue: scripts[:4])
        await migrate(database, KINDS, queue=queue)
        async with opened(database) as store:
            await store.commit([Batch((Add("like", 1, 1),))])
            await store.rollup(10)
            await store.commit([Batch((Add("like", 1, 2), Add("like", 2, 1)))])
    assert await migrate(database, KINDS) == (4, len(scripts))
    async with opened(database) as store:
        await check_settled(store, [("like", 1), ("like", 2)])


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE groundswell.rollup SET snapshot = '123456789:123456789:'",
        "INSERT INTO groundswell.event (xid, seen, type) VALUES (123456788, '3:3:', 'count')",
    ],
    ids=["rolled up", "queued"],
)
async def test_a_dump_of_a_server_that_was_further_on(database: str, sql: str) -> None:
    await migrate(database, KINDS, queue="outbox")
    rows(database, sql)
    with unchanged(database):
        error = await refused(database)
    assert type(error) is StoreUnusable
    assert "knows of transactions up to 123456789, this server has come to" in error.detail
    assert "Let the server catch up" in error.detail


@pytest.mark.parametrize("comment", ["NULL", "'version of 1999'"])
async def test_the_schema_of_another_program(database: str, comment: str) -> None:
    rows(database, "CREATE SCHEMA groundswell")
    rows(database, "CREATE TABLE groundswell.identity (wave text)")
    rows(database, f"COMMENT ON SCHEMA groundswell IS {comment}")
    with unchanged(database), pytest.raises(StoreUnusable) as caught:
        await migrate(database, KINDS)
    assert "a schema groundswell that is no store's" in check(caught.value).detail


async def test_a_kind_that_is_not_migrated_yet(database: str) -> None:
    await migrate(database, KINDS)
    more = Kinds([*BUILT_IN, Kind(name="clap"), Kind(name="boo")])
    with unchanged(database), pytest.raises(StoreUnusable) as caught:
        await PostgresStore.open(database, more)
    assert "does not know clap, boo yet" in check(caught.value).detail
    await migrate(database, more)
    async with opened(database, more):
        pass


@pytest.mark.parametrize(
    "other",
    [
        Kind(name="like", target="text"),
        Kind(name="like", source="uuid"),
        Kind(name="like", unique=False),
        Kind(name="like", exclusive=True),
    ],
)
async def test_a_kind_that_is_declared_otherwise(database: str, other: Kind) -> None:
    await migrate(database, KINDS)
    with unchanged(database):
        error = await refused(database, Kinds([other]))
    assert type(error) is StoreUnusable
    assert "Kind like is stored as" in error.detail
    assert "Declare it as stored" in error.detail


async def test_an_encoding_that_cannot_hold_every_id(cluster: Cluster) -> None:
    cluster.execute("CREATE DATABASE bytes ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    try:
        with unchanged(cluster.url("bytes")), pytest.raises(StoreUnusable, match="UTF8"):
            await migrate(cluster.url("bytes"), KINDS)
    finally:
        cluster.drop_database("bytes")


# --- the queue ------------------------------------------------------------------------------------


@needs_pgq
@pytest.mark.parametrize(("has", "wanted"), [("pgq", "outbox"), ("outbox", "pgq")])
async def test_another_queue_than_the_store_has(database: str, has: Any, wanted: Any) -> None:
    await migrate(database, KINDS, queue=has)
    with unchanged(database), pytest.raises(StoreUnusable) as caught:
        await migrate(database, KINDS, queue=wanted)
    assert f"queue is {has}, the settings say {wanted}" in check(caught.value).detail
    assert f'queue = "{has}"' in caught.value.detail
    await migrate(database, KINDS)


def without_pgq() -> list[Any]:
    found = [pytest.param(i, id=str(i)) for i in installations() if not i.pgq]
    reason = missing() or "every PostgreSQL here has PgQ"
    return found[:1] or [pytest.param(None, marks=pytest.mark.skip(reason), id="none")]


@pytest.mark.parametrize("installation", without_pgq(), indirect=True)
async def test_a_server_without_pgq(installation: Installation, database: str) -> None:
    with unchanged(database), pytest.raises(StoreUnusable) as caught:
        await migrate(database, KINDS, queue="pgq")
    assert "no PgQ extension" in check(caught.value).detail
    assert f"postgresql-{installation.major}-pgq3" in caught.value.detail
    assert 'queue = "outbox"' in caught.value.detail
    await migrate(database, KINDS)
    async with opened(database) as store:
        assert store.queue == "outbox"


@needs_pgq
async def test_a_pgq_that_is_too_old(database: str) -> None:
    rows(database, "CREATE EXTENSION pgq")
    rows(database, "UPDATE pg_extension SET extversion = '3.4.2' WHERE extname = 'pgq'")
    with unchanged(database), pytest.raises(StoreUnusable) as caught:
        await migrate(database, KINDS)
    assert "PgQ is 3.4.2; 3.5 or newer is needed" in check(caught.value).detail
    assert "ALTER EXTENSION pgq UPDATE" in caught.value.detail


@needs_pgq
async def test_a_user_who_may_not_use_pgq(cluster: Cluster, database: str) -> None:
    name = urlsplit(database).path[1:]
    with someone(cluster, database) as url:
        cluster.execute(f'GRANT CREATE ON DATABASE "{name}" TO someone')
        with unchanged(database), pytest.raises(StoreUnusable) as caught:
            await migrate(url, KINDS, queue="pgq")
        rows(database, "CREATE EXTENSION pgq")
        with unchanged(database), pytest.raises(StoreUnusable) as again:
            await migrate(url, KINDS, queue="pgq")
        assert "GRANT pgq_admin" in check(caught.value).detail
        assert str(caught.value) == str(again.value)

        rows(database, "GRANT pgq_admin TO someone")
        await migrate(url, KINDS, queue="pgq")
        async with opened(url) as store:
            [committed] = await store.commit([Batch((Add("like", 1, 1),))])
            assert committed.xid is not None
            assert await store.rollup(10) is not None


# --- rights ---------------------------------------------------------------------------------------


async def test_a_user_who_may_make_no_schema(cluster: Cluster, database: str) -> None:
    with someone(cluster, database) as url:
        with unchanged(database), pytest.raises(StoreUnusable) as caught:
            await migrate(url, KINDS)
        assert "permission denied for database" in check(caught.value).detail
        assert "CREATE on the database" in caught.value.detail

        rows(database, "CREATE SCHEMA groundswell AUTHORIZATION someone")
        await migrate(url, KINDS, queue="outbox")
        async with opened(url) as store:
            await store.commit([Batch((Add("like", 1, 1),))])


async def test_a_user_without_rights_on_the_schema(cluster: Cluster, database: str) -> None:
    await migrate(database, KINDS)
    with someone(cluster, database) as url, unchanged(database):
        for attempt in (PostgresStore.open, migrate):
            with pytest.raises(StoreUnusable) as caught:
                await attempt(url, KINDS)
            assert "permission denied for schema groundswell" in check(caught.value).detail
            assert "ownership of schema groundswell" in caught.value.detail


# --- standbys -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(installation: Installation) -> Iterator[tuple[Cluster, Cluster]]:
    """A primary with a store in `one` and another in `two`, and a standby that shows both."""
    with Cluster(installation, in_memory=True) as primary, primary.standby() as standby:
        for name in ("one", "two"):
            primary.create_database(name)
            asyncio.run(migrate(primary.url(name), KINDS, queue="outbox"))
        standby.catch_up()
        yield primary, standby


async def test_a_standby_where_the_primary_is_needed(pair: tuple[Cluster, Cluster]) -> None:
    _, standby = pair
    for attempt in (PostgresStore.open, migrate):
        with pytest.raises(StoreUnusable) as caught:
            await attempt(standby.url("one"), KINDS)
        assert "`store` names a standby, which takes no writes" in caught.value.detail
        assert "under `standby`" in caught.value.detail


async def test_hosts_of_which_none_takes_writes(pair: tuple[Cluster, Cluster]) -> None:
    _, standby = pair
    with pytest.raises(StoreUnavailable) as caught:
        await PostgresStore.open(standby.url("one") + "?target_session_attrs=read-write", KINDS)
    assert "is a failover under way" in check(caught.value).detail


async def test_the_standby_of_another_store(pair: tuple[Cluster, Cluster]) -> None:
    primary, standby = pair
    async with opened(primary.url("one")) as store:
        with pytest.raises(StoreUnusable, match="belongs to another store"):
            await PostgresStandby.open(standby.url("two"), KINDS, store, connections=2)
        with pytest.raises(StoreUnusable, match="user and password"):
            url = standby.url("one").replace(standby.password, "mistaken")
            await PostgresStandby.open(url, KINDS, store, connections=2)


async def test_a_standby_that_is_away_is_waited_for(
    pair: tuple[Cluster, Cluster], caplog: pytest.LogCaptureFixture
) -> None:
    primary, standby = pair
    async with opened(primary.url("one")) as store:
        standby.stop()
        try:
            source = await PostgresStandby.open(standby.url("one"), KINDS, store, connections=2)
            try:
                assert "The standby cannot be reached" in caplog.text
                assert await source.counters([("like", 1)]) is not None  # from the primary
                with pytest.raises(StoreUnavailable, match="standby"):
                    await source.edge("like", 1, 1)
                standby.start()
                async with asyncio.timeout(60):
                    while True:
                        with contextlib.suppress(StoreUnavailable):
                            assert (await source.edge("like", 1, 1))[0] is None
                            break
                        await asyncio.sleep(0.05)
            finally:
                await source.close()
        finally:
            if not standby.processes():
                standby.start()
