from __future__ import annotations

import pytest

from groundswell.kinds import Kinds
from groundswell.model import Add
from groundswell.node import Node
from groundswell.replicas.memory import MemoryReplica
from groundswell.store import Batch
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
