"""The conformance suite on Citus, on one that was set up for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import pytest

import citus
from groundswell.errors import StoreUnusable
from groundswell.kinds import Kind, Kinds
from groundswell.model import Add
from groundswell.store import Store
from groundswell.stores.postgres import PostgresStore, migrate
from groundswell.testing import KINDS, StoreConformance, wall_ms
from groundswell.testing.base import commit

pytestmark = pytest.mark.anyio


class Conformance(StoreConformance):
    durable = True
    queue: ClassVar[str]

    async def make(
        self, kinds: Kinds, *, rollups_kept: int = 1_000, now_ms: Callable[[], int] = wall_ms
    ) -> PostgresStore:
        url = await citus.fresh(self.queue)
        return await PostgresStore.open(
            url, kinds, rollups_kept=rollups_kept, now_ms=now_ms, idle_s=None
        )

    async def reopen(self, store: Store) -> PostgresStore:
        await store.close()
        return await PostgresStore.open(citus.DSN, KINDS, idle_s=None)

    @pytest.mark.skip("needs two stores at once; the one database that is given holds one")
    async def test_every_store_has_an_identity_of_its_own(self) -> None: ...


@citus.needed
class TestCitusOutbox(Conformance):
    queue = "outbox"


@citus.needed
class TestCitusPgq(Conformance):
    queue = "pgq"


async def test_a_server_without_citus_is_refused(database: str) -> None:
    with pytest.raises(StoreUnusable, match="no Citus"):
        await migrate(database, KINDS, distributed="citus")
    await migrate(database, KINDS)  # nothing of it was made


@citus.needed
async def test_a_store_that_was_made_without_citus_is_refused() -> None:
    citus.drop()
    await migrate(citus.DSN, KINDS, queue="outbox")
    with pytest.raises(StoreUnusable, match="made without"):
        await migrate(citus.DSN, KINDS, distributed="citus")


@citus.needed
async def test_kinds_that_are_declared_later_are_distributed_too() -> None:
    url = await citus.fresh(kinds=Kinds([Kind(name="like")]))
    with pytest.raises(StoreUnusable, match="migrate"):
        await PostgresStore.open(url, KINDS)
    await migrate(url, KINDS)
    store = await PostgresStore.open(url, KINDS)
    await commit(store, Add("rating", 1, 1, 2), Add("like", 1, 1))
    await store.close()


@citus.needed
async def test_shards_that_are_added_make_commits_larger() -> None:
    url = await citus.fresh()
    store = await PostgresStore.open(url, KINDS, idle_s=None)
    assert store.group_max == 20_000
    await store.close()
    citus.run(
        "SELECT alter_distributed_table('groundswell.edge_like', shard_count := 16, "
        "cascade_to_colocated := false)"
    )
    store = await PostgresStore.open(url, KINDS, idle_s=None)
    assert store.group_max == 40_000
    await store.close()


@citus.needed
async def test_a_kind_that_gives_up_its_lists_by_source_moves_with_its_edges() -> None:
    listed = Kinds([Kind(name="like", inverse=True)])
    url = await citus.fresh(kinds=listed)
    store = await PostgresStore.open(url, listed)
    await commit(store, Add("like", 1, 1))
    await store.close()
    await migrate(url, KINDS)
    store = await PostgresStore.open(url, KINDS)
    assert (await store.edge("like", 1, 1))[0]
    await store.close()
    with pytest.raises(StoreUnusable, match="lists by source"):
        await PostgresStore.open(url, listed)
