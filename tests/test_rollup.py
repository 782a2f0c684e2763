from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

import pytest

from groundswell.errors import StoreUnavailable
from groundswell.kinds import Kinds
from groundswell.model import Add
from groundswell.revision import Revision
from groundswell.rollup import RollupWorker
from groundswell.store import Batch, Rolled
from groundswell.stores.memory import MemoryStore
from groundswell.telemetry import Telemetry

pytestmark = pytest.mark.anyio


class HeldStore(MemoryStore):
    """A store whose rollups run when they are let go, and fail as they are told to."""

    def __init__(self) -> None:
        super().__init__(Kinds())
        self.begun = 0
        self.rolled: list[Rolled | None] = []
        self.held = asyncio.Semaphore(0)
        self.failures: list[Exception] = []
        self.refill = False  # whether somebody writes as fast as it rolls up
        self.sources = 0

    async def like(self, times: int = 1) -> None:
        for _ in range(times):
            self.sources += 1
            await self.commit([Batch((Add("like", self.sources, self.sources),))])

    async def rollup(self, events_max: int) -> Rolled | None:
        self.begun += 1
        await self.held.acquire()
        if self.failures:
            raise self.failures.pop(0)
        rolled = await super().rollup(events_max)
        self.rolled.append(rolled)
        if self.refill:
            await self.like()
        return rolled

    def let_go(self, rollups: int = 1) -> None:
        for _ in range(rollups):
            self.held.release()

    @property
    def revision(self) -> Revision:
        return self._rolled.revision


class Rig:
    def __init__(
        self, *, events_max: int, pause_s: float, poll_s: float, clock: Callable[[], float]
    ) -> None:
        self.store = HeldStore()
        self.telemetry = Telemetry()
        self.heard = 0
        self.worker = RollupWorker(
            self.store,
            self.telemetry,
            events_max=events_max,
            pause_s=pause_s,
            poll_s=poll_s,
            rolled=self._rolled,
            clock=clock,
        )
        self.running: asyncio.Task[None] | None = None

    def _rolled(self) -> None:
        self.heard += 1

    async def cover(self) -> asyncio.Task[None]:
        task = asyncio.create_task(self.worker.cover())
        await settle()
        return task


async def settle() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


async def until(true: Callable[[], bool]) -> None:
    for _ in range(1000):
        if true():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to pass")


@contextlib.asynccontextmanager
async def at_work(
    *,
    events_max: int = 100,
    pause_s: float = 9.0,
    poll_s: float = 9.0,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Rig]:
    """A worker that does nothing unless it is told to, or its pauses are set short."""
    rig = Rig(events_max=events_max, pause_s=pause_s, poll_s=poll_s, clock=clock)
    rig.running = asyncio.create_task(rig.worker.run())
    await settle()
    try:
        yield rig
    finally:
        rig.running.cancel()
        await asyncio.wait([rig.running], timeout=5)


async def test_it_rolls_up_soon_after_it_is_told_to() -> None:
    async with at_work() as rig:
        await rig.store.like(3)
        rig.store.let_go()
        assert rig.store.begun == 0
        rig.worker.notify()
        await settle()
        assert rig.store.revision == Revision.upto(3)
        assert rig.heard == 1
        assert rig.telemetry.registry.get_sample_value("groundswell_rollup_events_sum") == 3


async def test_it_pauses_between_two_rollups_so_that_each_folds_many_commits() -> None:
    async with at_work() as rig:
        rig.store.let_go(10)
        await rig.store.like()
        rig.worker.notify()
        await settle()
        await rig.store.like(5)
        rig.worker.notify()
        await settle()
        assert rig.store.begun == 1


async def test_after_the_pause_it_folds_what_came_meanwhile() -> None:
    async with at_work(pause_s=0.01) as rig:
        rig.store.let_go(10)
        await rig.store.like()
        rig.worker.notify()
        await settle()
        await rig.store.like(5)
        rig.worker.notify()
        await until(lambda: rig.store.revision == Revision.upto(6))
        assert rig.store.begun == 2


async def test_another_nodes_rollup_counts_as_the_last_one() -> None:
    """Many nodes on one store together make no more rollups than one would."""
    now_s = [0.0]
    async with at_work(pause_s=0.02, clock=lambda: now_s[0]) as rig:
        rig.store.let_go(10)
        await rig.store.like()
        for _ in range(5):
            rig.worker.heard()
            rig.worker.notify()
            now_s[0] += 0.01
            await asyncio.sleep(0.03)  # it looks at the clock again
            assert rig.store.begun == 0
        now_s[0] += 0.01
        await until(lambda: rig.store.revision == Revision.upto(1))


async def test_it_notices_what_other_processes_commit() -> None:
    async with at_work(pause_s=0, poll_s=0.01) as rig:
        rig.store.let_go(1000)
        await rig.store.like()
        await until(lambda: rig.store.revision == Revision.upto(1))


async def test_a_cover_does_not_wait_for_the_pause() -> None:
    async with at_work() as rig:
        rig.store.let_go(10)
        for xid in range(1, 4):
            await rig.store.like()
            await asyncio.wait_for(rig.worker.cover(), 1)
            assert rig.store.revision == Revision.upto(xid)


async def test_a_cover_returns_only_after_its_rollup() -> None:
    async with at_work() as rig:
        await rig.store.like()
        covered = await rig.cover()
        assert (rig.store.begun, covered.done()) == (1, False)
        rig.store.let_go()
        await covered


async def test_covers_that_wait_together_share_one_rollup_that_began_after_each() -> None:
    async with at_work() as rig:
        await rig.store.like()
        first = await rig.cover()
        await rig.store.like()
        later = [await rig.cover() for _ in range(5)]
        rig.store.let_go()
        await first
        await settle()
        assert [cover.done() for cover in later] == [False] * 5, "it began before they came"
        assert rig.store.begun == 2
        rig.store.let_go()
        await asyncio.gather(*later)
        assert rig.store.begun == 2
        assert rig.store.revision.sees(2)


async def test_a_cover_with_nothing_to_fold_returns() -> None:
    async with at_work() as rig:
        rig.store.let_go()
        await asyncio.wait_for(rig.worker.cover(), 1)
        assert rig.heard == 0


async def test_a_cancelled_cover_does_not_break_the_others() -> None:
    async with at_work() as rig:
        await rig.store.like()
        covers = [await rig.cover() for _ in range(3)]
        covers[0].cancel()
        covers[1].cancel()
        rig.store.let_go(2)
        await asyncio.wait_for(covers[2], 1)


async def test_a_backlog_is_worked_off_in_bounded_steps() -> None:
    async with at_work(events_max=10) as rig:
        await rig.store.like(95)
        rig.store.let_go(100)
        await asyncio.wait_for(rig.worker.cover(), 1)
        folded = [rolled.events for rolled in rig.store.rolled if rolled]
        assert folded == [10] * 9 + [5]
        assert rig.heard == 10


async def test_a_cover_ends_although_somebody_writes_as_fast_as_it_rolls_up() -> None:
    async with at_work(events_max=1) as rig:
        await rig.store.like(5)
        rig.store.refill = True
        rig.store.let_go(20)
        await asyncio.wait_for(rig.worker.cover(), 1)
        assert rig.store.revision.sees(5)
        assert len(rig.store.rolled) <= 7


async def test_what_a_cover_left_over_is_folded_without_being_asked() -> None:
    async with at_work(events_max=1, pause_s=0) as rig:
        await rig.store.like(5)
        rig.store.refill = True
        rig.store.let_go(7)
        await asyncio.wait_for(rig.worker.cover(), 1)
        rig.store.refill = False
        rig.store.let_go(20)
        await until(lambda: rig.store.revision == Revision.upto(rig.store.sources))


async def test_an_outage_reaches_those_who_wait_and_ends_with_the_store_back() -> None:
    async with at_work(poll_s=0.01) as rig:
        await rig.store.like()
        rig.store.failures = [StoreUnavailable("gone")] * 100
        rig.store.let_go(200)
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await asyncio.wait_for(rig.worker.cover(), 1)
        rig.store.failures.clear()
        await asyncio.wait_for(rig.worker.cover(), 1)
        assert rig.store.revision == Revision.upto(1)


async def test_an_outage_halfway_through_a_backlog_fails_the_cover() -> None:
    async with at_work(events_max=1, poll_s=0.01) as rig:
        await rig.store.like(3)
        covered = await rig.cover()
        rig.store.let_go()
        await settle()
        rig.store.failures = [StoreUnavailable("gone")]
        rig.store.let_go()
        with pytest.raises(StoreUnavailable):
            await covered


async def test_an_unexpected_error_ends_the_worker_and_is_typed_for_those_who_wait() -> None:
    async with at_work() as rig:
        rig.store.failures = [RuntimeError("a bug")]
        rig.store.let_go()
        with pytest.raises(StoreUnavailable, match="a bug"):
            await asyncio.wait_for(rig.worker.cover(), 1)
        assert rig.running is not None
        with pytest.raises(RuntimeError, match="a bug"):
            await rig.running


async def test_who_waits_when_the_worker_is_stopped_hears_of_it() -> None:
    async with at_work() as rig:
        during, after = await rig.cover(), await rig.cover()
    for cover in (during, after):
        with pytest.raises(StoreUnavailable):
            await asyncio.wait_for(cover, 1)


async def test_after_the_worker_has_ended_nobody_waits_for_it() -> None:
    async with at_work() as rig:
        pass
    with pytest.raises(StoreUnavailable, match="has ended"):
        await asyncio.wait_for(rig.worker.cover(), 1)


# --- told to stand still --------------------------------------------------------------------------


async def test_a_halted_worker_begins_no_rollup_until_it_goes_on() -> None:
    async with at_work(pause_s=0, poll_s=0.01) as rig:
        rig.store.let_go(100)
        rig.worker.halt()
        assert not rig.worker.working
        await asyncio.sleep(0.03)
        begun = rig.store.begun
        await rig.store.like(3)
        rig.worker.notify()
        await asyncio.sleep(0.05)
        assert rig.store.begun == begun
        rig.worker.resume()
        assert rig.worker.working
        await until(lambda: rig.store.revision == Revision.upto(3))


async def test_who_waits_for_a_halted_worker_is_told() -> None:
    async with at_work() as rig:
        waiting = await rig.cover()
        later = await rig.cover()  # the first has begun a rollup that is held
        rig.worker.halt()
        rig.store.let_go(1)
        with pytest.raises(StoreUnavailable, match="stand still"):
            await later
        await waiting
        with pytest.raises(StoreUnavailable, match="stand still"):
            await rig.worker.cover()
