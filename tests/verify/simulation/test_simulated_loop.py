from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import pytest

from groundswell.verify.simulation.loop import Deadlock, Endless, Process, SimulatedLoop, run


def on(seed: int, work: Callable[[], Coroutine[Any, Any, Any]], **options: int) -> Any:
    loop = SimulatedLoop(Random(seed), **options)
    return run(work(), loop)


async def orders() -> list[int]:
    done: list[int] = []

    async def one(number: int) -> None:
        await asyncio.sleep(0)
        done.append(number)

    await asyncio.gather(*(one(number) for number in range(8)))
    return done


def test_a_year_takes_no_time() -> None:
    async def work() -> float:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await asyncio.sleep(365 * 86_400)
        return loop.time() - began_s

    began_s = time.monotonic()
    assert on(1, work) == pytest.approx(365 * 86_400)
    assert time.monotonic() - began_s < 5


def test_timers_ring_in_their_order_and_timeouts_work() -> None:
    async def work() -> list[float]:
        rang: list[float] = []
        loop = asyncio.get_running_loop()
        for after_s in (0.3, 0.1, 0.2):
            loop.call_later(after_s, rang.append, after_s)
        loop.call_later(0.15, rang.append, -1.0).cancel()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.Event().wait()
        return rang

    assert on(1, work) == [0.1, 0.2, 0.3]


def test_the_seed_gives_the_order() -> None:
    found = [on(seed, orders) for seed in range(20)]
    assert found == [on(seed, orders) for seed in range(20)]
    assert len({tuple(order) for order in found}) > 15


def test_a_deadlock_is_told() -> None:
    async def work() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock):
        on(1, work)


def test_a_run_without_an_end_is_told() -> None:
    async def work() -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(1)

    with pytest.raises(Endless):
        on(1, work, steps_max=1_000)


def test_an_error_comes_out_and_nothing_is_left() -> None:
    left: list[str] = []

    async def other() -> None:
        try:
            await asyncio.sleep(1_000)
        finally:
            left.append("gone")

    async def work() -> None:
        task = asyncio.create_task(other())
        await asyncio.sleep(1)
        assert not task.done()
        raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        on(1, work)
    assert left == ["gone"]


def test_a_process_takes_all_its_tasks_with_it() -> None:
    ended: list[str] = []

    async def sleeper(name: str) -> None:
        try:
            await asyncio.sleep(1_000)
        except asyncio.CancelledError:
            ended.append(name)
            raise

    async def parent() -> None:
        child = asyncio.create_task(sleeper("child"))
        await sleeper("parent")
        await child

    async def work() -> None:
        process = Process("node")
        process.spawn(parent())
        mine = asyncio.create_task(sleeper("mine"))
        await asyncio.sleep(1)
        process.kill()
        await asyncio.sleep(1)
        assert sorted(ended) == ["child", "parent"]
        assert not process.tasks
        mine.cancel()

    on(1, work)


def test_the_clock_of_histories_never_stands_still() -> None:
    loop = SimulatedLoop(Random(1))
    assert [loop.tick() - loop.tick() for _ in range(3)] == [-1, -1, -1]
    loop.close()
