"""What every replica promises, by those in one Redis and in a cluster of six processes."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

from groundswell.replica import Replica
from groundswell.replicas.redis import RedisReplica
from groundswell.store import Store
from groundswell.testing import ReplicaConformance
from redises import RedisCluster, RedisServer, Replicas, evict, needs_redis, replicas


class InRedis(ReplicaConformance):
    servers: list[RedisServer]
    replicas: Replicas

    async def make(self, store: Store) -> RedisReplica:
        return self.replicas.make(store)

    async def forget(self, replica: Replica) -> None:
        evict(self.servers, random.Random(0), 1.0)

    async def lose(self, replica: Replica, draw: random.Random) -> None:
        evict(self.servers, draw)


@needs_redis
class TestOneServer(InRedis):
    @pytest.fixture(autouse=True)
    async def at(self, one_server: RedisServer) -> AsyncIterator[None]:
        self.servers = [one_server]
        async with replicas(one_server.url) as self.replicas:
            yield


@needs_redis
class TestCluster(InRedis):
    @pytest.fixture(autouse=True)
    async def at(self, one_cluster: RedisCluster) -> AsyncIterator[None]:
        self.servers = one_cluster.masters()
        async with replicas(one_cluster.url) as self.replicas:
            yield
