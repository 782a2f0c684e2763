"""What a system takes of the machine: CPU seconds and memory of its processes."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time
from collections.abc import Callable, Iterable
from typing import Final, Self

import psutil

EVERY_S: Final = 0.5

Pids = Callable[[], Iterable[int]]


class Meter:
    """Measures in a block: `program` is what serves, `database` what stores."""

    def __init__(self, program: Pids, database: Pids) -> None:
        self._program = program
        self._database = database
        self.seconds = 0.0
        self.program_s = 0.0  # CPU seconds
        self.database_s = 0.0
        self.client_s = 0.0  # of the clients: ours, and those that have ended in the block
        self.memory_mib: list[tuple[float, float]] = []  # seconds since the begin, resident MiB

    async def __aenter__(self) -> Self:
        self._before = cpu_s(self._program()), cpu_s(self._database()), _clients_s()
        self._began_s = time.monotonic()
        self._sampling = asyncio.create_task(self._sample())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._sampling.cancel()
        self.seconds = time.monotonic() - self._began_s
        self.program_s = cpu_s(self._program()) - self._before[0]
        self.database_s = cpu_s(self._database()) - self._before[1]
        self.client_s = _clients_s() - self._before[2]
        self._look()

    async def _sample(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(EVERY_S)

    def _look(self) -> None:
        at_s = time.monotonic() - self._began_s
        self.memory_mib.append((round(at_s, 2), round(resident_mib(self._program()), 1)))

    @property
    def peak_mib(self) -> float:
        """The most that the program held."""
        return max(mib for _, mib in self.memory_mib)


def _clients_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds so far; those of ended children are counted with who has waited for them."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            total += sum(psutil.Process(pid).cpu_times()[:4])
    return total


def resident_mib(pids: Iterable[int]) -> float:
    """Resident memory; what processes share is counted for each."""
    total = 0
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            total += psutil.Process(pid).memory_info().rss
    return total / 2**20


def family(pid: int) -> list[int]:
    """A process and all below it."""
    with contextlib.suppress(psutil.Error):
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    return []
