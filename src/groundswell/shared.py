"""Calls that arrive while a statement runs share the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Final, Generic, TypeVar

import msgspec

from groundswell.model import KEYS_MAX
from groundswell.store import Counters, Documents

PATIENCE_S: Final = 0.01  # longer than a statement takes nearby
ABREAST: Final = 4  # at once, where they take longer
COUNTERS_AT_ONCE: Final = 4 * KEYS_MAX  # in one statement
DOCUMENTS_AT_ONCE: Final = 100  # they may be large

K = TypeVar("K", bound=Hashable)
Q = TypeVar("Q")
R = TypeVar("R")
Rows = TypeVar("Rows", Counters, Documents)


class Shared(Generic[Q, R]):
    """Answers many calls at once, each by work that began after the call.

    A call waits for the work under way to end, but not for long: where that takes its time, as it does far
    from the store, the next begins beside it.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Q]], Awaitable[Callable[[Q], R]]],
        size: Callable[[Q], int],
        size_max: int,
    ) -> None:
        """`work` takes calls of up to `size_max` together (at least one) and returns each one's answer."""
        self._work = work
        self._size = size
        self._size_max = size_max
        self._waiting: list[tuple[Q, asyncio.Future[R]]] = []
        self._running: set[asyncio.Task[None]] = set()
        self._patience: asyncio.TimerHandle | None = None

    async def __call__(self, asked: Q) -> R:
        """The answer; the work's error is everybody's who waited for it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._waiting.append((asked, future))
        if not self._running:
            self._begin()
        elif self._patience is None:
            self._patience = loop.call_later(PATIENCE_S, self._end_patience)
        return await future

    def _begin(self) -> None:
        task = asyncio.create_task(self._run(), name="shared reads")
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _end_patience(self) -> None:
        self._patience = None
        if self._waiting and len(self._running) < ABREAST:
            self._begin()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if self._waiting and not task.cancelled():
            self._begin()

    async def _run(self) -> None:
        if group := self._take():
            await self._answer(group)

    def _take(self) -> list[tuple[Q, asyncio.Future[R]]]:
        taken, size = 0, 0
        for asked, _ in self._waiting:
            size += self._size(asked)
            if taken and size > self._size_max:
                break
            taken += 1
        group, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return group

    async def _answer(self, group: list[tuple[Q, asyncio.Future[R]]]) -> None:
        try:
            answer = await self._work([asked for asked, _ in group])
        except Exception as error:
            for _, future in group:
                if not future.done():
                    future.set_exception(error)
            return
        for asked, future in group:
            if future.done():
                continue
            try:
                future.set_result(answer(asked))
            except Exception as error:
                future.set_exception(error)


def shared_rows(
    read: Callable[[Sequence[K]], Awaitable[Rows]], at_once: int
) -> Shared[Sequence[K], Rows]:
    """Reads of rows by their keys: a statement asks for each once, an answer has those of its call."""

    async def work(group: Sequence[Sequence[K]]) -> Callable[[Sequence[K]], Rows]:
        asked = list(dict.fromkeys(key for keys in group for key in keys))
        found = await read(asked)
        rows = dict(zip(asked, found.rows, strict=True))
        return lambda keys: msgspec.structs.replace(found, rows=tuple(rows[key] for key in keys))

    return Shared(work, len, at_once)
