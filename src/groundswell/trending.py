"""What grew most lately: kept from the change feed, within a bounded memory."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from groundswell.errors import StoreUnavailable
from groundswell.model import Id, Key
from groundswell.replica import Replica
from groundswell.store import CountChange, Rollup, Source

WINDOW_S_MAX: Final = 3600
STEP_S: Final = 10  # growth is summed up in steps of so long ..
FINE_S: Final = 300  # .. as far back as this; beyond, in steps of
COARSE_S: Final = 60
KEPT: Final = 500  # targets of one kind in one step; twice as many while it lasts
STRANGE_MAX: Final = 10_000  # targets whose past is still to be asked for
ASKED_MAX: Final = 1_000  # of them in one question
ASK_PAUSE_S: Final = 0.1


class Trend(msgspec.Struct, frozen=True):
    """A target that grew."""

    target: Id
    growth: int
    count: int  # after its last change


class Trends(msgspec.Struct, frozen=True):
    """What grew most in a window."""

    trends: list[Trend]
    since_s: float  # how long the feed has been watched without a gap
    exact: bool  # whether no growth in the window is unknown or was forgotten


class Step:
    """The growth of one kind's targets in a span of time: of all, or of those that grew most.

    Where there are more than it keeps, it is the space-saving idea (Metwally et al., "Efficient
    Computation of Frequent and Top-k Elements in Data Streams", 2005), many targets at a time: the
    least grown half is forgotten, and whoever comes afterwards is *owed* the most that a forgotten one
    can have had. That decides who stays, so that what grew much is not lost; it is never shown.
    """

    __slots__ = ("_floor", "_owed", "began_s", "doubts", "ends_s", "grown")

    def __init__(self, began_s: float, ends_s: float) -> None:
        self.began_s = began_s
        self.ends_s = ends_s
        self.grown: dict[Id, tuple[int, int]] = {}  # growth, and the count after the last change
        self.doubts = 0  # changes of unknown size; one more when growth was forgotten
        self._floor = 0
        self._owed: dict[Id, int] = {}

    def add(self, target: Id, growth: int, count: int) -> None:
        """`growth` more, by which it has reached `count`."""
        before = self.grown.get(target)
        if before is not None:
            self.grown[target] = (before[0] + growth, count)
            return
        if len(self.grown) >= 2 * KEPT:
            self.cut()
        if self._floor:
            self._owed[target] = self._floor
        self.grown[target] = (growth, count)

    def cut(self) -> None:
        """Forget all but the targets that moved most; a fall is remembered like a growth."""
        if len(self.grown) <= KEPT:
            return
        moved = {
            target: abs(growth) + self._owed.get(target, 0)
            for target, (growth, _) in self.grown.items()
        }
        ranked = heapq.nlargest(KEPT + 1, moved, key=moved.__getitem__)
        self.doubts += not self._floor
        self._floor = max(self._floor, moved[ranked.pop()])
        self.grown = {target: self.grown[target] for target in ranked}
        self._owed = {target: self._owed[target] for target in ranked if target in self._owed}

    def merge(self, later: Step) -> None:
        """Take over what a later step holds."""
        for target, (growth, count) in later.grown.items():
            self.add(target, growth, count)
        self.cut()
        self.doubts += later.doubts
        self.ends_s = later.ends_s


class History:
    """The last hour of one kind: fine steps, then coarse ones, the oldest first."""

    def __init__(self) -> None:
        self.before: dict[Id, tuple[int, int]] = {}  # what grew in the step before this
        self._newest = Step(0, 0)  # also when it is no longer a fine one
        self._fine: deque[Step] = deque()
        self._coarse: deque[Step] = deque()

    def step(self, now_s: float) -> Step:
        """The step that lasts now."""
        if self._newest.ends_s > now_s:
            return self._newest
        self._newest.cut()
        self.before = self._newest.grown
        self.age(now_s)
        began_s = now_s - now_s % STEP_S
        self._newest = Step(began_s, began_s + STEP_S)
        self._fine.append(self._newest)
        return self._newest

    def age(self, now_s: float) -> None:
        """Let go of the detail, and in the end of all, that is too old."""
        while self._fine and self._fine[0].ends_s <= now_s - FINE_S:
            step = self._fine.popleft()
            if not self._coarse or step.began_s >= self._coarse[-1].began_s + COARSE_S:
                began_s = step.began_s - step.began_s % COARSE_S
                self._coarse.append(Step(began_s, step.ends_s))
            self._coarse[-1].merge(step)
        while self._coarse and self._coarse[0].ends_s <= now_s - WINDOW_S_MAX:
            self._coarse.popleft()

    def within(self, window_s: float, now_s: float) -> Iterator[Step]:
        """The steps that reach into the window, the oldest first."""
        self.age(now_s)
        for steps in (self._coarse, self._fine):
            yield from (step for step in steps if step.ends_s > now_s - window_s)


class Trending:
    """Watches one replica, whose rows are the counts before a change (see `follower.Watch`).

    The feed carries absolute counts. Of a target that the replica does not hold, the count before is
    unknown: the store is asked, in the background and for many at once, whether it was born by this
    very change, and then it grew from nothing. Otherwise that one change is left out, and the answer
    is not exact as long as the window holds it. So a target never grows by what it had before.

    When the replica begins anew all is forgotten: what happened in between has no time and may belong
    to a history that was lost.
    """

    def __init__(
        self,
        source: Source,
        replica: Replica,
        kinds: Iterable[str],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self.replica = replica
        self._clock = clock
        self._kinds = list(kinds)
        self._wanted = asyncio.Event()
        self.anew()

    def anew(self) -> None:
        """See `follower.Watch`."""
        self._began_s = self._clock()
        self._began = self.replica.standing
        self._histories = {kind: History() for kind in self._kinds}
        self._strange: dict[Key, tuple[Step, int, int]] = {}  # where, at which rollup, which count

    def coming(self, rollup: Rollup) -> None:
        """See `follower.Watch`."""
        if not rollup.counts:
            return
        now_s = self._clock()
        before = self.replica.peek([(change.kind, change.target) for change in rollup.counts])
        kind, step, history = "", None, None
        for change, row in zip(rollup.counts, before, strict=True):
            if change.kind != kind:  # seldom: rollups are in the order of their keys
                kind = change.kind
                history = self._histories.get(kind)  # none where only another node has declared it
                step = None if history is None else history.step(now_s)
            if step is None or history is None:
                continue
            target, count = change.target, change.count
            if row is not None:
                step.add(target, count - row.count, count)
            elif (seen := step.grown.get(target) or history.before.get(target)) is not None:
                # The replica has forgotten it, we have not.
                step.add(target, count - seen[1], count)
            else:
                self._meet(step, change, rollup.number)

    def _meet(self, step: Step, change: CountChange, number: int) -> None:
        step.add(change.target, 0, change.count)
        step.doubts += 1
        if len(self._strange) < STRANGE_MAX:
            self._strange[change.kind, change.target] = (step, number, change.count)
            self._wanted.set()

    def top(self, kind: str, window_s: float, limit: int) -> Trends:
        """The targets of a declared kind that grew most, by growth, then by target.

        A window begins where a step does, so it may reach back by one step more.
        """
        now_s = self._clock()
        grown: dict[Id, tuple[int, int]] = {}
        doubts = 0
        for step in self._histories[kind].within(window_s, now_s):
            doubts += step.doubts
            for target, (growth, count) in step.grown.items():
                grown[target] = (grown.get(target, (0, 0))[0] + growth, count)
        rising = [
            (-growth, target, count) for target, (growth, count) in grown.items() if growth > 0
        ]
        trends = [
            Trend(target, -fall, count) for fall, target, count in heapq.nsmallest(limit, rising)
        ]
        return Trends(trends, now_s - self._began_s, not doubts)

    async def run(self) -> None:
        """Ask about strangers until cancelled."""
        while True:
            await self._wanted.wait()
            with contextlib.suppress(StoreUnavailable):  # their first change stays unknown
                await self.ask()
            await asyncio.sleep(ASK_PAUSE_S)

    async def ask(self) -> None:
        """Ask the store about some of the strangers."""
        self._wanted.clear()
        strange, self._strange = self._strange, {}
        for key in list(strange)[ASKED_MAX:]:
            self._strange[key] = strange.pop(key)
        if self._strange:
            self._wanted.set()
        if not strange:
            return
        began = self._began
        read = await self._source.counters(list(strange))
        if read.epoch != began.epoch or began is not self._began:
            return
        for (key, (step, number, count)), row in zip(strange.items(), read.rows, strict=True):
            if row.born == number:
                step.doubts -= 1
                step.add(key[1], count, step.grown.get(key[1], (0, count))[1])
