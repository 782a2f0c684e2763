"""One PostgreSQL server as a store sees it: pooled connections, and a watch over whether it answers.

A server that has stopped without closing its connections looks like a slow one. The watch asks for a sign
of life several times a second on a connection of its own; without an answer everything that waits for the
server fails at once, and nothing is sent until it is back. What was under way is abandoned rather than
cancelled: a cancellation would wait for the same silent server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from groundswell.errors import BadSettings, StoreUnavailable, StoreUnusable
from groundswell.stores.postgres.errors import first_line, translated

log = logging.getLogger(__name__)

T = TypeVar("T")

SERVER_MIN: Final = 150_000
PING_S: Final = 0.25
ANSWER_S: Final = (
    0.6  # a server silent for longer is away; with PING_S less than the second promised
)
CONNECT_S: Final = 3.0
RETRY_S: Final = 0.2
BUSY_S: Final = 5.0  # how long a call waits for a free connection
CLOSE_S: Final = 10.0

# What durability, the order of visibility and the plans rest on, whatever the role's defaults are.
# No statement here wants a sequential scan, nor a bitmap scan, which would sort all edges of a hot target
# for the newest few. The planner cannot know the size of a queue's tables, nor does it find a better plan
# by looking at the parameters: it would spend more time than the execution. Citus has to look: they tell it
# which shards to ask.
_SESSION: Final = """
    SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit')
                      WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false),
           set_config('default_transaction_isolation', 'read committed', false),
           set_config('enable_seqscan', 'off', false),
           set_config('enable_bitmapscan', 'off', false),
           set_config('jit', 'off', false),
           set_config('plan_cache_mode', CASE WHEN to_regclass('groundswell.two_phase') IS NULL
                      THEN 'force_generic_plan' ELSE 'force_custom_plan' END, false),
           set_config('idle_in_transaction_session_timeout', '2s', false),
           set_config('lock_timeout', CASE current_setting('lock_timeout')
                      WHEN '0' THEN '5s' ELSE current_setting('lock_timeout') END, false),
           set_config('statement_timeout', CASE current_setting('statement_timeout')
                      WHEN '0' THEN '10s' ELSE current_setting('statement_timeout') END, false)
"""
_DEFAULTS: Final = {
    "connect_timeout": "3",
    "fallback_application_name": "groundswell",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "5000",
}
_TIMELINE: Final = """
    SELECT ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int
"""


class Connection(psycopg.AsyncConnection[TupleRow]):
    """A connection of the pool."""


class _Era:
    """The time from when the server was found to when it is lost, on one timeline."""

    def __init__(self, epoch: int, pool: AsyncConnectionPool[Connection]) -> None:
        self.epoch = epoch
        self.pool = pool
        self.running: set[asyncio.Task[None]] = set()
        self.waiting: dict[asyncio.Future[Any], str] = {}  # whoever waits, and what for

    def give_up(self, why: str) -> None:
        """Let nobody wait any more, whatever becomes of what runs."""
        for answer, doing in self.waiting.items():
            if not answer.done():
                answer.set_exception(
                    StoreUnavailable(
                        f"{doing}: {why}. What was not acknowledged is not promised; try again later."
                    )
                )


def conninfo(url: str) -> str:
    """The connection string for a URL, with defaults that notice a dead connection; BadSettings."""
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        # The message would repeat the URL, and the password in it.
        raise BadSettings(
            "The URL of the PostgreSQL store cannot be read; write postgresql://user@host/database."
        ) from error
    defaults = {name: value for name, value in _DEFAULTS.items() if name not in given}
    return make_conninfo(url, **defaults)


class Server:
    """The primary, or a standby of it."""

    def __init__(self, url: str, *, connections: int, standby: bool = False) -> None:
        self._conninfo = conninfo(url)
        self._connections = connections
        self._standby = standby
        self._what = "The standby" if standby else "The primary"
        self._era: _Era | None = None
        self._why = "it has not been opened"
        self._closed = False
        self._verify: Callable[[Connection], Awaitable[None]] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._endings: set[asyncio.Task[None]] = set()
        self.epoch = 0  # the timeline; of a standby always 0, since only the primary knows
        # Called with the payload when the server notifies; without one when some may have been missed.
        self.heard: Callable[[str], None] = lambda payload: None

    # --- life -----------------------------------------------------------------------------------

    async def open(self, verify: Callable[[Connection], Awaitable[None]] | None = None) -> None:
        """Connect, now and whenever the server has been away, and let `verify` look at it.

        Raises StoreUnusable, or StoreUnavailable where it cannot be reached; it is then looked for until
        it is there.
        """
        self._verify = verify
        connection: Connection | None = None
        try:
            connection = await self._connect()
            await self._begin(await self._timeline(connection))
        except StoreUnusable:
            raise
        except StoreUnavailable as error:
            self._why = error.detail.rstrip(".")
            raise
        finally:
            self._watching = asyncio.create_task(self._watch(connection), name="postgres watch")

    async def _check(self, connection: Connection) -> None:
        version = connection.info.server_version
        if version < SERVER_MIN:
            raise StoreUnusable(
                f"The server is PostgreSQL {version // 10_000}; 15 or newer is needed."
            )
        cursor = await connection.execute(
            "SELECT pg_is_in_recovery(), current_setting('server_encoding')"
        )
        row = await cursor.fetchone()
        if row is None or row[1] != "UTF8":
            raise StoreUnusable("The database's encoding has to be UTF8; create another one.")
        if row[0] and not self._standby:
            raise StoreUnusable(
                "`store` names a standby, which takes no writes: name the primary, or all hosts and "
                "target_session_attrs=read-write. A standby belongs under `standby`."
            )
        if self._verify is not None:
            await self._verify(connection)

    async def close(self) -> None:
        """Let what runs come to its end, for a while, then let go of the server."""
        self._closed = True
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        era, self._era = self._era, None
        self._why = "it has been closed"
        if era is not None:
            if era.running:
                await asyncio.wait(set(era.running), timeout=CLOSE_S)
            era.give_up(self._why)
            await era.pool.close(timeout=1.0)
        if self._endings:  # those of a silent server may never end
            await asyncio.wait(set(self._endings), timeout=1.0)

    # --- use ------------------------------------------------------------------------------------

    async def run(self, doing: str, work: Callable[[Connection], Awaitable[T]]) -> T:
        """What `work` returns, with a connection of the pool, in no transaction.

        Raises StoreUnavailable where there is no server, or none any more; what `work` had sent by then
        may have happened. It then goes on to its end by itself, and so it does where the caller is
        cancelled.
        """
        era = self._era
        if era is None:
            raise StoreUnavailable(
                f"{self._what} cannot be used: {self._why}. Nothing was changed; try again later."
            )
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        era.waiting[answer] = doing
        task = asyncio.ensure_future(self._work(era, doing, work, answer))
        era.running.add(task)
        task.add_done_callback(era.running.discard)
        try:
            return await answer
        finally:
            era.waiting.pop(answer, None)

    async def _work(
        self,
        era: _Era,
        doing: str,
        work: Callable[[Connection], Awaitable[T]],
        answer: asyncio.Future[T],
    ) -> None:
        """Do the work to its end, and answer at once: before the connection is back in the pool."""
        try:
            with translated(doing):
                async with era.pool.connection() as connection:
                    done = await work(connection)
                    if not answer.done():
                        answer.set_result(done)
        except Exception as error:
            if not answer.done():
                answer.set_exception(error)

    # --- the watch ------------------------------------------------------------------------------

    async def _connect(self) -> Connection:
        with translated(f"{self._what} cannot be reached"):
            try:
                connection = await Connection.connect(self._conninfo, autocommit=True)
            except OSError as error:  # of name resolution
                raise psycopg.OperationalError(str(error)) from error
            try:
                await connection.execute(_SESSION)
                await self._check(connection)
            except BaseException:
                await connection.close()
                raise
            return connection

    async def _timeline(self, connection: Connection) -> int:
        if self._standby:
            return 0
        row = await (await connection.execute(_TIMELINE)).fetchone()
        return 0 if row is None else int(row[0])

    async def _begin(self, epoch: int) -> None:
        async def configure(connection: Connection) -> None:
            await connection.execute(_SESSION)
            if await self._timeline(connection) != epoch:
                raise psycopg.OperationalError("the server has changed its timeline")

        pool = AsyncConnectionPool(
            self._conninfo,
            connection_class=Connection,
            kwargs={"autocommit": True},
            min_size=1,
            max_size=self._connections,
            timeout=BUSY_S,
            configure=configure,
            open=False,
        )
        await pool.open()
        self._era, self.epoch = _Era(epoch, pool), epoch

    def _lose(self, why: str) -> None:
        era, self._era, self._why = self._era, None, why
        if era is not None:
            log.warning("%s: %s", self._what, why)
            era.give_up(why)
            self._end_later(era.pool.close(timeout=0.0))

    def _end_later(self, work: Awaitable[None]) -> None:
        async def ending() -> None:
            with contextlib.suppress(psycopg.Error, TimeoutError):
                await work

        task = asyncio.create_task(ending())
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)

    async def _watch(self, connection: Connection | None) -> None:
        while True:
            try:
                if connection is not None:
                    await self._attend(connection)
                connection = await self._find_again()
                epoch = await self._timeline(connection)
                if self._era is None or self._era.epoch != epoch:
                    self._lose("it has another timeline")
                    log.warning("%s is back", self._what)
                    await self._begin(epoch)
                self.heard("")
            except Exception:
                log.exception("%s: the watch failed; it begins anew", self._what)
                connection = None
                await asyncio.sleep(RETRY_S)

    async def _attend(self, connection: Connection) -> None:
        """Hear its notifications until it fails; lose it where it falls silent."""
        ping: asyncio.Task[Any] | None = None
        try:
            if not self._standby:
                await connection.execute("LISTEN groundswell")
            while True:
                async for notification in connection.notifies(timeout=PING_S):
                    self.heard(notification.payload)
                ping = asyncio.create_task(_ask(connection))
                if not await _answered(ping):
                    self._lose(f"it has not answered for {ANSWER_S:g} s")
                    return
                ping.result()
        except psycopg.Error as error:
            log.info("%s: the watching connection is gone: %s", self._what, error)
        finally:
            if ping is None or ping.done():
                await connection.close()
            else:  # it still waits for the silent server, and closes when that wakes up or goes away
                ping.add_done_callback(lambda done: done.cancelled() or done.exception())
                self._end_later(_close_after(ping, connection))

    async def _find_again(self) -> Connection:
        """A new connection, however long it takes; after the first failure the server counts as lost."""
        while True:
            trying = asyncio.create_task(self._connect())
            await asyncio.wait({trying}, timeout=ANSWER_S if self._era else CONNECT_S)
            if trying.done():
                try:
                    return trying.result()
                except StoreUnavailable as error:
                    self._lose(first_line(error).rstrip("."))
            else:
                trying.cancel()
                self._lose("it accepts no connection")
            await asyncio.sleep(RETRY_S)


async def _ask(connection: Connection) -> None:
    await connection.execute("SELECT 1")


async def _answered(ping: asyncio.Task[Any]) -> bool:
    await asyncio.wait({ping}, timeout=ANSWER_S)
    if not ping.done():  # perhaps it was this process that stood still: look once more
        await asyncio.wait({ping}, timeout=0.05)
    return ping.done()


async def _close_after(ping: asyncio.Task[Any], connection: Connection) -> None:
    await asyncio.wait({ping})
    await connection.close()
