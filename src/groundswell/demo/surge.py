"""A spike that goes on until it is stopped: the demonstration's profile, drawn again and again."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import time
from collections.abc import Iterator
from typing import Final

from groundswell.demo import profile
from groundswell.demo.writers import BATCH_MAX, TICK_S, insist
from groundswell.model import Add, Write
from groundswell.session import Groundswell

PER_S_MAX: Final = 20_000
PER_S: Final = 2_000
STOP_S: Final = 5.0  # that a store may take to come back, for the last writes
ROUND: Final = 20_000  # actions drawn; then the same again, by others
TARGET_FIRST: Final = 7_000_000  # beyond the targets of traces, whose counts are checked
SOURCES: Final = 2**32  # of one round


class Surge:
    """Likes at a rate that may be changed while it runs, all through the public interface of the node."""

    def __init__(self, gs: Groundswell) -> None:
        self._gs = gs
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()  # of that task
        self.per_s = PER_S
        self.sent = 0

    @property
    def running(self) -> bool:
        """Whether it is at work."""
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Begin, or go on; does nothing while it runs."""
        if not self.running:
            self._stopping = asyncio.Event()
            self._task = asyncio.create_task(self._run(self._stopping), name="surge")

    async def stop(self) -> None:
        """End after what is under way, given up after `STOP_S`; does nothing while it does not run."""
        task, self._task = self._task, None
        if task is not None:
            self._stopping.set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(task, STOP_S)

    async def _run(self, stopping: asyncio.Event) -> None:
        writes = await asyncio.to_thread(_writes)
        owed, at_s = 0.0, time.monotonic()
        while not stopping.is_set():
            await asyncio.sleep(TICK_S)
            now_s = time.monotonic()
            owed, at_s = min(owed + (now_s - at_s) * self.per_s, BATCH_MAX), now_s
            batch = list(itertools.islice(writes, int(owed)))
            owed -= len(batch)
            if batch:
                await self._send(batch)
                self.sent += len(batch)

    async def _send(self, batch: list[Write]) -> None:
        session = self._gs.session()
        await insist(lambda: session.write(batch))


def _writes() -> Iterator[Write]:
    """The profile's actions without end: each round by sources that nobody was before."""
    drawn = profile.draw(profile.load(), actions=ROUND)
    first = secrets.randbelow(2**16)  # a store may have seen surges before
    return (
        Add(action.kind, TARGET_FIRST + int(action.target), number * SOURCES + int(action.source))
        for number in itertools.count(first)
        for action in drawn
    )
