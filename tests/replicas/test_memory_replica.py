from __future__ import annotations

from groundswell.replicas.memory import MemoryReplica
from groundswell.store import Store
from groundswell.testing import ReplicaConformance


class TestMemoryReplica(ReplicaConformance):
    async def make(self, store: Store) -> MemoryReplica:
        return MemoryReplica("a", bytes_max=10**7)
