"""The contract on PostgreSQL: any number of nodes, each with a few connections, on one primary."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Concatenate, Final, ParamSpec, Self, TypeVar

from psycopg import errors as pg
from psycopg import sql

from groundswell.errors import StoreUnavailable, StoreUnusable
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
from groundswell.stores.postgres import citus, direct, items, ledger, planned, read
from groundswell.stores.postgres.edges import Edges
from groundswell.stores.postgres.schema import Made, check
from groundswell.stores.postgres.server import Connection, Server
from groundswell.stores.postgres.snapshots import parse
from groundswell.stores.postgres.statements import fetch_all, fetch_one

log = logging.getLogger(__name__)

CONNECTIONS: Final = 8
COMMITS_MAX: Final = 2
ROLLUPS_KEPT: Final = 1_000
IDLE_S: Final = 1.0  # after so long a rollup without events covers what others did in the database
TRIES: Final = 8  # of a commit that meets a deadlock or a serialisation failure
MAINTAIN_S: Final = 30.0

P = ParamSpec("P")
T = TypeVar("T")


class PostgresStore:
    """A database; see `groundswell.store.Store` for what the methods promise."""

    def __init__(
        self,
        server: Server,
        kinds: Kinds,
        made: Made,
        *,
        group_max: int = GROUP_MAX,
        rollups_kept: int = ROLLUPS_KEPT,
        now_ms: Callable[[], int] | None = None,
        idle_s: float | None = IDLE_S,
    ) -> None:
        self.identity = made.identity
        self.queue = made.queue
        self.distributed = made.distributed
        self.group_max = group_max
        self.commits_max = COMMITS_MAX
        self._server = server
        self._kinds = kinds
        self._edges = Edges(kinds, self._read)
        self._rollups_kept = rollups_kept
        self._now_ms: Callable[[], int | None] = now_ms or (lambda: None)
        self._idle_s = idle_s
        self._made = 0  # the newest rollup from here
        self._floor_ms = 0  # the time of the newest commit from here
        self._rolling = asyncio.Lock()
        self._closed = False
        self._maintaining = asyncio.create_task(self._maintain(), name="postgres maintenance")

    @classmethod
    async def open(
        cls,
        url: str,
        kinds: Kinds,
        *,
        connections: int = CONNECTIONS,
        rollups_kept: int = ROLLUPS_KEPT,
        now_ms: Callable[[], int] | None = None,
        idle_s: float | None = IDLE_S,
    ) -> Self:
        """Open a migrated store. Raises StoreUnavailable, or StoreUnusable with what to do.

        `now_ms` replaces the server's clock. `idle_s` (None: never) is how soon a rollup follows
        transactions of others where there are no events.
        """
        server = Server(url, connections=connections)
        found: list[Made] = []
        group_max = GROUP_MAX

        async def verify(connection: Connection) -> None:
            store = await check(connection, kinds)
            if found and found[0] != store:
                raise StoreUnusable("The primary holds another store than before.")
            found[:] = [store]

        try:
            await server.open(verify)
            if found[0].distributed:
                group_max = await server.run("The store was not opened", citus.group_max)
        except BaseException:
            await server.close()
            raise
        return cls(
            server,
            kinds,
            found[0],
            group_max=group_max,
            rollups_kept=rollups_kept,
            now_ms=now_ms,
            idle_s=idle_s,
        )

    @property
    def label(self) -> str:
        """PostgreSQL, its queue, and Citus where it is distributed."""
        return f"PostgreSQL{' with Citus' * self.distributed}, queue {self.queue}"

    @property
    def epoch(self) -> int:
        """The timeline of the primary."""
        return self._server.epoch

    def listen(self, heard: Callable[[], None]) -> None:
        """Call `heard` soon after another node's rollup; a hint, which may be lost."""

        def told(rollup: str) -> None:
            if not rollup.isdigit() or int(rollup) > self._made:
                heard()

        self._server.heard = told

    async def close(self) -> None:
        """Finish what runs, then let go of the connections."""
        if self._closed:
            return
        self._closed = True
        self._maintaining.cancel()
        await asyncio.gather(self._maintaining, return_exceptions=True)
        await self._server.close()

    # --- writes ---------------------------------------------------------------------------------

    async def commit(self, batches: Sequence[Batch]) -> list[Committed]:  # noqa: D102
        if not any(batch.writes for batch in batches):
            return await self._nothing(batches)
        group = direct.Group.of(batches, self._kinds, distributed=self.distributed)

        async def work(connection: Connection) -> tuple[list[Committed], int]:
            now_ms, floor_ms = self._now_ms(), self._floor_ms
            if group is None:
                return await planned.commit(
                    connection,
                    self.queue,
                    self._kinds,
                    batches,
                    distributed=self.distributed,
                    now_ms=now_ms,
                    floor_ms=floor_ms,
                )
            return await direct.commit(
                connection,
                self.queue,
                group,
                batches,
                distributed=self.distributed,
                now_ms=now_ms,
                floor_ms=floor_ms,
            )

        committed, at_ms = await self._server.run("The write was not acknowledged", _again(work))
        self._floor_ms = max(self._floor_ms, at_ms)
        return committed

    async def _nothing(self, batches: Sequence[Batch]) -> list[Committed]:
        if not batches:
            return []
        seen = await self.standing()
        return [Committed((), None, slot, (), seen) for slot in range(len(batches))]

    async def rollup(self, events_max: int) -> Rolled | None:  # noqa: D102
        async def work(connection: Connection) -> Rolled | None:
            found = await fetch_all(
                connection,
                "SELECT number, snapshot::text, events, more FROM groundswell.roll_up("
                "%s, %s, %s * interval '1 second', %s)",
                [events_max, self._rollups_kept, self._idle_s, self._now_ms()],
            )
            if not found:
                return None
            number, snapshot, events, more = found[0]
            self._made = number
            return Rolled(number, parse(snapshot), events, more)

        async with self._rolling:  # one connection at most waits for the database's own lock
            return await self._server.run("The rollup was not made", work)

    # --- reads ----------------------------------------------------------------------------------

    async def _read(
        self,
        call: Callable[Concatenate[Connection, P], Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self._server.run(
            "Reading from the store failed", lambda connection: call(connection, *args, **kwargs)
        )

    async def standing(self) -> Revision:
        """What is committed now, or a state that shows the same."""
        return await self._read(read.standing)

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
        call = citus.items if self.distributed else items.items
        return await self._read(call, self._kinds, self.epoch, sights)

    async def documents(self, ids: Sequence[str]) -> Documents:  # noqa: D102
        call = citus.documents if self.distributed else read.documents
        return await self._read(call, self.epoch, ids)

    async def edge(self, kind: str, target: Id, source: Id) -> tuple[Edge | None, Revision]:  # noqa: D102
        if self._on_shards(kind):
            return await self._read(citus.edge, self._kinds[kind], target, source)
        return await self._edges.edge(kind, target, source)

    async def edges(self, kind: str, target: Id, window: Window) -> Page:  # noqa: D102
        if self._on_shards(kind):
            return await self._read(citus.edges, self._kinds[kind], target, window)
        return await self._edges.part(self._kinds[kind], target, window, inverse=False)

    async def inverse(self, kind: str, source: Id, window: Window) -> Page:  # noqa: D102
        return await self._edges.part(self._kinds[kind], source, window, inverse=True)

    def _on_shards(self, kind: str) -> bool:
        return self.distributed and self._kinds[kind].by_target

    async def account(self, id_: str) -> tuple[Account | None, Revision]:  # noqa: D102
        return await self._read(ledger.account, id_, self._now_ms(), self._floor_ms)

    async def movement(self, id_: str) -> tuple[Movement | None, Revision]:  # noqa: D102
        return await self._read(ledger.movement, id_, self._now_ms(), self._floor_ms)

    async def movements(self, account: str, limit: int, before: Before | None = None) -> Movements:  # noqa: D102
        now_ms = self._now_ms()
        return await self._read(ledger.history, account, limit, before, now_ms, self._floor_ms)

    async def expired(self, at_most: int) -> list[Settle]:  # noqa: D102
        now_ms, floor_ms = self._now_ms(), self._floor_ms
        found = await self._read(ledger.expired, at_most, now_ms, floor_ms)
        for kind in self._kinds:
            if kind.exclusive:
                found += await self._read(read.expired_claims, kind, at_most, now_ms, floor_ms)
        return found

    async def recount(self, kind: str, target: Id) -> Counter:  # noqa: D102
        rated = self._kinds.of_bucket(kind)
        if rated is not None:
            return await self._read(read.recount_value, rated[0], target, rated[1])
        return await self._read(read.recount, self._kinds[kind], target)

    # --- PgQ's maintenance ----------------------------------------------------------------------

    async def _maintain(self) -> None:
        """Rotate the queue's tables where it is time; harmless beside pgqd or another node."""
        while self.queue == "pgq":
            await asyncio.sleep(MAINTAIN_S)
            with contextlib.suppress(StoreUnavailable):
                await self._server.run("PgQ's maintenance failed", maintain)


def _again(
    work: Callable[[Connection], Awaitable[T]],
) -> Callable[[Connection], Awaitable[T]]:
    """The same work, tried again where the database ended it for the sake of another transaction."""

    async def trying(connection: Connection) -> T:
        for attempt in range(1, TRIES):
            try:
                return await work(connection)
            except (pg.DeadlockDetected, pg.SerializationFailure, pg.UniqueViolation) as error:
                # Unique: somebody has just made a transfer of the same id between other accounts.
                log.info("a commit is tried again: %s", error)
                await asyncio.sleep(random.uniform(0, 0.01 * attempt))  # noqa: S311
        return await work(connection)

    return trying


async def maintain(connection: Connection) -> None:
    """Run what PgQ says is due, each operation as often as it asks for."""
    for name, argument in await fetch_all(
        connection, "SELECT func_name, func_arg FROM pgq.maint_operations()"
    ):
        if name.startswith("pgq."):  # vacuum is autovacuum's business
            given = [] if argument is None else [argument]
            call = sql.SQL("SELECT {}({})").format(
                sql.Identifier(*name.split(".")), sql.SQL(", ").join(map(sql.Literal, given))
            )
            while (await fetch_one(connection, call.as_string(connection)))[0]:
                pass
