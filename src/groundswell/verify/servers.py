"""PostgreSQL under the nodes of a verification: a primary, perhaps a standby, and what befalls them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import msgspec
import psycopg

from groundswell import config, wiring
from groundswell.verify import disk, network
from groundswell.verify.clusters import Cluster, installations
from groundswell.verify.nemesis import Fault
from groundswell.verify.proxy import Proxy

SLOW_S: Final = 0.2
DATABASE: Final = "verify"
SETTINGS: Final = {"max_connections": 200, "max_wal_size": "256MB"}
DISK: Final = 1 << 30  # bytes, of a primary that is alone
_NO_LIKES: Final = "LOCK TABLE groundswell.edge_like IN SHARE MODE"
_NO_ROLLUPS: Final = "LOCK TABLE groundswell.rollup IN SHARE MODE"


class Place(msgspec.Struct, frozen=True):
    """What a node is told, and what can be made to go wrong on its way to the store."""

    settings: dict[str, str]
    faults: list[Fault]


def of_link(proxy: Proxy, place: str) -> list[Fault]:
    """What can be made to go wrong on a connection."""
    found = [
        Fault("partition", place, proxy.stall, proxy.heal),
        Fault("slow", place, partial(proxy.delay, SLOW_S), proxy.heal),
        Fault("reset", place, proxy.cut, proxy.heal),
        Fault("answers lost", place, proxy.deafen, proxy.heal),
    ]
    if network.is_own():
        carry = partial(network.carry, proxy.port)
        lose, lose_back = (
            partial(network.lose, proxy.port, back_only=back_only) for back_only in (False, True)
        )
        found.append(Fault("packets lost", place, lose, carry))
        found.append(Fault("packets lost on the way back", place, lose_back, carry))
    return found


class Servers:
    """A primary, alone or with a standby without which it commits nothing.

    When it fails over, the standby takes its place, and a new one that of the standby; nodes find
    them where they were, for they get there by proxies.
    """

    def __init__(self, primary: Cluster) -> None:
        self._primary = primary
        self._standby: Cluster | None = None
        self._to_primary: list[Proxy] = []
        self._to_standby: list[Proxy] = []
        self._transaction: psycopg.AsyncConnection | None = None

    @classmethod
    async def started(cls, stack: contextlib.AsyncExitStack, *, standby: bool) -> Servers:
        """With a database that is migrated; ended with the stack."""
        primary = await asyncio.to_thread(
            Cluster, installations()[0], settings=SETTINGS, disk=0 if standby else DISK
        )
        stack.callback(primary.close)  # and all that stream from it
        primary.create_database(DATABASE)
        await wiring.migrate(config.load_only({"store": primary.url(DATABASE)}))
        made = cls(primary)
        if standby:
            await asyncio.to_thread(made._make_standby)
        return made

    def _make_standby(self) -> None:
        self._standby = self._primary.standby()
        _require_standby(self._primary)

    async def place(self, stack: contextlib.AsyncExitStack) -> Place:
        """The way of one more node to the servers, by proxies of its own."""
        number = len(self._to_primary)
        settings: dict[str, str] = {}
        faults: list[Fault] = []
        ways = [("store", "primary", self._primary, self._to_primary)]
        if self._standby is not None:
            ways.append(("standby", "standby", self._standby, self._to_standby))
        for setting, name, server, proxies in ways:
            proxy = Proxy(server.port)
            await proxy.start()
            stack.push_async_callback(proxy.close)
            proxies.append(proxy)
            at = f"postgres:{server.password}@127.0.0.1:{proxy.port}"
            settings[setting] = f"postgresql://{at}/{DATABASE}?connect_timeout=3"
            faults += of_link(proxy, f"node {number} to the {name}")
        return Place(settings, faults)

    def faults(self) -> list[Fault]:
        """What can be made to go wrong with the servers, whichever they are by then."""
        found = [
            Fault("kill -9", "primary", _thread(self._kill), _thread(self._start)),
            Fault("pause", "primary", _thread(self._pause), _thread(self._resume)),
            Fault("open transaction", "primary", partial(self._begin, ""), self._roll_back),
            Fault("locked table", "primary", partial(self._begin, _NO_LIKES), self._roll_back),
            Fault("no rollups", "primary", partial(self._begin, _NO_ROLLUPS), self._roll_back),
        ]
        if self._primary.small:
            full, room = _thread(self._fill), _thread(self._make_room)
            found.append(Fault("disk full", "primary", full, room, alone=True))
        if self._standby is None:
            return found
        return [
            *found,
            Fault("kill -9", "standby", self._of_standby("kill"), self._of_standby("start")),
            Fault("pause", "standby", self._of_standby("pause"), self._of_standby("resume")),
            Fault(
                "replay stopped",
                "standby",
                self._of_standby("pause_replay"),
                self._of_standby("resume_replay"),
            ),
            Fault("failover", "primary", self._fail_over, lambda: None, alone=True),
        ]

    # The servers may have changed places since the fault was listed: hence by name, or by method.

    def _of_standby(self, act: str) -> Callable[[], Awaitable[None]]:
        return _thread(lambda: getattr(self._standby, act)())

    def _kill(self) -> None:
        self._primary.kill()

    def _start(self) -> None:
        self._primary.start()

    def _pause(self) -> None:
        self._primary.pause()

    def _resume(self) -> None:
        self._primary.resume()

    def _fill(self) -> None:
        disk.fill(self._primary.folder)

    def _make_room(self) -> None:
        disk.free(self._primary.folder)
        self._primary.revive()

    async def _fail_over(self) -> None:
        """The primary is gone for good, and the standby is the new one: what was acknowledged is there."""
        await asyncio.to_thread(self._promote)
        _aim(self._to_primary, self._primary)
        await asyncio.to_thread(self._make_standby)
        if self._standby is not None:
            _aim(self._to_standby, self._standby)

    def _promote(self) -> None:
        self._primary.kill()
        if self._standby is not None:
            self._primary, self._standby = self._standby, None
            # Before anybody can write: nothing is acknowledged that the next standby has not.
            _require_standby(self._primary)
            self._primary.promote()

    async def _begin(self, statement: str) -> None:
        """A transaction with an id, which does not end."""
        with contextlib.suppress(psycopg.OperationalError):  # it is too busy: as good as done
            self._transaction = await psycopg.AsyncConnection.connect(
                self._primary.url(DATABASE), connect_timeout=2
            )
            await self._transaction.execute("SET lock_timeout = '2s'")
            await self._transaction.execute("SELECT pg_current_xact_id()")
            if statement:
                await self._transaction.execute(statement.encode())

    async def _roll_back(self) -> None:
        if self._transaction is not None:
            await self._transaction.close()
            self._transaction = None


def _thread(work: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    return partial(asyncio.to_thread, work)


def _require_standby(server: Cluster) -> None:
    """Let a primary acknowledge nothing that no standby has."""
    server.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
    server.execute("SELECT pg_reload_conf()")


def _aim(proxies: list[Proxy], server: Cluster) -> None:
    for proxy in proxies:
        proxy.aim(server.port)
        proxy.cut()
