"""Group commit: what arrives while a commit runs goes into the next one."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Final

from groundswell.errors import Overloaded, StoreUnavailable
from groundswell.kinds import Kinds
from groundswell.model import Add, Delete, Put, Remove, Tally
from groundswell.store import Batch, Committed, Refused, Store
from groundswell.telemetry import Telemetry

HALVED_MIN: Final = 64  # writes; measured, fewer gain nothing by being halved
LARGE: Final = 1_000  # writes from which on a group is worth a commit beside another one

_LABELS: Final = ("changed", "unchanged", "refused")

Waiting = tuple[Batch, "asyncio.Future[Committed]"]


class _Group:
    """Batches that are committed together."""

    def __init__(self, waiting: list[Waiting], size: int) -> None:
        self.waiting = waiting
        self.size = size  # writes
        self._touched: set[Hashable] | None = None

    @property
    def batches(self) -> list[Batch]:
        return [batch for batch, _ in self.waiting]

    def is_apart(self, other: _Group, kinds: Kinds) -> bool:
        """Whether the order of the two does not matter."""
        return self.touched(kinds).isdisjoint(other.touched(kinds))

    def touched(self, kinds: Kinds) -> set[Hashable]:
        """What its writes change, looked up once."""
        if self._touched is None:
            self._touched = set(_touched(self.batches, kinds))
        return self._touched


def _touched(batches: Iterable[Batch], kinds: Kinds) -> Iterable[Hashable]:
    """What the order of these writes matters for."""
    for batch in batches:
        for write in batch.writes:
            if isinstance(write, Add | Remove):
                # Of an exclusive kind the target itself is what sources compete for.
                source = None if kinds[write.kind].exclusive else write.source
                yield write.kind, write.target, source
            elif isinstance(write, Tally):
                if write.id is not None:
                    yield write.kind, write.target, write.id
            elif isinstance(write, Put | Delete):
                yield write.id
            else:
                yield None  # money, and what expires: all of it in one order


class Committer:
    """Puts batches of many callers into few transactions, in the order in which they came.

    The queue is bounded: beyond `queue_max` waiting writes a batch is refused as overloaded, at once.
    A second commit runs beside a large one where the store has room for it (`Store.commits_max`) and no
    edge, object or account is in both: what is written to the same thing stays in order.
    """

    def __init__(
        self,
        store: Store,
        kinds: Kinds,
        telemetry: Telemetry,
        *,
        group_max: int,
        queue_max: int,
        committed: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._kinds = kinds
        self._telemetry = telemetry
        self._group_max = group_max
        self._queue_max = queue_max
        self._committed = committed
        self._queue: deque[Waiting] = deque()
        self._queued = 0  # writes in the queue
        self._returning = 0  # writes of the group that was done last: as many may be back at once
        self._running: list[_Group] = []
        self._stuck = False  # the next group has to wait for the end of one that runs
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
        if not self._running or self._queued >= LARGE:
            self._arrived.set()
        return future

    async def run(self) -> None:
        """Commit until closed, then what is left."""
        async with asyncio.TaskGroup() as lanes:
            while self._queue or not self._closed:
                await self._arrived.wait()
                self._arrived.clear()
                while (group := self._next()) is not None:
                    lanes.create_task(self._lane(group))
                if self._closed:
                    break  # what is left is for the lanes that run
        await asyncio.sleep(0)  # for the last callers

    def close(self) -> None:
        """Refuse new batches; `run` ends when the accepted ones are committed."""
        self._closed = True
        self._arrived.set()

    async def _lane(self, group: _Group | None) -> None:
        """Commit one group after the other, as long as there is one that may begin."""
        while group is not None:
            try:
                await self._commit(group.waiting)
            finally:
                self._running.remove(group)
                self._stuck = False
            self._returning = group.size
            group = self._next()
            if self._queued >= LARGE:
                self._arrived.set()  # there may be work for another lane

    def _next(self) -> _Group | None:
        """The next group, where it may begin now."""
        if not self._queue or self._stuck:
            return None
        beside = self._running[0] if self._running else None
        if beside is not None and (
            len(self._running) >= self._store.commits_max or max(self._queued, beside.size) < LARGE
        ):
            return None
        group = self._take()
        if beside is not None and not all(
            group.is_apart(other, self._kinds) for other in self._running
        ):
            self._queue.extendleft(reversed(group.waiting))
            self._queued += group.size
            self._stuck = True
            return None
        self._running.append(group)
        return group

    def _take(self) -> _Group:
        """The oldest that wait; where they are many, no more than half of all who are about.

        The other half then sends, waits or is answered while the store works. Taken whole, they would
        all be in the store at once, and after that all here: one of the two always at rest.
        """
        about = self._queued + self._returning + sum(group.size for group in self._running)
        at_most = min(self._group_max, max(HALVED_MIN, (about + 1) // 2))
        queue = self._queue
        waiting = [queue.popleft()]
        size = len(waiting[0][0].writes)
        while queue:
            more = size + len(queue[0][0].writes)
            if more > at_most:
                break
            waiting.append(queue.popleft())
            size = more
        self._queued -= size
        return _Group(waiting, size)

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
