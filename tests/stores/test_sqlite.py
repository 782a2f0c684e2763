from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings

from groundswell.kinds import Kinds
from groundswell.store import Store
from groundswell.stores.sqlite import SqliteStore
from groundswell.testing import KINDS, StoreConformance, StoreMachine, wall_ms


class TestSqliteStore(StoreConformance):
    durable = True

    @pytest.fixture(autouse=True)
    def places(self, tmp_path: Path) -> None:
        self.folder = tmp_path
        self.paths: list[tuple[SqliteStore, str]] = []

    async def make(
        self, kinds: Kinds, *, rollups_kept: int = 1_000, now_ms: Callable[[], int] = wall_ms
    ) -> SqliteStore:
        path = str(self.folder / f"{len(self.paths)}.db")
        store = SqliteStore(path, kinds, rollups_kept=rollups_kept, now_ms=now_ms)
        self.paths.append((store, path))
        return store

    async def reopen(self, store: Store) -> SqliteStore:
        [path] = [path for made, path in self.paths if made is store]
        await store.close()
        return await SqliteStore.open(path, KINDS)


class SqliteMachine(StoreMachine):
    folder: ClassVar[Path]

    async def make(
        self, kinds: Kinds, *, rollups_kept: int = 1_000, now_ms: Callable[[], int] = wall_ms
    ) -> SqliteStore:
        self._folder = tempfile.TemporaryDirectory()
        path = str(Path(self._folder.name) / "groundswell.db")
        return SqliteStore(path, kinds, rollups_kept=rollups_kept, now_ms=now_ms)

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "_folder"):
            self._folder.cleanup()


SqliteMachine.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
# A failure is made smaller for minutes.
TestSqliteMachine = pytest.mark.timeout(900)(SqliteMachine.TestCase)
