"""Locks, timeouts, connections and rights that run out under an open store: a call fails whole, or not."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import psycopg
import pytest

import nodes
from clusters import Cluster
from groundswell.errors import StoreUnavailable, StoreUnusable
from groundswell.model import Add, Put, Remove, Write
from groundswell.store import Batch, Changed, Committed
from groundswell.stores.postgres import PostgresStore, migrate, server
from groundswell.testing.base import check_settled, json
from pg_nodes import KINDS, locked, migrated, on_both_queues, rows, serving, shows

pytestmark = pytest.mark.anyio

T = TypeVar("T")

# All that is stored in the tables of a store.
STORED = """
    SELECT relname, query_to_xml('SELECT * FROM ' || oid::regclass, true, false, '')::text
    FROM pg_class WHERE relnamespace = 'groundswell'::regnamespace AND relkind IN ('r', 'v')
        AND relname NOT IN ('state', 'rollup')
"""

# Of each way in which a commit is made: what it does before it meets the table on which it waits, and that.
WRITES: dict[str, tuple[str, list[Write]]] = {
    "one statement": ("edge_like", [Add("like", 1, 1)]),
    "a statement per kind": ("edge_like", [Add("follow", 1, 1), Remove("like", 2, 2)]),
    "planned": ("edge_seat", [Add("review", 1, 1, 5), Add("seat", "1A", 1)]),
    "planned, an object last": ("object", [Add("review", 1, 1, 5), Put("a", "note", json())]),
}


def bounded(url: str, **settings: int) -> str:
    """The URL with settings for its sessions."""
    options = "%20".join(f"-c%20{name}%3D{value}" for name, value in settings.items())
    return f"{url}?options={options}"


@contextlib.asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[PostgresStore]:
    store = await until_it_works(partial(PostgresStore.open, url, KINDS, idle_s=None, **options))
    try:
        yield store
    finally:
        await store.close()


@contextlib.contextmanager
def nothing_is_stored(url: str) -> Iterator[None]:
    before = rows(url, STORED)
    yield
    assert rows(url, STORED) == before


async def like(store: PostgresStore, source: int) -> Committed:
    [committed] = await store.commit([Batch((Add("like", 1, source),))])
    return committed


async def until_it_works(call: Callable[[], Awaitable[T]]) -> T:
    """What the call returns, as soon as the store takes it: a busy machine may exceed any timeout."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(StoreUnavailable):
                return await call()
            await asyncio.sleep(0.05)


# --- timeouts -------------------------------------------------------------------------------------


@on_both_queues
@pytest.mark.parametrize("way", WRITES)
@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("lock_timeout", "due to lock timeout. Nothing of it was changed. Another session holds"),
        (
            "statement_timeout",
            "due to statement timeout. Nothing of it was changed. It took longer",
        ),
    ],
    ids=["lock", "statement"],
)
async def test_a_write_that_waits_too_long_is_not_half_done(
    cluster: Cluster, queue: str, way: str, setting: str, said: str
) -> None:
    url = await migrated(cluster, queue)
    table, writes = WRITES[way]
    async with opened(bounded(url, **{setting: 200})) as store:
        await until_it_works(partial(store.commit, [Batch((Add("like", 2, 2),))]))
        with nothing_is_stored(url):
            with locked(url, table), pytest.raises(StoreUnavailable) as caught:
                await store.commit([Batch(tuple(writes))])
            assert caught.value.detail.startswith("The write was not acknowledged: canceling")
            assert said in caught.value.detail

        [committed] = await until_it_works(partial(store.commit, [Batch(tuple(writes))]))
        assert all(getattr(outcome, "changed", False) for outcome in committed.outcomes)
    async with opened(url) as store:
        await check_settled(store, [("like", 2), ("follow", 1), ("review", 1), ("seat", "1A")])


@on_both_queues
async def test_a_rollup_that_waits_too_long_folds_nothing_and_later_all(
    cluster: Cluster, queue: str
) -> None:
    url = await migrated(cluster, queue)
    async with opened(bounded(url, lock_timeout=200)) as store:
        await like(store, 1)
        for held in ("counter", "rollup"):
            refused = pytest.raises(StoreUnavailable, match="The rollup was not made: canceling")
            with nothing_is_stored(url), locked(url, held), refused:
                await store.rollup(100)
        await check_settled(store, [("like", 1)])


async def test_a_read_that_waits_too_long(cluster: Cluster) -> None:
    url = await migrated(cluster, "outbox")
    async with opened(bounded(url, statement_timeout=200)) as store:
        with locked(url, "edge_like"), pytest.raises(StoreUnavailable) as caught:
            await store.edge("like", 1, 1)
        assert caught.value.detail.startswith("Reading from the store failed: canceling statement")
        assert "statement_timeout" in caught.value.detail
        assert (await until_it_works(partial(store.edge, "like", 1, 1)))[0] is None


# --- connections ----------------------------------------------------------------------------------


async def test_calls_beyond_the_connections_fail_and_the_others_are_done(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = await migrated(cluster, "outbox")
    monkeypatch.setattr(server, "BUSY_S", 1.5)
    patient = bounded(url, lock_timeout=60_000, statement_timeout=60_000)
    async with opened(patient, connections=2) as store:
        with locked(url, "edge_like"):
            waiting = [asyncio.create_task(like(store, source)) for source in (1, 2)]
            held = "SELECT FROM pg_locks WHERE relation = 'groundswell.edge_like'::regclass"
            async with asyncio.timeout(60):
                while len(rows(url, f"{held} AND NOT granted")) < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            with pytest.raises(StoreUnavailable) as caught:
                await like(store, 3)
            assert "no connection to PostgreSQL became free" in caught.value.detail
            assert "Nothing was changed" in caught.value.detail
            assert "raise `connections`" in caught.value.detail
            with pytest.raises(StoreUnavailable, match="Reading from the store failed: no conn"):
                await store.counters([("like", 1)])
        for one in await asyncio.gather(*waiting):
            assert one.outcomes == (Changed(True),)
        assert (await like(store, 4)).outcomes == (Changed(True),)
        assert (await store.recount("like", 1)).count == 3
        await check_settled(store, [("like", 1)])


@pytest.fixture
def someone(cluster: Cluster) -> Iterator[str]:
    """A user who is no superuser."""
    cluster.execute(f"CREATE ROLE anyone LOGIN PASSWORD '{cluster.password}'")
    yield "anyone"
    cluster.execute("DROP ROLE anyone")


@pytest.fixture
async def owned(cluster: Cluster, database: str, someone: str) -> AsyncIterator[str]:
    """The URL of a store that this user has made."""
    rows(database, f"CREATE SCHEMA groundswell AUTHORIZATION {someone}")
    url = cluster.url(urlsplit(database).path[1:], user=someone)
    await migrate(url, KINDS, queue="outbox")
    yield url
    rows(database, f"DROP OWNED BY {someone} CASCADE")


async def test_a_server_that_gives_no_more_connections(
    cluster: Cluster, owned: str, someone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is enough to be opened, and to be watched; there is none left for the calls."""
    monkeypatch.setattr(server, "BUSY_S", 1.5)
    cluster.execute(f"ALTER ROLE {someone} CONNECTION LIMIT 1")
    async with opened(owned, connections=2) as store:
        with pytest.raises(StoreUnavailable) as caught:
            await like(store, 1)
        assert "no connection to PostgreSQL became free" in caught.value.detail
        assert "the server's limit" in caught.value.detail
        cluster.execute(f"ALTER ROLE {someone} CONNECTION LIMIT -1")
        await until_it_works(partial(like, store, 1))
        await check_settled(store, [("like", 1)])


@pytest.mark.parametrize("by", ["postgres", "anyone"])
async def test_a_server_that_is_full(cluster: Cluster, by: str) -> None:
    """All of its connections are taken: the ones for superusers too, or only the others."""
    with Cluster(
        cluster.installation,
        settings={"max_connections": 8, "superuser_reserved_connections": 3, "max_wal_senders": 2},
        in_memory=True,
    ) as small:
        small.execute(f"CREATE ROLE anyone LOGIN PASSWORD '{small.password}'")
        url = small.url(user=by)
        with contextlib.ExitStack() as held:
            free = 8 if by == "postgres" else 5
            while free:  # of the connection before, which may not have ended yet
                with contextlib.suppress(psycopg.OperationalError):
                    held.enter_context(psycopg.connect(url))
                    free -= 1
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(url)
            for attempt in (PostgresStore.open, migrate):
                with pytest.raises(StoreUnavailable) as caught:
                    await attempt(url, KINDS)
                assert "lower `connections`, or raise its limit" in caught.value.detail
                assert "Nothing was changed" in caught.value.detail


# --- rights, and the schema -----------------------------------------------------------------------


async def test_rights_that_are_taken_away_and_given_back(database: str, owned: str) -> None:
    async with opened(owned) as store:
        await like(store, 1)
        rows(database, "ALTER TABLE groundswell.edge_like OWNER TO postgres")
        with nothing_is_stored(database), pytest.raises(StoreUnusable) as caught:
            await store.commit([Batch((Add("follow", 1, 1), Add("like", 1, 2)))])
        assert "permission denied for table edge_like. Nothing was changed. Grant" in str(
            caught.value
        )
        rows(database, "ALTER TABLE groundswell.edge_like OWNER TO anyone")
        await like(store, 3)
        await check_settled(store, [("like", 1), ("follow", 1)])


async def test_a_schema_that_is_away_and_comes_back(database: str) -> None:
    await migrate(database, KINDS, queue="outbox")
    async with opened(database) as store:
        await like(store, 1)
        rows(database, "ALTER SCHEMA groundswell RENAME TO gone")
        with pytest.raises(StoreUnusable, match="`groundswell migrate` first"):
            await like(store, 2)
        rows(database, "ALTER SCHEMA gone RENAME TO groundswell")
        await like(store, 3)
        await check_settled(store, [("like", 1)])


# --- a node ---------------------------------------------------------------------------------------


def test_a_node_says_what_is_wrong_and_goes_on(
    cluster: Cluster, database: str, tmp_path: Path
) -> None:
    """A lock and a timeout; then every connection is cut while no new one is let in."""
    nodes.command(tmp_path, "migrate", "--store", database)
    url = bounded(database, lock_timeout=300)
    name = urlsplit(database).path[1:]
    with serving(tmp_path, "node", url, log_level="debug") as node:
        assert node.request("PUT", "/v1/edges/like/1/1").status == 200
        nodes.until(lambda: shows(node, 1, 1), "a replica counts 1")
        with locked(database, "edge_like"):
            found = nodes.problem(
                node.request("PUT", "/v1/edges/like/1/2"), 503, "store-unavailable"
            )
            assert "Nothing of it was changed" in found["detail"]
            assert shows(node, 1, 1)
            assert node.request("GET", "/healthz").status == 200
        assert node.request("PUT", "/v1/edges/like/1/3").json == {"changed": True}
        nodes.until(lambda: shows(node, 1, 2), "a replica counts 2")

        cluster.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        cluster.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        )
        answer = node.request("PUT", "/v1/edges/like/1/4")
        found = nodes.problem(answer, 503, "store-unavailable")
        assert shows(node, 1, 2)
        cluster.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        deadline_s = time.monotonic() + nodes.START_S
        while (answer := node.request("PUT", "/v1/edges/like/1/5")).status != 200:
            assert time.monotonic() < deadline_s, (answer, node.output())
            time.sleep(0.05)
        assert node.count("like", 1) == len(node.sources("like", 1)) >= 3
        assert cluster.password not in node.output()
        assert node.terminate() == 0
        assert cluster.password not in node.output()
