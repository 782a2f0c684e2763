"""A program that is started for a verification, and may be killed and paused."""

from __future__ import annotations

import contextlib
import itertools
import random
import signal
import socket
import subprocess
from collections.abc import Iterator
from typing import Final

# Each is given once in ten thousand times: whoever has one may not listen yet, or be down for a while.
_first: Final = random.randrange(20_000, 30_000)
_ports: Final[Iterator[int]] = itertools.cycle([*range(_first, 30_000), *range(20_000, _first)])


class Program:
    """None is running before the first start, and between a kill and the next one."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def pause(self) -> None:
        """SIGSTOP: connections stay, and get no answer."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)


def free_port() -> int:
    """One that is free now, and below those from which connections are made.

    One of those could be taken while the server is down, even by a client that tries to reach it. It is
    given to nobody else in this process.
    """
    while True:
        port = next(_ports)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
