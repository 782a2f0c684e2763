from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from groundswell import wiring
from groundswell.config import Settings
from groundswell.kinds import Kinds
from groundswell.model import Add
from groundswell.node import Node
from groundswell.replicas.memory import MemoryReplica
from groundswell.store import Batch, Committed
from groundswell.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio


class BusyStore(MemoryStore):
    """A store that rolls up between any two questions."""

    async def backlog(self) -> int:
        await self.rollup(10**6)
        return await super().backlog()


async def test_who_sees_that_nothing_waits_sees_the_rollup_of_it() -> None:
    store = BusyStore(Kinds())
    node = Node(store, Kinds(), [(MemoryReplica("replica-a", bytes_max=2**20), 0.0)])
    await store.commit([Batch((Add("like", 1, 1),))])
    status = await node.status()
    assert (status.backlog, status.rollup) == (0, 1)
    await store.commit([Batch((Add("like", 1, 2),))])
    metrics = (await node.metrics()).decode()
    assert "groundswell_backlog_events 0.0" in metrics
    assert "groundswell_rollup_number 2.0" in metrics


class AdvisingStore(MemoryStore):
    """A store that advises three writes to a commit, and knows how many each had."""

    group_max = 3
    sizes: list[int]

    async def commit(self, batches: Sequence[Batch]) -> list[Committed]:
        self.sizes.append(sum(len(batch.writes) for batch in batches))
        return await super().commit(batches)


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        (Settings(store="memory://"), [3, 3, 3, 1]),
        (Settings(store="memory://", group_max=4), [4, 4, 2]),
        (Settings(store="memory://", group_max=2), [2, 2, 2, 2, 2]),
    ],
    ids=["unset", "more", "less"],
)
async def test_commits_are_as_large_as_the_store_advises_or_the_settings_say(
    settings: Settings, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AdvisingStore, "sizes", [], raising=False)
    monkeypatch.setattr(wiring, "MemoryStore", AdvisingStore)
    async with wiring.node(settings) as node:
        await asyncio.gather(*(node.write([Add("like", 1, n)]) for n in range(10)))
    assert AdvisingStore.sizes == sizes
