"""The conformance suite on PostgreSQL: where its stores come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from clusters import Cluster
from groundswell.kinds import Kinds
from groundswell.store import Store
from groundswell.stores.postgres import PostgresStore, migrate
from groundswell.testing import KINDS, StoreConformance, wall_ms


class Databases:
    """Fresh migrated databases, copied from one that is migrated once per server and queue."""

    made: ClassVar[dict[tuple[int, str], str]] = {}

    def __init__(self, cluster: Cluster, queue: Any) -> None:
        self._cluster = cluster
        self._queue = queue

    async def fresh(self) -> str:
        """The URL of an empty store that knows KINDS."""
        template = self.made.get((self._cluster.port, self._queue))
        if template is None:
            template = self._cluster.create_database()
            await self._migrate(self._cluster.url(template))
            self.made[self._cluster.port, self._queue] = template
        return self._cluster.url(self._cluster.create_database(template=template))

    async def _migrate(self, url: str) -> None:
        await migrate(url, KINDS, queue=self._queue)


class Conformance(StoreConformance):
    durable = True
    queue: ClassVar[str]

    @pytest.fixture(autouse=True)
    def places(self, cluster: Cluster) -> None:
        self.databases = Databases(cluster, self.queue)
        self.urls: list[tuple[Store, str]] = []

    async def make(
        self, kinds: Kinds, *, rollups_kept: int = 1_000, now_ms: Callable[[], int] = wall_ms
    ) -> PostgresStore:
        url = await self.databases.fresh()
        store = await PostgresStore.open(
            url, kinds, rollups_kept=rollups_kept, now_ms=now_ms, idle_s=None
        )
        self.urls.append((store, url))
        return store

    async def reopen(self, store: Store) -> PostgresStore:
        [url] = [url for made, url in self.urls if made is store]
        await store.close()
        return await PostgresStore.open(url, KINDS, idle_s=None)
