"""Transactions that take their time, beside rollups of any size."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator
from typing import Any, Final, Self

import psycopg
import pytest

import groundswell
from clusters import Cluster, missing
from groundswell.model import Add, Write
from groundswell.revision import SessionToken
from groundswell.store import Batch, Changed
from groundswell.stores.postgres import direct
from groundswell.stores.postgres.server import Connection, conninfo
from groundswell.testing.base import ENOUGH, commit, drain, follow
from pg_load import COUNTED, Writer, stores
from pg_nodes import (
    KINDS,
    Slow,
    check_rollups,
    check_store,
    migrated,
    moves,
    on_both_queues,
    rows,
    until,
)

pytestmark = pytest.mark.anyio


class Late(Connection):
    """Knows what is committed before it writes, and then takes its time."""

    go: asyncio.Event

    @contextlib.asynccontextmanager
    async def pipeline(self) -> AsyncIterator[Any]:
        await self.go.wait()
        async with super().pipeline() as pipeline:
            yield pipeline

    @classmethod
    async def begin(cls, url: str, queue: Any, *writes: Write) -> tuple[Self, Any]:
        """Edges of several kinds; with the task that commits them once it may `go`."""
        connection = await cls.connect(conninfo(url), autocommit=True)
        connection.go = asyncio.Event()
        batches = [Batch(tuple(writes))]
        group = direct.Group.of(batches, KINDS)
        assert group is not None
        work = direct.commit(connection, queue, group, batches, now_ms=None, floor_ms=0)
        return connection, asyncio.create_task(work)


@on_both_queues
async def test_a_slow_transaction_is_counted_when_it_commits_neither_sooner_nor_never(
    cluster: Cluster, queue: str
) -> None:
    url = await migrated(cluster, queue)
    async with stores(url, 1) as [store]:
        done = [await commit(store, Add("like", 1, 0))]
        slow = await Slow.begin(url, queue, Add("like", 1, 1), Add("like", 2, 1))
        dropped = await Slow.begin(url, queue, Add("like", 1, 2))
        done += [await commit(store, Add("like", 1, n)) for n in range(10, 30)]
        for _ in range(3):  # a long backlog, in small steps
            rolled = await store.rollup(4)
            assert rolled is not None
            assert rolled.more
            assert slow.committed.xid is not None
            assert not rolled.revision.sees(slow.committed.xid)
        await slow.end(kept=True)
        await dropped.end(kept=False)
        done.append(slow.committed)
        done += [await commit(store, Add("like", 3, n)) for n in range(10)]
        bounded = await drain(store, 3)
        assert len(bounded) > 5
        found = (await store.counters([("like", 1), ("like", 2), ("like", 3)])).rows
        assert [row.counter.count for row in found] == [22, 1, 10]
        check_rollups(await follow(store), moves(done), COUNTED)
    await check_store(url)


@on_both_queues
async def test_transactions_of_any_length_between_rollups_of_any_size(
    cluster: Cluster, queue: str, seed: int
) -> None:
    """Random schedules, one step after the other."""
    rng = random.Random(seed)
    for _ in range(2):
        await _any_schedule(await migrated(cluster, queue), queue, rng)


async def _any_schedule(url: str, queue: str, rng: random.Random) -> None:
    writer = Writer(rng)
    slow: list[Slow] = []
    late: list[tuple[Late, Any]] = []
    sources = itertools.count(10_000)

    async def begin_slow() -> None:
        if len(slow) < 4:
            adds = [Add("like", t, next(sources)) for t in range(rng.randrange(1, 4))]
            slow.append(await Slow.begin(url, queue, *adds))

    async def end_slow() -> None:
        if slow:
            one, kept = slow.pop(rng.randrange(len(slow))), rng.random() < 0.8
            await one.end(kept=kept)
            writer.done += [one.committed] * kept

    async def begin_late() -> None:
        if len(late) < 2:
            n = next(sources)
            late.append(await Late.begin(url, queue, Add("like", 1, n), Add("reply", 1, n)))

    async def end_late() -> None:
        if late:
            connection, task = late.pop(rng.randrange(len(late)))
            connection.go.set()
            [committed], _ = await task
            await connection.close()
            writer.done.append(committed)

    async with stores(url, 1) as [store]:

        async def roll() -> None:
            await store.rollup(rng.choice((1, 2, 5, 20, ENOUGH)))

        async def rotate() -> None:
            rotated(url)

        steps = [begin_slow, end_slow, begin_late, end_late, roll, roll]
        if queue == "pgq":
            rows(url, AT_ANY_TIME)
            steps.append(rotate)
        for _ in range(250):
            if rng.random() < 0.5:
                await writer.write(store)
            else:
                await rng.choice(steps)()
        while slow or late:
            await end_slow()
            await end_late()
            await roll()
    await writer.check(url)


# --- PgQ's rotation -----------------------------------------------------------------------------

AT_ANY_TIME: Final = "SELECT pgq.set_queue_config('groundswell', 'rotation_period', '0')"


def rotated(url: str) -> int:
    """Let PgQ empty the oldest of its tables, if it takes that to be done with; which one is written."""
    rows(url, "SELECT pgq.maint_rotate_tables_step1('groundswell')")
    rows(url, "SELECT pgq.maint_rotate_tables_step2()")
    [[table]] = rows(url, "SELECT queue_cur_table FROM pgq.queue WHERE queue_name = 'groundswell'")
    return int(table)


@pytest.mark.skipif(bool(missing(pgq=True)), reason=missing(pgq=True) or "it is there")
async def test_a_backlog_worked_off_in_steps_is_not_rotated_away(cluster: Cluster) -> None:
    url = await migrated(cluster, "pgq")
    rows(url, AT_ANY_TIME)
    async with stores(url, 1) as [store]:
        done = [await commit(store, Add("like", n % 3, n)) for n in range(20)]
        during = set()
        while (rolled := await store.rollup(1)) is not None and rolled.more:
            during.add(rotated(url))
        # The table in which the backlog began stays; from there on they take turns.
        assert len(during) <= 2
        after = set()
        for n in range(20, 30):
            done.append(await commit(store, Add("like", n % 3, n)))
            await drain(store)
            after.add(rotated(url))
        assert after == {0, 1, 2}
        check_rollups(await follow(store), moves(done), COUNTED)
    await check_store(url)


# --- sessions that wrote in one -----------------------------------------------------------------

PATIENT: Final = "?options=-c%20lock_timeout%3D60s%20-c%20statement_timeout%3D60s"
_WAITS: Final = """
    SELECT FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND query ~ 'edge_like'
"""


@on_both_queues
async def test_a_session_sees_what_it_wrote_in_a_slow_transaction(
    cluster: Cluster, queue: str
) -> None:
    """Its id is older than much that a replica shows, and yet the replica does not show it."""
    url = await migrated(cluster, queue)
    late = {"replicas": 2, "replica_delay_ms": [0, 300]}
    patient = url + PATIENT
    async with groundswell.open(patient, **late) as gs, groundswell.open(url) as others:
        me, other = gs.session(), others.session()
        with psycopg.connect(url) as holder:
            holder.execute("INSERT INTO groundswell.edge_like VALUES (1, 1, now())")
            writing = asyncio.create_task(me.write([Add("follow", 1, 1), Add("like", 1, 1)]))
            await until(lambda: rows(url, _WAITS), "the commit at the lock")
            for source in range(10, 30):
                await other.add("follow", 1, source)
            assert (await other.count("follow", 1, level="linearizable")).value == 20
            shown = {0}
            while shown != {20}:  # by every replica
                shown = {
                    (await gs.session().count("follow", 1, level="eventual")).value
                    for _ in range(6)
                }
                await asyncio.sleep(0.001)
            async with stores(url, 1) as [store]:
                rolled = (await store.feed(0, 1)).latest.revision
            assert not writing.done()
            holder.rollback()
        assert await writing == [Changed(True)] * 2
        assert me.token is not None
        token = SessionToken.decode(me.token)
        [wrote] = token.writes
        assert wrote.xid < rolled.xmax - 1, "it was not slow"
        assert not rolled.sees(wrote.xid)
        assert token.pending(rolled) == {("follow", 1): (1, 0), ("like", 1): (1, 0)}
        # Before a replica shows it, while, and after: never less, never twice.
        pending = {0, 1}
        while pending != {0}:
            pending = set()
            for level in ("read_your_writes", "causal") * 3:
                count = await me.count("follow", 1, level=level, wait_ms=0, fallback="none")
                assert count.value == 21
                pending.add(count.pending)
            seen = await other.count("follow", 1, level="monotonic")
            assert seen.value in (20, 21)
            await asyncio.sleep(0.001)  # reads alone leave a node in this process no time
        assert (await other.count("follow", 1, level="linearizable")).value == 21
    await check_store(url)
