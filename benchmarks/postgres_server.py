"""The PostgreSQL server that benchmarks/postgres.py measures on: a private one, or one that is named."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from groundswell.bench.servers import SETTINGS
from groundswell.kinds import Kinds
from groundswell.stores import postgres
from groundswell.stores.postgres.queues import Queue


class Server:
    """Databases on one server, each new, and dropped after use."""

    def __init__(self, url: str) -> None:
        self.url = url
        with self.connect() as connection:
            self.version = connection.info.parameter_status("server_version")
            rows = connection.execute(
                "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit')"
            ).fetchall()
            self.durability = dict(rows)
            [[self.pgq]] = connection.execute(
                "SELECT count(*) > 0 FROM pg_available_extensions WHERE name = 'pgq'"
            ).fetchall()

    def connect(self, url: str = "") -> psycopg.Connection[Any]:
        return psycopg.connect(url or self.url, autocommit=True)

    @contextlib.contextmanager
    def empty(self) -> Iterator[str]:
        """The URL of a new database."""
        name = f"bench_{secrets.token_hex(4)}"
        with self.connect() as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
            connection.execute("CHECKPOINT")  # so that everybody begins with the same work to do
        try:
            yield urlsplit(self.url)._replace(path=f"/{name}").geturl()
        finally:
            with self.connect() as connection:
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())

    @contextlib.asynccontextmanager
    async def migrated(self, queue: Queue) -> AsyncIterator[str]:
        """The URL of a new database with a store in it."""
        with self.empty() as url:
            await postgres.migrate(url, Kinds(), queue=queue)
            yield url


@contextlib.contextmanager
def running(url: str | None) -> Iterator[Server]:
    """The server at `url`, or a private one, on disk, for as long as the block lasts."""
    if url is not None:
        yield Server(url)
        return
    import clusters  # here, for it brings pytest along, which is no part of a worker's memory

    if why := clusters.missing():
        raise SystemExit(why)
    with clusters.Cluster(clusters.installations()[0], settings=SETTINGS) as cluster:
        yield Server(cluster.url())


def memory_kib(pid: int, what: str) -> int:
    """A figure of /proc/PID/status, as VmRSS; 0 where it cannot be read."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{what}:"):
                return int(line.split()[1])
    return 0
