"""Redis under the nodes of a verification, one server or a cluster, and what befalls it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

from groundswell.errors import StoreUnusable
from groundswell.verify.nemesis import Fault
from groundswell.verify.proxy import Proxy
from groundswell.verify.redises import RedisCluster, RedisServer
from groundswell.verify.servers import Place, of_link

REDIS: Final = "redis"


class OneRedis:
    """A server that all nodes share, each by a proxy of its own."""

    def __init__(self, folder: Path) -> None:
        self._server = RedisServer(folder)

    async def start(self, stack: contextlib.AsyncExitStack) -> None:
        """Start it; ended with the stack."""
        stack.callback(self._server.kill)
        await asyncio.to_thread(self._server.start)

    async def place(self, stack: contextlib.AsyncExitStack, number: int, node: Place) -> Place:
        """The place of a node, with its way to this server."""
        proxy = Proxy(self._server.port)
        await proxy.start()
        stack.push_async_callback(proxy.close)
        settings = node.settings | {"redis": f"redis://127.0.0.1:{proxy.port}"}
        return Place(settings, [*node.faults, *of_link(proxy, f"node {number} to redis")])

    def faults(self) -> list[Fault]:
        """What can be made to go wrong with it."""
        server = self._server
        return [
            Fault("kill -9", REDIS, server.kill, _thread(server.start)),
            Fault("pause", REDIS, server.pause, server.resume),
            Fault("FLUSHALL", REDIS, _thread(partial(server.ask, "FLUSHALL")), _nothing),
            Fault("old dump restored", REDIS, _thread(server.save), _thread(self._restore)),
        ]

    def _restore(self) -> None:
        self._server.kill()
        self._server.start()
        # The next kill is to find nothing: what was lost then is lost.
        self._server.forget()


class ClusteredRedis:
    """A cluster of six processes that all nodes share."""

    def __init__(self, folder: Path, rng: Random) -> None:
        self._cluster = RedisCluster(folder)
        self._rng = rng
        self._down: list[RedisServer] = []
        self._cut: tuple[RedisServer, RedisServer] | None = None

    async def start(self, stack: contextlib.AsyncExitStack) -> None:
        """Start it; ended with the stack."""
        stack.callback(self._cluster.kill)
        await asyncio.to_thread(self._cluster.start)

    async def place(self, stack: contextlib.AsyncExitStack, number: int, node: Place) -> Place:
        """The place of a node, with the cluster. Servers tell where others are: there is no proxy."""
        return Place(node.settings | {"redis": self._cluster.url}, node.faults)

    def faults(self) -> list[Fault]:
        """What can be made to go wrong with it."""
        return [
            Fault("kill -9 of a master", REDIS, _thread(self._kill), _thread(self._back)),
            Fault("pause of a master", REDIS, _thread(self._pause), _thread(self._resume)),
            Fault("FLUSHALL of a master", REDIS, _thread(self._flush), _nothing),
            Fault("failover, writes lost", REDIS, _thread(self._cut_off), _thread(self._take_over)),
        ]

    def _master(self) -> RedisServer:
        return self._rng.choice(self._cluster.masters())

    def _kill(self) -> None:
        self._down = [self._master()]
        self._down[0].kill()

    def _back(self) -> None:
        for server in self._down:
            server.start()

    def _pause(self) -> None:
        self._down = [self._master()]
        self._down[0].pause()

    def _resume(self) -> None:
        for server in self._down:
            server.resume()

    def _flush(self) -> None:
        self._master().ask("FLUSHALL")

    def _cut_off(self) -> None:
        master = self._master()
        self._cut = self._cluster.replica_of(master), master
        self._cluster.cut_off(*self._cut)

    def _take_over(self) -> None:
        if self._cut is not None:
            self._cluster.take_over(*self._cut)
            self._cut[1].start()
            self._cut = None


def _nothing() -> None:
    pass


def _thread(work: Callable[[], Any]) -> Callable[[], Awaitable[None]]:
    def harmed() -> None:
        # Whoever is to be harmed is down already, or has nobody to take its place.
        with contextlib.suppress(OSError, StoreUnusable):
            work()

    return partial(asyncio.to_thread, harmed)
