"""Group commit: what arrives while a commit runs goes into the next one."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from groundswell.errors import Overloaded, StoreUnavailable
from groundswell.store import Batch, Committed, Refused, Store
from groundswell.telemetry import Telemetry

_LABELS: Final = ("changed", "unchanged", "refused")

Waiting = tuple[Batch, "asyncio.Future[Committed]"]


class Committer:
    """Puts batches of many callers into few transactions, in the order in which they came.

    The queue is bounded: beyond `queue_max` waiting writes a batch is refused as overloaded, at once.
    """

    def __init__(
        self,
        store: Store,
        telemetry: Telemetry,
        *,
        group_max: int,
        queue_max: int,
        committed: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._telemetry = telemetry
        self._group_max = group_max
        self._queue_max = queue_max
        self._committed = committed
        self._queue: deque[Waiting] = deque()
        self._queued = 0  # writes in the queue
        self._arrived = asyncio.Event()
        self._closed = False
        self._outcomes = {label: telemetry.writes.labels(label) for label in _LABELS}

    def submit(self, batch: Batch) -> asyncio.Future[Committed]:
        """Commit the batch with whatever else is waiting; the future is done once it is durable.

        Raises Overloaded, or StoreUnavailable once closed: nothing was changed. The future may hold a
        StoreUnavailable: it may have happened. A caller that is cancelled while it waits leaves its batch
        in the queue.
        """
        if self._closed:
            raise StoreUnavailable("This node is stopping; nothing was changed. Ask another one.")
        size = len(batch.writes)
        if self._queued and self._queued + size > self._queue_max:
            self._telemetry.overloaded.inc(size)
            raise Overloaded(
                f"{self._queued} writes are waiting already; nothing was changed. Try again later."
            )
        future: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        self._queue.append((batch, future))
        self._queued += size
        self._arrived.set()
        return future

    async def run(self) -> None:
        """Commit until closed, then what is left."""
        while self._queue or not self._closed:
            await self._arrived.wait()
            if self._queue:
                await self._commit(self._take())
            elif not self._closed:
                self._arrived.clear()
        await asyncio.sleep(0)  # for the last callers

    def close(self) -> None:
        """Refuse new batches; `run` ends when the accepted ones are committed."""
        self._closed = True
        self._arrived.set()

    def _take(self) -> list[Waiting]:
        queue = self._queue
        group = [queue.popleft()]
        size = len(group[0][0].writes)
        while queue:
            more = size + len(queue[0][0].writes)
            if more > self._group_max:
                break
            group.append(queue.popleft())
            size = more
        self._queued -= size
        return group

    async def _commit(self, group: list[Waiting]) -> None:
        started_s = time.perf_counter()
        try:
            results = await self._store.commit([batch for batch, _ in group])
        except StoreUnavailable as error:
            for _, future in group:
                _fail(future, error)
        except Exception as error:
            # The store took nothing of it. One batch must not take the others down with it.
            if len(group) == 1:
                _fail(group[0][1], error)
            else:
                for one in group:
                    await self._commit([one])
        else:
            # Soon, and not now: the store gets the next group first, and works while callers go on.
            took_s = time.perf_counter() - started_s
            asyncio.get_running_loop().call_soon(self._answer, group, results, took_s)

    def _answer(
        self, group: Sequence[Waiting], results: Sequence[Committed], seconds: float
    ) -> None:
        for (_, future), result in zip(group, results, strict=True):
            if not future.done():
                future.set_result(result)
        self._measure(results, seconds)
        self._committed()

    def _measure(self, results: Sequence[Committed], seconds: float) -> None:
        changed = unchanged = refused = 0
        for result in results:
            for outcome in result.outcomes:
                if isinstance(outcome, Refused):
                    refused += 1
                elif outcome.changed:
                    changed += 1
                else:
                    unchanged += 1
        for label, times in zip(_LABELS, (changed, unchanged, refused), strict=True):
            if times:
                self._outcomes[label].inc(times)
        self._telemetry.commit_writes.observe(changed + unchanged + refused)
        self._telemetry.commit_seconds.observe(seconds)


def _fail(future: asyncio.Future[Committed], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
