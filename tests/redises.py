"""Redis servers for tests, and replicas in them."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from groundswell.replicas.redis import RedisReplica
from groundswell.store import Store
from groundswell.verify.redises import RedisCluster, RedisServer, missing

__all__ = ["RedisCluster", "RedisServer", "clustered", "needs_redis", "replicas", "server"]

needs_redis = pytest.mark.skipif(bool(missing()), reason=missing() or "Redis is there")

PREFIX = "test"
_prefixes = itertools.count()


@contextlib.contextmanager
def server(folder: Path) -> Iterator[RedisServer]:
    """A server that runs."""
    made = RedisServer(folder)
    made.start()
    try:
        yield made
    finally:
        made.kill()


@contextlib.contextmanager
def clustered(folder: Path) -> Iterator[RedisCluster]:
    """A cluster that runs."""
    made = RedisCluster(folder)
    try:
        made.start()
        yield made
    finally:
        made.kill()


class Replicas:
    """Replicas at one place, closed in the end."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.made: list[RedisReplica] = []

    def make(self, store: Store, *, url: str | None = None, prefix: str = PREFIX) -> RedisReplica:
        """One more."""
        name = f"redis-{len(self.made)}"
        self.made.append(RedisReplica(name, url or self.url, prefix=prefix, store=store))
        return self.made[-1]


@contextlib.asynccontextmanager
async def replicas(url: str) -> AsyncIterator[Replicas]:
    made = Replicas(url)
    try:
        yield made
    finally:
        for replica in made.made:
            await replica.close()


def evict(servers: list[RedisServer], draw: random.Random, share: float = 0.3) -> int:
    """Delete some cells, as an eviction does; how many."""
    gone = 0
    for one in servers:
        keys = [key for key in one.ask("KEYS", "*") if key.count(":") > 2]
        for tag in {key.partition("}")[0] + "}" for key in keys}:  # of one slot
            chosen = [key for key in keys if key.startswith(tag) and draw.random() < share]
            gone += int(one.ask("DEL", *chosen)) if chosen else 0
    return gone
