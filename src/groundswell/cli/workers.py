"""Several nodes on one port: processes that the kernel hands connections to in turn (SO_REUSEPORT)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from multiprocessing.process import BaseProcess
from typing import Any, Final

from groundswell.cli.main import execute
from groundswell.config import Settings
from groundswell.errors import BadSettings

log = logging.getLogger(__name__)

PARENT_POLL_S: Final = 0.5
RESTART_S: Final = 1.0  # between two starts of a worker that does not stay

Serve = Callable[[Settings, int, asyncio.Event], Coroutine[Any, Any, None]]


@contextlib.contextmanager
def reserved(host: str, port: int) -> Iterator[int]:
    """The port (a free one for 0), held for sockets of this user that share it; BadSettings."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe, socket.socket(family) as holder:
        try:
            probe.bind((host, port))  # fails where anybody listens, sharing or not
            port = probe.getsockname()[1]
            probe.close()
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.bind((host, port))
        except OSError as error:
            raise BadSettings(f"Cannot listen on {host} port {port}: {error.strerror}.") from error
        yield port


def run(settings: Settings, port: int, serve: Serve) -> None:
    """Keep the workers running until SIGTERM or Ctrl-C, then let them finish."""
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    context = multiprocessing.get_context("spawn")

    def start() -> BaseProcess:
        worker = context.Process(target=_work, args=(settings, port, serve, os.getpid()))
        worker.start()
        return worker

    workers = [start() for _ in range(settings.workers)]
    while not stopping:
        time.sleep(RESTART_S / 10)
        for index, worker in enumerate(workers):
            if not worker.is_alive() and not stopping:
                log.error("a worker has ended (exit code %s); another is started", worker.exitcode)
                time.sleep(RESTART_S)
                workers[index] = start()
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join()


def _work(settings: Settings, port: int, serve: Serve, parent: int) -> None:
    execute(_until_told(settings, port, serve, parent))


async def _until_told(settings: Settings, port: int, serve: Serve, parent: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    async def watch() -> None:
        while os.getppid() == parent:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(PARENT_POLL_S)
        stop.set()  # killed without a chance to say so

    watching = asyncio.create_task(watch())
    try:
        await serve(settings, port, stop)
    finally:
        watching.cancel()
