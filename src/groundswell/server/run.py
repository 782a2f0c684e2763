"""Serves the application on a port, in this process and on this event loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Final

from groundswell.errors import BadSettings
from groundswell.server.app import App
from groundswell.server.connection import Connection, Serving
from groundswell.server.exchange import Application

BACKLOG: Final = 1024
CONNECTIONS_MAX: Final = 10_000  # beside those that may go on and on
STOP_S: Final = 10.0  # for clients to take the answers that they are owed
LOOK_S: Final = 1.0  # between two looks for what takes too long
YOUNG_MAX: Final = 10_000  # objects until the next look for cycles; Python's default is 700
LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")

log = logging.getLogger(__name__)


async def serve(app: App, host: str, port: int, stop: asyncio.Event) -> None:
    """Serve until `stop` is set, then answer what was accepted and return."""
    async with listening(app, host, port, CONNECTIONS_MAX + app.streams_max):
        await stop.wait()
        app.stop()


@contextlib.asynccontextmanager
async def listening(
    application: Application, host: str, port: int, connections_max: int = CONNECTIONS_MAX
) -> AsyncIterator[None]:
    """Any ASGI application, served over HTTP/1.1; at the end what was accepted is answered."""
    serving = Serving(application, connections_max)
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(serving), host, port, backlog=BACKLOG, reuse_port=True
    )
    watching = asyncio.create_task(_watch(serving))
    try:
        with collecting_rarely():
            yield
            server.close()
            await _stopped(serving)
    finally:
        server.close()
        watching.cancel()


async def _stopped(serving: Serving) -> None:
    serving.stopping = True
    for connection in tuple(serving.connections):
        connection.stop()
    if not serving.connections:
        return
    try:
        async with asyncio.timeout(STOP_S):
            await serving.empty.wait()
    except TimeoutError:
        log.warning("a client took too long over its answer; it is left to itself")
        for connection in tuple(serving.connections):
            connection.abort()


async def _watch(serving: Serving) -> None:
    while True:
        await asyncio.sleep(LOOK_S)
        serving.look()


@contextlib.contextmanager
def collecting_rarely() -> Iterator[None]:
    """Look for cycles of garbage seldom, and not in what is there already.

    Requests leave none behind, but hundreds of them at once are enough new objects for Python to look
    again and again: measured, a quarter of the main thread's time under single writes.
    """
    young, *older = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, *older)
    try:
        yield
    finally:
        gc.set_threshold(young, *older)
        gc.unfreeze()


def free_port(host: str, port: int) -> int:
    """`port`, or a free one for 0; BadSettings if it cannot be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise BadSettings(f"Cannot listen on {host} port {port}: {error.strerror}.") from error
        return int(probe.getsockname()[1])
