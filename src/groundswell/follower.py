"""Followers: each tails the change feed and keeps one replica up to date."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from groundswell.errors import ReplicaUnavailable, StoreUnavailable
from groundswell.replica import Replica
from groundswell.revision import Revision
from groundswell.store import Feed, Rollup, Source

log = logging.getLogger(__name__)

CHANGES_MAX: Final = 20_000  # in one answer of the feed: bounds the time the event loop is held
PROBES_MAX: Final = 1_000
EARLY_S: Final = 0.001  # by which a timer of uvloop, which counts milliseconds, may come too soon


class Tail:
    """The change feed of one source, asked once for all followers that ask for the same at once."""

    def __init__(self, source: Source, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._clock = clock
        self._asking: dict[int, asyncio.Task[tuple[float, Feed]]] = {}

    async def after(self, number: int) -> tuple[float, Feed]:
        """What follows rollup `number`, and when that was asked: at no time before the call."""
        task = self._asking.get(number)
        if task is None:
            task = self._asking[number] = asyncio.create_task(self._ask(number))
            # An error is not to be reported as unheard when all who waited have gone away.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    async def _ask(self, number: int) -> tuple[float, Feed]:
        del self._asking[number]  # whoever comes now comes too late
        asked_s = self._clock()
        return asked_s, await self._source.feed(number, CHANGES_MAX)


class Watch(Protocol):
    """Who wants to hear what becomes of a replica. Called between two reads, so it has to be quick."""

    def coming(self, rollup: Rollup) -> None:
        """The replica applies this next, before anything else runs: it still shows what was before."""

    def anew(self) -> None:
        """The replica has begun anew: there is no telling what happened in between."""


class Follower:
    """Feeds one replica, in order, and knows how old it may be.

    The age needs no wall clock: whoever asks the store at monotonic time t learns what was committed
    by then, and once the replica includes that, it was fresh at t. `delay_s` holds every answer of the
    store but the first back before it is applied, to imitate a replica that is far away.
    """

    def __init__(
        self,
        tail: Tail,
        replica: Replica,
        *,
        poll_s: float,
        delay_s: float = 0.0,
        moved: Callable[[], None] = lambda: None,
        watches: Sequence[Watch] = (),
    ) -> None:
        self._watches = watches
        self._tail = tail
        self.replica = replica
        #: How long every answer of the store is held back; what is on its way keeps its order.
        self.delay_s = delay_s
        self._poll_s = poll_s
        self._moved = moved
        self._wanted = asyncio.Event()
        self._fetched = -1  # the rollup asked after; -1: none, the first answer says where to begin
        self._epoch: int | None = None  # of what was fetched; None: nothing
        self._held_back: deque[tuple[float, Feed]] = deque()
        self._probes: deque[tuple[float, Revision]] = deque()  # (asked at, what there was)
        self._following = asyncio.Event()
        self._following.set()

    @property
    def following(self) -> bool:
        """Whether it asks the feed, or has been told to let its replica stand still."""
        return self._following.is_set()

    def halt(self) -> None:
        """Ask the feed no more; what is on its way still arrives. The replica stands still, and serves."""
        self._following.clear()

    def resume(self) -> None:
        """Go on where it was."""
        self._following.set()

    def notify(self) -> None:
        """There is a new rollup."""
        self._wanted.set()

    async def run(self) -> None:
        """Follow until cancelled. Goes on where it was when the store comes back."""
        failing = False  # said once, not at every try
        while True:
            await self._following.wait()
            self._wanted.clear()
            try:
                caught_up = await self.step()
            except (StoreUnavailable, ReplicaUnavailable) as error:
                if not failing:
                    log.warning("replica %s: %s", self.replica.name, error)
                failing = caught_up = True
            else:
                if failing:
                    log.warning("replica %s: it goes on", self.replica.name)
                failing = False
            if caught_up:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_s):  # see rollup
                        await self._wanted.wait()

    async def step(self) -> bool:
        """Ask the feed once; whether there was nothing more to ask for."""
        asked_s, feed = await self._tail.after(self._fetched)
        first = self._fetched < 0
        # Of another epoch the numbers say nothing, and a standby of it may show lower ones than this.
        begin_anew = feed.behind or feed.epoch != self._epoch
        number = feed.latest.number if begin_anew else self._fetched + len(feed.rollups)
        await self.replica.reach(feed.epoch, number)
        self._epoch, self._fetched = feed.epoch, number
        self._held_back.append((asked_s, feed))
        if self.delay_s and not first:
            asyncio.get_running_loop().call_later(self.delay_s + EARLY_S, self._apply)
        else:
            self._apply()
        return self._fetched >= feed.latest.number

    def _apply(self) -> None:
        asked_s, feed = self._held_back.popleft()
        if feed.behind or feed.epoch != self.replica.standing.epoch:
            self.replica.reset(feed.epoch, feed.latest)
            self._probes.clear()
            for watch in self._watches:
                watch.anew()
        else:
            for rollup in feed.rollups:
                if rollup.number <= self.replica.standing.rollup:
                    continue  # it began anew beyond this one
                for watch in self._watches:
                    watch.coming(rollup)
                self.replica.apply(rollup)
        if feed.head is not None:
            self._certify(asked_s, feed.head)
        self._moved()  # without a rollup too: it may be fresher, or of another epoch

    def _certify(self, asked_s: float, head: Revision) -> None:
        if self._probes and (self._probes[-1][1] == head or len(self._probes) == PROBES_MAX):
            self._probes.pop()
        self._probes.append((asked_s, head))
        fresh_at_s = -math.inf
        while self._probes and self.replica.standing.revision.includes(self._probes[0][1]):
            fresh_at_s = self._probes.popleft()[0]
        if fresh_at_s > self.replica.standing.fresh_at_s:
            self.replica.certify(fresh_at_s)
