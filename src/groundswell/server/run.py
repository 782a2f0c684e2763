"""Runs the application in Granian, in this process and on this event loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
from collections.abc import Iterator
from typing import Final

from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

from groundswell.errors import BadSettings
from groundswell.server.app import App

BACKLOG: Final = 1024
STOP_S: Final = 10.0  # for clients to take the answers that they are owed
YOUNG_MAX: Final = 10_000  # objects until the next look for cycles; Python's default is 700
LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")

log = logging.getLogger(__name__)


async def serve(app: App, host: str, port: int, stop: asyncio.Event) -> None:
    """Serve until `stop` is set, then answer what was accepted and return."""
    server = Server(
        app,
        address=host,
        port=port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=False,
        backlog=BACKLOG,
        backpressure=BACKLOG + app.streams_max,  # requests at once
        log_enabled=False,
    )
    serving = asyncio.ensure_future(server.serve())
    stopping = asyncio.ensure_future(stop.wait())
    try:
        with collecting_rarely():
            await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
            app.stop()
            server.stop()  # type: ignore[no-untyped-call]
            await asyncio.wait((serving,), timeout=STOP_S)
            if serving.done():
                serving.result()
            else:
                log.warning("a client took too long over its answer; it is left to itself")
    finally:
        stopping.cancel()


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
