"""The servers that all systems of a run share: one private PostgreSQL, and a Redis for each use."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import psycopg

from groundswell.errors import StoreUnusable
from groundswell.kinds import Kinds
from groundswell.processes import end_with_parent
from groundswell.server.run import free_port
from groundswell.stores import postgres
from groundswell.verify import clusters

# What the package's defaults are too small for; everything else, fsync above all, is as installed.
SETTINGS: Final = {
    "shared_buffers": "512MB",
    "min_wal_size": "1GB",
    "max_wal_size": "4GB",
    "max_connections": 200,
}
LOG_MIB: Final = 1024  # `min_wal_size`
HOST: Final = "127.0.0.1"
START_S: Final = 30.0
SYNCS: Final = 100
PAGE: Final = 8192


class Databases:
    """New databases on a private server, dropped after use."""

    def __init__(self, cluster: clusters.Cluster) -> None:
        self._cluster = cluster
        self.version = cluster.installation.version
        self.queue: Literal["pgq", "outbox"] = "pgq" if cluster.installation.pgq else "outbox"

    def processes(self) -> list[int]:
        """Of the server."""
        return self._cluster.processes()

    @contextlib.asynccontextmanager
    async def empty(self) -> AsyncIterator[str]:
        """The URL of a new database, made when the server has nothing left to write."""
        name = f"bench_{secrets.token_hex(4)}"
        url = self._cluster.url()
        await asyncio.to_thread(rows, url, f'CREATE DATABASE "{name}"')
        await asyncio.to_thread(rows, url, "CHECKPOINT")
        try:
            yield urlsplit(url)._replace(path=f"/{name}").geturl()
        finally:
            await asyncio.to_thread(rows, url, f'DROP DATABASE "{name}" WITH (FORCE)')

    @contextlib.asynccontextmanager
    async def migrated(self) -> AsyncIterator[str]:
        """The URL of a new database with a store in it."""
        async with self.empty() as url:
            await postgres.migrate(url, Kinds(), queue=self.queue)
            yield url


def rows(url: str, sql: str, *bound: object) -> list[tuple[Any, ...]]:
    """The rows of a statement, run outside a transaction on a connection of its own."""
    with psycopg.connect(url, autocommit=True) as connection:
        done = connection.execute(sql.encode(), bound or None)
        return done.fetchall() if done.description is not None else []


@contextlib.contextmanager
def databases() -> Iterator[Databases]:
    """A private PostgreSQL server, on disk, for as long as the block lasts."""
    if why := clusters.missing():
        raise StoreUnusable(why)
    with clusters.Cluster(clusters.installations()[0], settings=SETTINGS) as cluster:
        _write_log(cluster.url())
        yield Databases(cluster)


def _write_log(url: str) -> None:
    """Let a new server have the files of its log that one in use has, and writes again and again.

    A new one has to fill each with zeros first: about 40 ms for 16 MiB, in the middle of a transaction.
    """
    emit = "SELECT pg_logical_emit_message(false, 'groundswell', repeat('.', 1048576))"
    rows(url, f"{emit} FROM generate_series(1, %s)", LOG_MIB)
    rows(url, "CHECKPOINT")


@contextlib.asynccontextmanager
async def redis() -> AsyncIterator[tuple[str, int, Path]]:
    """A private Redis server that keeps its append-only file: its URL, process, and that folder."""
    port = free_port(HOST, 0)
    with tempfile.TemporaryDirectory(prefix="groundswell-redis-") as folder:
        process = await asyncio.create_subprocess_exec(
            *("redis-server", "--port", str(port), "--bind", HOST, "--dir", folder),
            *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
            stdout=asyncio.subprocess.DEVNULL,
            preexec_fn=end_with_parent,
        )
        try:
            await listening(port)
            yield f"redis://{HOST}:{port}", process.pid, Path(folder)
        finally:
            process.terminate()
            await process.wait()


def redis_missing() -> str:
    """Why there can be no Redis; empty if nothing is missing."""
    if shutil.which("redis-server"):
        return ""
    return "redis-server is not installed: apt-get install redis-server"


async def listening(port: int) -> None:
    """Wait until somebody accepts connections."""
    async with asyncio.timeout(START_S):
        while True:
            with contextlib.suppress(OSError):
                (await asyncio.open_connection(HOST, port))[1].close()
                return
            await asyncio.sleep(0.02)


def sync_ms() -> float:
    """How long this disk takes to make a page durable: the least that a commit costs."""
    took: list[float] = []
    with tempfile.NamedTemporaryFile(prefix="groundswell-") as file:
        for _ in range(SYNCS):
            os.pwrite(file.fileno(), os.urandom(PAGE), 0)
            began_s = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - began_s) * 1000)
    return statistics.median(took)
