"""A commit and its event are one transaction, wherever its edges are; no list is behind a count."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Iterator

import pytest

import citus as given
from groundswell.errors import StoreUnavailable
from groundswell.model import Add
from groundswell.store import Window
from groundswell.stores.postgres import PostgresStore, citus, migrate
from groundswell.stores.postgres.server import Connection
from groundswell.testing import KINDS
from groundswell.testing.base import check_settled, commit

pytestmark = pytest.mark.anyio

TARGETS = range(1, 21)
KILLS = 4
LOOKS = 300


def prepared() -> set[str]:
    """The transactions that were committed in two phases lately, by the names that Citus gave them."""
    return {gid for (gid,) in given.run("SELECT gid FROM pg_dist_transaction")}


async def nothing(connection: Connection) -> None:
    """In place of what every commit does first."""


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(url, KINDS, idle_s=None)
    yield store
    await store.close()


@given.needed
async def test_a_like_and_its_event_commit_in_two_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Although the like is on one shard alone; without the empty table Citus would use one phase."""
    async with opened(await given.fresh()) as store:
        if not given.run("SELECT FROM pg_dist_node WHERE groupid > 0"):
            pytest.skip("the shards are on the coordinator itself; add workers")
        for target in TARGETS:
            before = prepared()
            await commit(store, Add("like", target, 1))
            assert len(prepared() - before) == 1
        monkeypatch.setattr(citus, "begin", nothing)
        for target in TARGETS:
            before = prepared()
            await commit(store, Add("like", target, 2))
            assert not prepared() - before


async def behind(store: PostgresStore) -> int:
    """How often a list lacks what a count, read before it, has counted."""
    over = asyncio.Event()

    async def write() -> None:
        for source in itertools.count(1):
            if over.is_set():
                return
            await commit(store, *(Add("like", target, source) for target in TARGETS))

    writing, found = asyncio.create_task(write()), 0
    for look in range(LOOKS):
        target = TARGETS[look % len(TARGETS)]
        current = await store.current([("like", target)])
        page = await store.edges("like", target, Window(limit=1_000))
        assert current is not None
        found += len(page.edges) < min(current[0][0].count, 1_000)
    over.set()
    await writing
    return found


@given.needed
async def test_who_has_seen_a_count_sees_the_edges_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The coordinator shows a commit before the shards do: seen without the gate, and never with it."""
    async with opened(await given.fresh()) as store:
        assert await behind(store) == 0

    @contextlib.asynccontextmanager
    async def at_once(connection: Connection) -> AsyncIterator[None]:
        yield

    monkeypatch.setattr(citus, "still", at_once)
    async with opened(await given.fresh()) as store:
        assert await behind(store) > 0


@pytest.fixture
def servers() -> Iterator[given.Servers]:
    if reason := given.missing():
        pytest.skip(reason)
    made = given.Servers()
    yield made
    made.close()


@pytest.mark.timeout(300)
async def test_a_coordinator_that_is_killed_leaves_no_edge_without_its_event(
    servers: given.Servers, seed: int
) -> None:
    """Each like is on one shard, its event on the coordinator, which is killed again and again."""
    drawn = random.Random(seed)
    await migrate(servers.url, KINDS, distributed="citus")
    acknowledged: set[tuple[int, int]] = set()
    sources = itertools.count(1)

    async def write(store: PostgresStore) -> None:
        with contextlib.suppress(StoreUnavailable):
            while True:
                target, source = drawn.choice(TARGETS), next(sources)
                await commit(store, Add("like", target, source))
                acknowledged.add((target, source))

    for _ in range(KILLS):
        async with opened(servers.url) as store:
            writing = [asyncio.create_task(write(store)) for _ in range(4)]
            await asyncio.sleep(drawn.uniform(0.5, 1.5))
            await asyncio.to_thread(servers.coordinator.kill)
            await asyncio.gather(*writing)
        await asyncio.to_thread(servers.coordinator.start)
    servers.run("SELECT recover_prepared_transactions()")
    stored = servers.run("SELECT target, source FROM groundswell.edge_like")
    assert acknowledged <= set(stored)
    async with opened(servers.url) as store:
        await check_settled(store, [("like", target) for target in TARGETS])
