"""Calls that arrive while a statement runs share the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Q = TypeVar("Q")
R = TypeVar("R")


class Shared(Generic[Q, R]):
    """Answers many calls at once, each by work that began after the call."""

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
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, asked: Q) -> R:
        """The answer; the work's error is everybody's who waited for it."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="shared reads")
        return await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._answer(self._take())
        finally:
            self._running = None

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
