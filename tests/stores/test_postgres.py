"""The conformance suite and the state machine, on every PostgreSQL that is found, with both queues."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from clusters import Cluster, every
from groundswell.kinds import Kinds
from groundswell.stores.postgres import PostgresStore
from groundswell.testing import StoreMachine, wall_ms
from pg_conformance import Conformance, Databases


@every()
class TestPostgresOutbox(Conformance):
    queue = "outbox"


@every(pgq=True)
class TestPostgresPgq(Conformance):
    queue = "pgq"


class Machine(StoreMachine):
    databases: ClassVar[Databases]

    async def make(
        self, kinds: Kinds, *, rollups_kept: int = 1_000, now_ms: Callable[[], int] = wall_ms
    ) -> PostgresStore:
        return await PostgresStore.open(
            await self.databases.fresh(),
            kinds,
            rollups_kept=rollups_kept,
            now_ms=now_ms,
            idle_s=None,
        )


def _run_machine(cluster: Cluster, queue: str) -> None:
    class Placed(Machine):
        databases = Databases(cluster, queue)

    run_state_machine_as_test(
        Placed,
        settings=settings(
            max_examples=20,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(900)  # a failure is made smaller for minutes
@every()
def test_machine_outbox(cluster: Cluster) -> None:
    _run_machine(cluster, "outbox")


@pytest.mark.timeout(900)
@every(pgq=True)
def test_machine_pgq(cluster: Cluster) -> None:
    _run_machine(cluster, "pgq")
