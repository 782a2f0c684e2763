"""An event loop on virtual time: the next timer is always now, and the seed orders what is ready."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from asyncio.base_events import BaseEventLoop
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any, Final, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

STEPS_MAX: Final = 1_000_000
BEGAN_NS: Final = 1_000 * 10**9


class Deadlock(RuntimeError):
    """Nothing is ready, and no timer will ever make anything ready."""


class Endless(RuntimeError):
    """The run has taken more steps than it was allowed."""


class Process:
    """Tasks that live and die together, as those of one program do; tasks that they start belong to it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.tasks: dict[asyncio.Task[Any], None] = {}

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start it within this process."""
        context = copy_context()
        context.run(_PROCESS.set, self)
        return asyncio.get_running_loop().create_task(work, context=context)

    def kill(self) -> None:
        """Cancel all its tasks, wherever they are."""
        self.alive = False
        for task in list(self.tasks):
            task.cancel()


_PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class _Task(asyncio.Task[T]):
    """Hashes by its number and not by its address, so that sets of tasks have an order."""

    _numbers = itertools.count()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._number = next(self._numbers)
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class SimulatedLoop(BaseEventLoop):
    """Runs callbacks in an order drawn from `rng`; time stands still while anything is ready."""

    _ready: Any
    _scheduled: Any

    def __init__(self, rng: Random, *, steps_max: int = STEPS_MAX) -> None:
        super().__init__()
        self._rng = rng
        self._now_ns = BEGAN_NS
        self.steps_left = steps_max
        _Task._numbers = itertools.count()
        self.set_task_factory(_make_task)

    def time(self) -> float:
        """Virtual seconds."""
        return self._now_ns / 1e9

    def tick(self) -> int:
        """Virtual nanoseconds, later at every call: a clock for histories."""
        self._now_ns += 1
        return self._now_ns

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """As the one it replaces, without its checks: most of a run goes through here."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def get_debug(self) -> bool:
        """Never: a simulation is looked into by its seed."""
        return False

    def _run_once(self) -> None:
        scheduled, ready = self._scheduled, self._ready
        if scheduled:
            if not ready:
                self._now_ns = max(self._now_ns + 1, round(self._next_s() * 1e9))
            now_s = self._now_ns / 1e9
            while scheduled and scheduled[0]._when <= now_s:
                self._ring(heapq.heappop(scheduled))
        if not ready and not scheduled:
            raise Deadlock("nothing is ready, and no timer is set")
        self.steps_left -= len(ready)
        if self.steps_left < 0:
            raise Endless("the run does not come to an end")
        handles = list(ready)
        ready.clear()
        if len(handles) > 1:
            self._rng.shuffle(handles)
        for handle in handles:
            if not handle._cancelled:
                handle._run()

    def _next_s(self) -> float:
        """When the next timer that nobody has cancelled rings; now if there is none."""
        scheduled = self._scheduled
        while scheduled and scheduled[0]._cancelled:
            self._ring(heapq.heappop(scheduled))
        return scheduled[0]._when if scheduled else 0.0

    def _ring(self, timer: Any) -> None:
        timer._scheduled = False
        if timer._cancelled:
            self._timer_cancelled_count = max(0, self._timer_cancelled_count - 1)
        else:
            self._ready.append(timer)

    _timer_cancelled_count = 0

    def _process_events(self, event_list: Any) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody sleeps."""


def _make_task(loop: asyncio.AbstractEventLoop, work: Any, **kwargs: Any) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = _Task(work, loop=loop, **kwargs)
    process = kwargs["context"].get(_PROCESS) if kwargs.get("context") else _PROCESS.get()
    if process is not None:
        process.tasks[task] = None
        task.add_done_callback(process.tasks.pop)
    return task


def run(work: Coroutine[Any, Any, T], loop: SimulatedLoop) -> T:
    """The result of `work`, after which everything that is left over is cancelled, and the loop closed."""
    try:
        return loop.run_until_complete(work)
    finally:
        loop.steps_left = STEPS_MAX
        try:
            while left := asyncio.all_tasks(loop):
                for task in left:
                    task.cancel()
                loop.run_until_complete(asyncio.wait(left))
        finally:
            loop.close()
