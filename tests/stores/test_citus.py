"""The conformance suite on Citus, on one that was set up for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import pytest

import citus
from groundswell.kinds import Kinds
from groundswell.store import Store
from groundswell.stores.postgres import PostgresStore
from groundswell.testing import KINDS, StoreConformance, wall_ms


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
