"""The suites that every store and every replica has to pass, for those here and for those of others.

    import pytest
    from groundswell.testing import StoreConformance, StoreMachine

    class TestMyStore(StoreConformance):
        durable = True  # then `reopen` is needed too

        async def make(self, kinds, *, rollups_kept=1_000, now_ms=wall_ms):
            return await MyStore.open(empty_place(), kinds, rollups_kept=rollups_kept, now_ms=now_ms)

        async def reopen(self, store):
            ...  # close it, then open the same place again

    class MyMachine(StoreMachine):
        make = TestMyStore.make  # an async method, here too

    TestMyMachine = MyMachine.TestCase

`StoreConformance` states the promises of `groundswell.store` one by one. `StoreMachine` drives the store
and the reference model with the same random operations and compares every answer. Both see only the
contract. `ReplicaConformance` states those of `groundswell.replica`, and needs a `make` that takes the
store to be copied. They need the extra `groundswell[testing]`.
"""

import pytest

pytest.register_assert_rewrite(
    *(
        f"groundswell.testing.{name}"
        for name in (
            "accounts",
            "base",
            "batches",
            "claims",
            "edges",
            "feed",
            "holds",
            "items",
            "lists",
            "model",
            "objects",
            "replicas",
            "rollups",
            "together",
        )
    )
)

from groundswell.testing.base import KINDS, Clock, wall_ms  # noqa: E402
from groundswell.testing.model import StoreMachine  # noqa: E402
from groundswell.testing.replicas import ReplicaConformance  # noqa: E402
from groundswell.testing.stores import StoreConformance  # noqa: E402

__all__ = ["KINDS", "Clock", "ReplicaConformance", "StoreConformance", "StoreMachine", "wall_ms"]
