"""Readers and buyers of the demonstration go on where a node refuses, and take it for no anomaly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any, cast

import pytest

import groundswell
from groundswell.demo import writers
from groundswell.demo.buyers import Buyer, Shop
from groundswell.demo.readers import Reader
from groundswell.demo.tally import Tally
from groundswell.demo.trace import Action, Message
from groundswell.demo.truth import Truth
from groundswell.errors import StoreUnavailable
from groundswell.model import Level
from groundswell.session import Groundswell
from pg_nodes import until

pytestmark = pytest.mark.anyio


class Shaky:
    """A node of whose calls one in five does nothing, and one in five loses the answer."""

    def __init__(self, gs: Groundswell, rng: Random) -> None:
        self._gs = gs
        self._rng = rng

    def session(self) -> Shaky:
        return Shaky(cast("Groundswell", self._gs.session()), self._rng)

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **options: Any) -> Any:
            chance = self._rng.random()
            if chance < 0.2:
                raise StoreUnavailable("Nothing was done.")
            answer = await getattr(self._gs, name)(*args, **options)
            if chance > 0.8:
                raise StoreUnavailable("Nobody knows what was done.")
            return answer

        return call


@pytest.fixture
async def shaky(seed: int, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Groundswell]:
    monkeypatch.setattr(writers, "RETRY_S", 0.001)
    async with groundswell.open("memory://") as gs:
        yield cast("Groundswell", Shaky(gs, Random(seed)))


async def watch(watcher: Reader | Buyer, enough: Callable[[], bool]) -> None:
    task = asyncio.create_task(watcher.run())
    await until(lambda: task.done() or enough(), "that it has done enough")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled(), task.exception()


async def test_a_reader_that_is_refused_reads_on(shaky: Groundswell) -> None:
    truth = Truth([Action(0, "like", 1, 1, "add")])
    truth.replies.append(Message(0, 2, 1, 1))
    tally = Tally()
    level = Level.LINEARIZABLE
    reader = Reader(shaky, level, 0, truth, tally, seed=1, seen=lambda count: None)
    await watch(reader, lambda: tally.reads > 200)
    assert (tally.missed_own_write, tally.went_backwards, tally.stale_reads) == (0, 0, 0)


async def test_a_buyer_that_is_refused_buys_on(shaky: Groundswell) -> None:
    tally, shop = Tally(), Shop(Level.LINEARIZABLE)
    await shop.open(shaky)
    buyer = Buyer(shaky, Level.LINEARIZABLE, shop, tally)
    await watch(buyer, lambda: tally.reads > 100 and shop.sold > 0 and shop.late > 0)
    assert (shop.double_spent, shop.oversold, shop.guarded) == (0, 0, 0)
