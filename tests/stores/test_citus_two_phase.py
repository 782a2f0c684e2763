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
from groundswell.model import Add, Put, Remove, Tally, Write
from groundswell.store import Window
from groundswell.stores.postgres import PostgresStore, citus, migrate
from groundswell.stores.postgres.server import Connection
from groundswell.testing import KINDS
from groundswell.testing.base import check_settled, commit, json

pytestmark = pytest.mark.anyio

TARGETS = range(1, 21)
KILLS = 4
LOOKS = 30
SOURCES = itertools.count(1)


def prepared() -> set[str]:
    """The transactions that were committed in two phases lately, by the names that Citus gave them."""
    return {gid for (gid,) in given.run("SELECT gid FROM pg_dist_transaction")}


def need_workers() -> None:
    if not given.run("SELECT FROM pg_dist_node WHERE groupid > 0"):
        pytest.skip("the shards are on the coordinator itself; add workers")


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(url, KINDS, idle_s=None)
    yield store
    await store.close()


@given.needed
async def test_a_write_on_one_shard_and_its_event_commit_in_two_phases() -> None:
    """Without the empty table Citus commits the shard first, and the event on the coordinator after it."""
    await given.fresh()
    need_workers()
    like = "INSERT INTO groundswell.edge_like (target, source, created_at) VALUES (1, {}, now())"
    event = "INSERT INTO groundswell.event (xid, seen, type) SELECT 1, pg_current_snapshot(), ''"
    before = prepared()
    given.run("BEGIN", like.format(1), event, "COMMIT")
    assert prepared() == before
    given.run("BEGIN", "DELETE FROM groundswell.two_phase", like.format(2), event, "COMMIT")
    assert len(prepared() - before) == 1


@given.needed
@pytest.mark.parametrize(
    "write",
    [
        Add("like", 1, 1),
        Add("rating", 1, 1, 2),
        Remove("like", 1, 1),
        Put("parcel", "parcel", json(stop="Hub")),
        Tally("view", 1, id="visit"),
    ],
    ids=lambda write: type(write).__name__,
)
async def test_every_commit_on_a_shard_is_in_two_phases(write: Write) -> None:
    async with opened(await given.fresh()) as store:
        need_workers()
        before = prepared()
        await commit(store, write)
        assert prepared() - before


@pytest.fixture
def servers() -> Iterator[given.Servers]:
    if reason := given.missing():
        pytest.skip(reason)
    made = given.Servers()
    yield made
    made.close()


async def behind(store: PostgresStore) -> int:
    """How often a list lacks what a count, read before it, has counted."""
    over = asyncio.Event()

    async def write() -> None:
        for source in SOURCES:
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


@pytest.mark.timeout(300)
async def test_who_has_seen_a_count_sees_the_edges_behind_it(
    servers: given.Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coordinator shows a commit before the shards do: seen without the gate, and never with it."""
    for worker in servers.nodes[1:]:  # a tenth of a second for what is committed there
        worker.execute("ALTER SYSTEM SET commit_delay = 100000")
        worker.execute("ALTER SYSTEM SET commit_siblings = 0")
        worker.execute("SELECT pg_reload_conf()")
    await migrate(servers.url, KINDS, distributed="citus")
    async with opened(servers.url) as store:
        assert await behind(store) == 0

        @contextlib.asynccontextmanager
        async def at_once(connection: Connection) -> AsyncIterator[None]:
            yield

        monkeypatch.setattr(citus, "still", at_once)
        while not await behind(store):
            pass  # until it is seen


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
