"""What is compared: Groundswell, and its peers, each started on a store of its own."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from groundswell.bench.cost import family
from groundswell.bench.servers import HOST, Databases, listening, redis, rows
from groundswell.demo import child
from groundswell.processes import end_with_parent
from groundswell.server.run import free_port

STOP_S: Final = 10.0
CHECKED: Final = (901, 902)  # posts that no load is about
LISTED: Final = "CREATE INDEX ON likes (post_id, created_at DESC, user_id DESC);"


class Tuning(NamedTuple):
    """What the users of a peer would try."""

    pool: int = 8  # connections, of each process
    workers: int = 1  # processes


class Running(NamedTuple):
    """A system at work."""

    url: str
    program: Callable[[], list[int]]  # its processes; Redis is one of them
    database: Callable[[], list[int]]  # those of PostgreSQL
    bytes_used: Callable[[], int]  # of its store, on disk
    edges: Callable[[], Mapping[int, int]]  # by post, as they are stored; not asked of the system
    store: str


class System(NamedTuple):
    """One that can be started; `note` is what has to be known about it."""

    name: str
    note: str
    tried: Sequence[Tuning] = (Tuning(),)

    @contextlib.asynccontextmanager
    async def running(
        self,
        databases: Databases,
        tuning: Tuning | None = None,
        *,
        posts: Iterable[int] = (1,),
        lists: bool = False,
        arguments: Sequence[str] = (),
    ) -> AsyncIterator[Running]:
        """Start it on a new store that has these posts; `lists`: who did it last will be asked."""
        tuning = tuning or self.tried[0]
        if self.name == "groundswell":
            made: Any = _node(databases, arguments)
        elif self.name == "redis":
            made = _redis(tuning)
        else:
            made = _on_postgres(databases, self.name, tuning, posts, lists)
        async with made as running:
            yield running


POOLS: Final = (Tuning(8), Tuning(2), Tuning(4), Tuning(16))
FASTAPI: Final = (Tuning(8), Tuning(4), Tuning(4, 2), Tuning(16))

SYSTEMS: Final = {
    system.name: system
    for system in (
        System("groundswell", "one node with one replica, PostgreSQL; PgQ where it is installed"),
        System("scan", "SELECT count(*) for every read; asyncpg", POOLS),
        System("inline", "like and like_count + 1 in one transaction; asyncpg", POOLS),
        System("inline-cte", "the same in one statement; asyncpg", POOLS),
        System("inline-sqlalchemy", "the same transaction, FastAPI and SQLAlchemy", FASTAPI),
        System("slotted", "a hundred rows per counter; asyncpg", POOLS),
        System("outbox-per-like", "one event per like, folded by a worker in Python", POOLS),
        System(
            "redis",
            "SADD and INCR in a pipeline, FastAPI; appendfsync everysec: it may lose likes that it "
            "has acknowledged, up to a second of them",
            (Tuning(8, 1), Tuning(8, 2)),
        ),
        System("graph", "inline with objects and edges that carry data; asyncpg", (Tuning(8),)),
    )
}
PEERS: Final = [name for name in SYSTEMS if name not in ("groundswell", "graph")]
EXTRA: Final = ("asyncpg", "fastapi", "plotly", "psutil", "redis", "sqlalchemy", "uvicorn")


def missing() -> list[str]:
    """The libraries of the extra `bench` that are not installed."""
    return [name for name in EXTRA if importlib.util.find_spec(name) is None]


@contextlib.asynccontextmanager
async def _node(databases: Databases, arguments: Sequence[str]) -> AsyncIterator[Running]:
    async with (
        databases.migrated() as store,
        child.node(["--store", store, *arguments]) as node,
    ):
        edges = "SELECT target, count(*) FROM groundswell.edge_like GROUP BY target"
        yield _of_postgres(databases, store, node.url, [node.pid], edges)


@contextlib.asynccontextmanager
async def _on_postgres(
    databases: Databases, name: str, tuning: Tuning, posts: Iterable[int], lists: bool
) -> AsyncIterator[Running]:
    # Imported here: peers bring libraries of the extra.
    from groundswell.bench.peers.__main__ import LEAN, WORKER
    from groundswell.bench.peers.graph import Graph

    likes = Graph if name == "graph" else LEAN[name.replace("-sqlalchemy", "")]
    async with databases.empty() as store, contextlib.AsyncExitStack() as stack:
        await asyncio.to_thread(rows, store, likes.SCHEMA + LISTED * lists)
        if "TABLE posts" in likes.SCHEMA:
            fill = "INSERT INTO posts (id) SELECT unnest(%s::bigint[])"
            await asyncio.to_thread(rows, store, fill, [*{*posts, *CHECKED}])
        port = free_port(HOST, 0)
        if name == "inline-sqlalchemy":
            pid = await stack.enter_async_context(
                _uvicorn("inline_sqlalchemy", port, store, tuning)
            )
        else:
            options = ["--store", store, "--pool", str(tuning.pool), "--port", str(port)]
            pid = await stack.enter_async_context(program(name, options))
        pids = [pid]
        if name == "outbox-per-like":
            pids.append(await stack.enter_async_context(program(WORKER, ["--store", store])))
        await listening(port)
        edges = "SELECT post_id, count(*) FROM likes GROUP BY post_id"
        yield _of_postgres(databases, store, f"http://{HOST}:{port}", pids, edges)


def _of_postgres(
    databases: Databases, store: str, url: str, pids: Sequence[int], edges: str
) -> Running:
    return Running(
        url,
        lambda: [pid for first in pids for pid in family(first)],
        databases.processes,
        lambda: int(rows(store, "SELECT pg_database_size(current_database())")[0][0]),
        lambda: {int(post): int(count) for post, count in rows(store, edges)},
        store,
    )


@contextlib.asynccontextmanager
async def _redis(tuning: Tuning) -> AsyncIterator[Running]:
    from redis import Redis

    port = free_port(HOST, 0)
    async with (
        redis() as (store, server, folder),
        _uvicorn("redis", port, store, tuning) as pid,
    ):
        await listening(port)
        with Redis.from_url(store, decode_responses=True) as asked:

            def edges() -> dict[int, int]:
                keys = list(asked.scan_iter("likes:*", count=10_000))
                return {int(key.partition(":")[2]): int(asked.scard(key)) for key in keys}

            yield Running(
                f"http://{HOST}:{port}",
                lambda: [server, *family(pid)],
                list,
                lambda: sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()),
                edges,
                store,
            )


def program(name: str, options: Sequence[str]) -> contextlib.AbstractAsyncContextManager[int]:
    """One of the lean peers, as `process`."""
    return process([sys.executable, "-m", "groundswell.bench.peers", name, *options])


def _uvicorn(
    module: str, port: int, store: str, tuning: Tuning
) -> contextlib.AbstractAsyncContextManager[int]:
    arguments = [sys.executable, "-m", "uvicorn", f"groundswell.bench.peers.{module}:app"]
    arguments += ["--host", HOST, "--port", str(port), "--workers", str(tuning.workers)]
    arguments += ["--loop", "uvloop", "--http", "httptools", "--no-access-log"]
    return process(
        [*arguments, "--log-level", "warning"], PEER_STORE=store, PEER_POOL=str(tuning.pool)
    )


@contextlib.asynccontextmanager
async def process(arguments: Sequence[str], **environment: str) -> AsyncIterator[int]:
    """A program for as long as the block lasts; its process id."""
    made = await asyncio.create_subprocess_exec(
        *arguments, env=os.environ | environment, cwd=Path("/"), preexec_fn=end_with_parent
    )
    try:
        yield made.pid
    finally:
        below = family(made.pid)[1:]
        with contextlib.suppress(ProcessLookupError):
            made.terminate()
        try:
            await asyncio.wait_for(made.wait(), STOP_S)
        except TimeoutError:
            for pid in (*below, made.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
            await made.wait()
