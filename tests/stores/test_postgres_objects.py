"""Objects on PostgreSQL that are put without a plan, beside others who put them too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from groundswell.model import Add, Delete, Put, Write
from groundswell.store import Batch, Stored
from groundswell.stores.postgres import PostgresStore, direct, migrate
from groundswell.testing.base import commit, drain, follow, json
from pg_nodes import KINDS, on_both_queues, rows, until

pytestmark = pytest.mark.anyio

HELD = (
    "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
)
FASTER = """
    UPDATE groundswell.object SET version = version + 1, data = '{"n":2}',
        xid = pg_current_xact_id()::text::bigint
    WHERE id = 'x' RETURNING xid"""


@pytest.fixture
async def store(database: str, queue: Any) -> AsyncIterator[PostgresStore]:
    await migrate(database, KINDS, queue=queue)
    opened = await PostgresStore.open(database, KINDS, idle_s=None)
    yield opened
    await opened.close()


@on_both_queues
async def test_a_version_that_tells_of_somebody_faster_comes_with_a_state_that_shows_them(
    database: str, store: PostgresStore
) -> None:
    await commit(store, Put("x", "t", json(n=1)), Put("y", "t", json(n=1)))
    for n, expected in ((3, Stored(3)), (2, Stored(4, changed=False))):
        with psycopg.connect(database) as other:
            [[xid]] = other.execute(FASTER.encode()).fetchall()
            waiting = asyncio.create_task(
                commit(store, Add("like", 1, n), Put("x", "t", json(n=n)), Put("y", "t", json(n=n)))
            )
            await until(lambda: rows(database, HELD), "the commit waits")
            other.commit()
        committed = await waiting
        assert committed.outcomes[1] == expected
        assert committed.seen.sees(xid)
        assert committed.xid is not None
        assert committed.seen.sees(committed.xid)


@on_both_queues
async def test_what_was_put_is_published_with_where_it_stands(
    database: str, store: PostgresStore
) -> None:
    await commit(store, Put("x", "t", json(n=1)), Put("gone", "t", json(n=1)), Delete("gone"))
    await drain(store)
    done = await commit(
        store,
        Put("x", "t", json(n=1)),  # as it stands
        Put("gone", "t", json(n=1)),
        Put("new", "t", json(n=1)),
        Add("like", 1, 1),
    )
    assert done.outcomes[:3] == (Stored(1, changed=False), Stored(3), Stored(1))
    nothing = await commit(store, Put("x", "t", json(n=1)))
    assert nothing.outcomes == (Stored(1, changed=False),)
    assert nothing.xid is None
    await drain(store)
    [published] = [r for r in await follow(store) if r.number == (await store.head()).rollup]
    found = {document.id: document for document in published.documents}
    assert {id_: document.version for id_, document in found.items()} == {"gone": 3, "new": 1}
    stored = await store.documents(["gone", "new", "x"])
    assert stored.rows[:2] == (found["gone"], found["new"])
    assert stored.rows[0] is not None
    assert stored.rows[0].xid == done.xid
    assert rows(database, "SELECT count(*) FROM groundswell.object WHERE version = 0") == [(0,)]


@pytest.mark.parametrize(
    ("writes", "planned"),
    [
        ([Put("x", "t", json()), Put("y", "t", json()), Add("like", 1, 1)], False),
        ([Put("x", "t", json()), Put("x", "t", json(n=1))], True),
        ([Put("x", "t", json(), 0)], True),
        ([Put("x", "t", json()), Delete("y")], True),
    ],
    ids=["each once", "one twice", "over a version", "with a removal"],
)
def test_what_needs_a_plan(writes: list[Write], planned: bool) -> None:
    batches = [Batch((write,)) for write in writes]
    assert (direct.Group.of(batches, KINDS) is None) == planned
    assert direct.Group.of(batches, KINDS, distributed=True) is None
