"""Puts a system together from settings: the only file that names concrete stores and replicas.

What brings a library of its own, as PostgreSQL's store does, is imported where it is chosen: processes
that do without start the sooner.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from groundswell import config
from groundswell.client import HttpApi
from groundswell.config import Settings
from groundswell.errors import BadSettings
from groundswell.node import Node, Tuning
from groundswell.replica import Replica
from groundswell.replicas.memory import MemoryReplica
from groundswell.server.app import App
from groundswell.server.auth import Keys
from groundswell.server.routes import Endpoint
from groundswell.session import Groundswell
from groundswell.store import Source, Store
from groundswell.stores import sqlite
from groundswell.stores.memory import MemoryStore
from groundswell.transport import TIMEOUT_S


@runtime_checkable
class Listening(Protocol):
    """A store that is told of the rollups of other nodes."""

    def listen(self, heard: Callable[[], None]) -> None:
        """Call `heard` soon after one; a hint, which may be lost."""


async def open_store(settings: Settings) -> Store:
    """The store that the settings name, open; SQLite's migrated, for it is ours alone."""
    kinds = settings.declared()
    match config.split(settings.store).scheme:
        case "sqlite":
            return await sqlite.SqliteStore.open(
                config.sqlite_path(settings.store), kinds, rollups_kept=settings.rollups_kept
            )
        case "memory":
            return MemoryStore(kinds, rollups_kept=settings.rollups_kept)
        case "postgresql" | "postgres":
            from groundswell.stores.postgres import PostgresStore

            return await PostgresStore.open(
                settings.store,
                kinds,
                connections=settings.connections,
                rollups_kept=settings.rollups_kept,
            )
        case scheme:
            raise _unknown(scheme, settings.store)


async def open_standby(settings: Settings, store: Store) -> Source | None:
    """The standby of the open store, if the settings name one."""
    if not settings.standby:
        return None
    from groundswell.stores.postgres import PostgresStandby, PostgresStore

    if not isinstance(store, PostgresStore):
        return None
    return await PostgresStandby.open(
        settings.standby, settings.declared(), store, connections=settings.connections
    )


async def migrate(settings: Settings) -> tuple[int, int]:
    """Bring the store's schema to this version; its version (before, after)."""
    match config.split(settings.store).scheme:
        case "sqlite":
            return sqlite.migrate(config.sqlite_path(settings.store))
        case "memory":
            return 0, 0
        case "postgresql" | "postgres":
            from groundswell.stores import postgres

            return await postgres.migrate(
                settings.store,
                settings.declared(),
                queue=settings.queue,
                distributed=settings.distributed,
            )
        case scheme:
            raise _unknown(scheme, settings.store)


def _unknown(scheme: str, url: str) -> BadSettings:
    return BadSettings(
        f"{config.redacted(url)}: no store is called {scheme!r}; there are sqlite:///file.db, "
        "postgresql://user@host/database and memory://."
    )


@contextlib.asynccontextmanager
async def node(settings: Settings) -> AsyncIterator[Node]:
    """A node at work; stopped at the end, with everything it accepted done."""
    store = await open_store(settings)
    try:
        standby = await open_standby(settings, store)
    except BaseException:
        await store.close()
        raise
    replicas: list[tuple[Replica, float]] = [
        (MemoryReplica(_name(index), bytes_max=settings.replica_mib * 2**20), delay_s)
        for index, delay_s in enumerate(settings.delays_s())
    ]
    tuning = Tuning(
        group_max=settings.group_max,
        queue_max=settings.queue_max,
        events_max=settings.events_max,
        rollup_pause_ms=settings.rollup_pause_ms,
        poll_ms=settings.poll_ms,
        wait_ms=settings.wait_ms,
        streams_max=settings.streams_max,
    )
    async with contextlib.AsyncExitStack() as stack:
        if settings.redis:
            replicas.append((_redis(stack, settings, store, standby), 0.0))
        made = Node(store, settings.declared(), replicas, tuning, standby=standby)
        stack.push_async_callback(made.stop)
        if isinstance(store, Listening):
            store.listen(made.rolled)
        await made.start()
        yield made


def _redis(
    stack: contextlib.AsyncExitStack, settings: Settings, store: Store, standby: Source | None
) -> Replica:
    """The replica in Redis, let go of with the stack."""
    from groundswell.replicas.redis import RedisReplica

    replica = RedisReplica(
        "redis", settings.redis, prefix=settings.redis_prefix, store=store, source=standby
    )
    stack.push_async_callback(replica.close)
    return replica


def _name(index: int) -> str:
    """replica-a, replica-b, .. as far as there are letters."""
    return f"replica-{chr(ord('a') + index) if index < 26 else index}"


def app(made: Node, settings: Settings, more: Sequence[Endpoint] = ()) -> App:
    """The HTTP application of a node, with more endpoints than those of every node."""
    return App(made, Keys([(key.sha256, key.scopes) for key in settings.keys]), more)


@contextlib.asynccontextmanager
async def open(
    url: str = "sqlite:///groundswell.db", **settings: Any
) -> AsyncIterator[Groundswell]:
    """A node in this process: nothing else to run.

    `settings` are those of the configuration, by name (`replicas=3`, `kinds={...}`); no file and no
    environment is read. Raises BadSettings or StoreUnusable.
    """
    made = config.load_only({"store": url, **settings})
    async with node(made) as running:
        yield Groundswell(running)


@contextlib.asynccontextmanager
async def connect(
    url: str, *, key: str | None = None, timeout_s: float = TIMEOUT_S
) -> AsyncIterator[Groundswell]:
    """A node behind HTTP, with the same interface; `key` is the API key, where one is needed.

    A call without an answer for `timeout_s` raises NodeUnreachable; allow more than a read's wait_ms.
    """
    from groundswell.transports.aiohttp import AiohttpTransport

    transport = AiohttpTransport(url, timeout_s=timeout_s)
    try:
        yield Groundswell(HttpApi(transport, key))
    finally:
        await transport.close()
