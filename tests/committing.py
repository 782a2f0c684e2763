"""A committer at work on a store whose commits are let go one by one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from groundswell.committer import Committer
from groundswell.kinds import Kinds
from groundswell.model import Add
from groundswell.store import Batch, Committed
from groundswell.stores.memory import MemoryStore
from groundswell.telemetry import Telemetry


class HeldStore(MemoryStore):
    """A store whose commits run when they are let go, and fail as they are told to."""

    def __init__(self, commits_max: int) -> None:
        super().__init__(Kinds())
        self.commits_max = commits_max
        self.begun: list[list[Batch]] = []
        self.held = asyncio.Semaphore(0)
        self.failures: list[Exception] = []
        self.poison: tuple[Batch, Exception] | None = None

    async def commit(self, batches: Sequence[Batch]) -> list[Committed]:
        self.begun.append(list(batches))
        await self.held.acquire()
        if self.failures:
            raise self.failures.pop(0)
        if self.poison is not None and self.poison[0] in batches:
            raise self.poison[1]
        return await super().commit(batches)

    def let_go(self, commits: int = 1) -> None:
        for _ in range(commits):
            self.held.release()


class Rig:
    """A committer at work, and the callers that wait for it."""

    def __init__(self, group_max: int, queue_max: int, commits_max: int) -> None:
        self.store = HeldStore(commits_max)
        self.telemetry = Telemetry()
        self.notified = 0
        self.committer = Committer(
            self.store,
            Kinds(),
            self.telemetry,
            group_max=group_max,
            queue_max=queue_max,
            committed=self._committed,
        )

    def _committed(self) -> None:
        self.notified += 1

    async def submit(self, batch: Batch) -> asyncio.Task[Committed]:
        async def call() -> Committed:
            return await self.committer.submit(batch)

        task = asyncio.create_task(call())
        await settle()
        return task

    def metric(self, name: str, **labels: str) -> float | None:
        return self.telemetry.registry.get_sample_value(f"groundswell_{name}", labels)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def at_work(
    *, group_max: int = 100, queue_max: int = 1000, commits_max: int = 1
) -> AsyncIterator[Rig]:
    rig = Rig(group_max, queue_max, commits_max)
    running = asyncio.create_task(rig.committer.run())
    try:
        yield rig
    finally:
        rig.store.let_go(100)
        rig.committer.close()
        await asyncio.wait_for(running, 5)


def likes(*sources: int) -> Batch:
    return Batch(tuple(Add("like", 1, source) for source in sources))
