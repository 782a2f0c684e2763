"""The spike of a demo node ends after what is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from groundswell.demo import surge
from groundswell.demo.surge import PER_S_MAX, Surge
from groundswell.errors import Unavailable
from groundswell.model import Write
from groundswell.session import Groundswell

pytestmark = pytest.mark.anyio


class SlowNode:
    """Takes writes, and answers when it is let; or says for ever that it cannot."""

    def __init__(self, *, down: bool = False) -> None:
        self.taken = 0
        self.called = asyncio.Event()
        self.let = asyncio.Event()
        self._down = down

    def session(self) -> SlowNode:
        return self

    async def write(self, writes: Sequence[Write]) -> list[Any]:
        self.called.set()
        if self._down:
            raise Unavailable("The store is away.")
        await self.let.wait()
        self.taken += len(writes)
        return []


def spike(node: SlowNode) -> Surge:
    made = Surge(cast("Groundswell", node))
    made.per_s = PER_S_MAX
    made.start()
    return made


async def test_what_is_under_way_is_written_and_counted() -> None:
    node = SlowNode()
    running = spike(node)
    await asyncio.wait_for(node.called.wait(), 30)
    stopping = asyncio.create_task(running.stop())
    await asyncio.sleep(0.05)
    assert not stopping.done()
    assert not running.running
    node.let.set()
    await stopping
    assert running.sent == node.taken > 0


async def test_a_store_that_stays_away_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surge, "STOP_S", 0.05)
    node = SlowNode(down=True)
    running = spike(node)
    await asyncio.wait_for(node.called.wait(), 30)
    await asyncio.wait_for(running.stop(), 30)
    assert running.sent == 0
