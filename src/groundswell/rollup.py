"""The rollup worker: folds the queue into counters, again and again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable
from typing import Final

from groundswell.errors import StoreUnavailable
from groundswell.store import Rolled, Store
from groundswell.telemetry import Telemetry

log = logging.getLogger(__name__)

_ENDED: Final = "The rollup worker of this node has ended. Ask another node."
_HALTED: Final = "The rollup worker of this node was told to stand still. Ask another node."


class RollupWorker:
    """Runs rollups soon after commits, and at once for reads that have to see everything.

    Any number of workers may run on one store: the store folds each event once, whoever asks.
    """

    def __init__(
        self,
        store: Store,
        telemetry: Telemetry,
        *,
        events_max: int,
        pause_s: float,
        poll_s: float,
        rolled: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._store = store
        self._telemetry = telemetry
        self._events_max = events_max
        self._pause_s = pause_s  # between two rollups, so that each folds many commits
        self._poll_s = poll_s  # how soon commits of other processes are noticed
        self._rolled = rolled
        self._wanted = asyncio.Event()
        self._urgent = asyncio.Event()
        self._waiters: list[asyncio.Future[None]] = []
        self._ended = False
        self._working = asyncio.Event()
        self._working.set()
        self._rolled_at_s = -math.inf  # when a rollup was last heard of

    def notify(self) -> None:
        """There is something to fold."""
        self._wanted.set()

    @property
    def working(self) -> bool:
        """Whether it folds what is queued, or has been told to stand still."""
        return self._working.is_set()

    def halt(self) -> None:
        """Begin no more rollup: what is committed stays in the queue. Whoever waits for one is told."""
        self._working.clear()
        waiters, self._waiters = self._waiters, []
        _settle(waiters, StoreUnavailable(_HALTED))

    def resume(self) -> None:
        """Go on with what has piled up."""
        self._working.set()

    def heard(self) -> None:
        """A rollup was made just now, perhaps by another node: the next one need not follow at once."""
        self._rolled_at_s = self._clock()

    async def cover(self) -> None:
        """Return once a rollup includes everything committed before the call.

        All calls that wait at the same time share one rollup, which began after each of them.
        Raises StoreUnavailable where there will be none.
        """
        if self._ended or not self.working:
            raise StoreUnavailable(_ENDED if self._ended else _HALTED)
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._wanted.set()
        self._urgent.set()
        await waiter

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            await self._work()
        finally:
            self._ended = True
            _settle(self._waiters, StoreUnavailable(_ENDED))

    async def _work(self) -> None:
        failing = False  # said once, not at every try
        while True:
            await _wait(self._wanted, self._poll_s)
            while (left_s := self._rolled_at_s + self._pause_s - self._clock()) > 0:
                if self._urgent.is_set():
                    break
                await _wait(self._urgent, left_s)
            await self._working.wait()
            self._wanted.clear()
            self._urgent.clear()
            waiters, self._waiters = self._waiters, []
            try:
                await self._round()
            except StoreUnavailable as error:
                if not failing:
                    log.warning("rollup: %s", error)
                failing = True
                _settle(waiters, error)
                await asyncio.sleep(self._poll_s)
            except BaseException as error:
                _settle(waiters, StoreUnavailable(f"The rollup failed: {error!r}."))
                raise
            else:
                if failing:
                    log.warning("rollup: the store is back")
                failing = False
                self.heard()
                _settle(waiters, None)

    async def _round(self) -> None:
        """Fold what was queued when it began; what is added meanwhile may stay for the next round."""
        goal = None
        while (rolled := await self._roll()) and rolled.more:
            if goal is None:
                goal = (await self._store.head()).revision
            elif rolled.revision.includes(goal):
                break
        if rolled and rolled.more:
            self._wanted.set()

    async def _roll(self) -> Rolled | None:
        started_s = time.perf_counter()
        rolled = await self._store.rollup(self._events_max)
        if rolled is not None:
            self._telemetry.rollup_seconds.observe(time.perf_counter() - started_s)
            self._telemetry.rollup_events.observe(rolled.events)
            self._rolled()
        return rolled


def _settle(waiters: list[asyncio.Future[None]], error: Exception | None) -> None:
    for waiter in waiters:
        if not waiter.done():
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):  # wait_for can swallow a cancellation before 3.12
            await event.wait()
