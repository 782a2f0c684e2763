"""The contract on SQLite: one writing thread, a few reading ones, each with its own connection."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, Self, TypeVar

from groundswell.errors import StoreUnavailable
from groundswell.kinds import Kinds
from groundswell.model import Account, Counter, Edge, Id, Key, Movement, Settle
from groundswell.revision import Revision
from groundswell.store import (
    GROUP_MAX,
    Batch,
    Before,
    Committed,
    Counters,
    Documents,
    Feed,
    Head,
    Items,
    Movements,
    Page,
    Rolled,
    Sight,
    Window,
)
from groundswell.stores.sqlite import ledger, read, write
from groundswell.stores.sqlite.schema import connect, declare, migrate, translated

__all__ = ["SqliteStore", "migrate"]

READERS = 2
ROLLUPS_KEPT = 1_000  # how far a follower may fall behind before it has to begin anew

P = ParamSpec("P")
T = TypeVar("T")


class SqliteStore:
    """A database file; see `groundswell.store.Store` for what the methods promise.

    Transactions of other processes on the same file are waited for, up to five seconds.
    """

    label = "SQLite"
    group_max = GROUP_MAX
    commits_max = 1  # it has one writer
    identity: str
    epoch: int

    def __init__(
        self,
        path: str,
        kinds: Kinds,
        *,
        rollups_kept: int = ROLLUPS_KEPT,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._kinds = kinds
        self._rollups_kept = rollups_kept
        self._now_ms = now_ms
        migrate(path)
        self._open: list[sqlite3.Connection] = []
        self._readers: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        try:
            with translated(f"Opening {path}"):
                self._writer = self._connect(path, writer=True)
                declare(self._writer, kinds, path)
                self.identity, self.epoch = self._writer.execute(
                    "SELECT store, epoch FROM identity"
                ).fetchone()
                for _ in range(READERS):
                    self._readers.put(self._connect(path, writer=False))
        except BaseException:
            self._let_go()
            raise
        self._writing = ThreadPoolExecutor(1, "groundswell-writer")
        self._reading = ThreadPoolExecutor(READERS, "groundswell-reader")

    @classmethod
    async def open(cls, path: str, kinds: Kinds, *, rollups_kept: int = ROLLUPS_KEPT) -> Self:
        """Open the file, creating it where there is none, without blocking the event loop."""
        return await asyncio.to_thread(cls, path, kinds, rollups_kept=rollups_kept)

    def _connect(self, path: str, *, writer: bool) -> sqlite3.Connection:
        connection = connect(path, writer=writer)
        self._open.append(connection)
        return connection

    async def close(self) -> None:
        """Finish what runs, then close the file."""
        self._writing.shutdown(wait=False)
        self._reading.shutdown(wait=False)
        await asyncio.to_thread(self._writing.shutdown)
        await asyncio.to_thread(self._reading.shutdown)
        self._let_go()

    def _let_go(self) -> None:
        while self._open:
            self._open.pop().close()

    async def _write(
        self,
        doing: str,
        call: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        def work() -> T:
            with translated(doing):
                return call(self._writer, *args, **kwargs)

        return await self._run(self._writing, work)

    async def _read(
        self,
        call: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        def work() -> T:
            connection = self._readers.get()
            try:
                with translated("Reading from the store failed"):
                    return call(connection, *args, **kwargs)
            finally:
                self._readers.put(connection)

        return await self._run(self._reading, work)

    async def _run(self, threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        try:
            future = asyncio.get_running_loop().run_in_executor(threads, work)
        except RuntimeError as error:
            raise StoreUnavailable("The store has been closed; nothing was changed.") from error
        return await future

    async def commit(self, batches: Sequence[Batch]) -> list[Committed]:  # noqa: D102
        return await self._write(
            "The write was not acknowledged", write.commit, self._kinds, batches, self._now_ms()
        )

    async def rollup(self, events_max: int) -> Rolled | None:  # noqa: D102
        return await self._write(
            "The rollup was not made", write.rollup, events_max, self._rollups_kept
        )

    async def head(self) -> Head:  # noqa: D102
        return await self._read(read.head, self.epoch)

    async def backlog(self) -> int:  # noqa: D102
        return await self._read(read.backlog)

    async def feed(self, after: int, changes_max: int) -> Feed:  # noqa: D102
        return await self._read(read.feed, self.epoch, after, changes_max)

    async def counters(self, keys: Sequence[Key]) -> Counters:  # noqa: D102
        return await self._read(read.counters, self.epoch, keys)

    async def current(self, keys: Sequence[Key]) -> tuple[tuple[Counter, ...], Revision] | None:  # noqa: D102
        return await self._read(read.current, keys)

    async def items(self, sights: Sequence[Sight]) -> Items | None:  # noqa: D102
        return await self._read(read.items, self.epoch, sights)

    async def documents(self, ids: Sequence[str]) -> Documents:  # noqa: D102
        return await self._read(read.documents, self.epoch, ids)

    async def edge(self, kind: str, target: Id, source: Id) -> tuple[Edge | None, Revision]:  # noqa: D102
        return await self._read(read.edge, kind, target, source)

    async def edges(self, kind: str, target: Id, window: Window) -> Page:  # noqa: D102
        return await self._read(read.edges, kind, target, window, inverse=False)

    async def inverse(self, kind: str, source: Id, window: Window) -> Page:  # noqa: D102
        return await self._read(read.edges, kind, source, window, inverse=True)

    async def account(self, id_: str) -> tuple[Account | None, Revision]:  # noqa: D102
        return await self._read(ledger.account, id_, self._now_ms())

    async def movement(self, id_: str) -> tuple[Movement | None, Revision]:  # noqa: D102
        return await self._read(ledger.movement, id_, self._now_ms())

    async def movements(self, account: str, limit: int, before: Before | None = None) -> Movements:  # noqa: D102
        return await self._read(ledger.history, account, limit, before, self._now_ms())

    async def expired(self, at_most: int) -> list[Settle]:  # noqa: D102
        found: list[Settle] = [*await self._read(ledger.expired, at_most, self._now_ms())]
        for kind in self._kinds:
            if kind.exclusive:
                found += await self._read(read.expired_claims, kind.name, at_most, self._now_ms())
        return found

    async def recount(self, kind: str, target: Id) -> Counter:  # noqa: D102
        rated = self._kinds.of_bucket(kind)
        if rated is not None:
            return await self._read(read.recount_value, rated[0].name, target, rated[1])
        return await self._read(read.recount, kind, target, unique=self._kinds[kind].unique)
