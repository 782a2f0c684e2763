"""What a crash of PostgreSQL does to commits, on purpose, and why it does no harm here."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import psycopg
import pytest

from clusters import Cluster, Installation
from groundswell.errors import StoreUnavailable
from groundswell.model import Add
from groundswell.store import Batch
from groundswell.stores.postgres import PostgresStore
from pg_nodes import KINDS, check_store, migrated, named, on_both_queues, rows, until

pytestmark = pytest.mark.anyio

_WAITS = "SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'store'"
_WRITERS = """
    SELECT pid FROM pg_stat_activity
    WHERE backend_type IN ('walwriter', 'background writer', 'checkpointer')
"""
_ASYNC = "ALTER DATABASE \"{}\" SET synchronous_commit = 'off'"


async def crashed(cluster: Cluster) -> None:
    """Kill it and start it again."""
    await asyncio.to_thread(cluster.kill)
    await asyncio.to_thread(cluster.start)


async def opened(url: str) -> PostgresStore:
    return await PostgresStore.open(named(url, "store"), KINDS, idle_s=None)


def like(source: int) -> list[Batch]:
    return [Batch((Add("like", 1, source),))]


@on_both_queues
async def test_a_commit_that_waited_for_a_standby_is_there_after_a_crash(
    installation: Installation, queue: Any
) -> None:
    """Nobody was told that it happened, no standby has it, and yet it is there: so it was unknown."""
    with Cluster(installation, in_memory=True) as cluster:
        url = await migrated(cluster, queue)
        store = await opened(url)
        try:
            await store.commit(like(1))
            cluster.execute("ALTER SYSTEM SET synchronous_standby_names = 'nosuch'")
            cluster.execute("SELECT pg_reload_conf()")
            await until(
                lambda: cluster.execute("SHOW synchronous_standby_names") == [("nosuch",)], "it"
            )
            cluster.execute("CHECKPOINT")  # whose process lets commits wait once it hears of it
            commit = asyncio.create_task(store.commit(like(2)))
            await until(lambda: rows(url, _WAITS), "the commit waits for a standby")
            cluster.execute("ALTER SYSTEM RESET synchronous_standby_names")  # from the start on
            await crashed(cluster)
            with pytest.raises(StoreUnavailable):
                await commit
            assert rows(url, "SELECT source FROM groundswell.edge_like ORDER BY 1") == [(1,), (2,)]
            # Whoever sends it again is told that it had happened, and it counts once.
            [again] = await until_there(store, like(2))
            assert [outcome.changed for outcome in again.outcomes] == [False]
        finally:
            await store.close()
        assert await check_store(url) == {(1, 1), (1, 2)}


async def until_there(store: PostgresStore, batches: list[Batch]) -> Any:
    """What comes of a commit, once the store has found its server again."""
    for _ in range(200):
        try:
            return await store.commit(batches)
        except StoreUnavailable:
            await asyncio.sleep(0.05)
    raise AssertionError("the store does not find its server again")


@on_both_queues
async def test_what_was_read_can_be_lost_where_commits_do_not_wait_for_the_disk_and_ours_do(
    installation: Installation, queue: Any
) -> None:
    """In a database whose default it is: a commit that was read is gone after a crash, a like is not."""
    with Cluster(installation, in_memory=True) as cluster:
        url = await migrated(cluster, queue)
        rows(url, "CREATE TABLE seen (n int)")
        cluster.execute(_ASYNC.format(url.rpartition("/")[2]))
        store = await opened(url)
        try:
            await until_there(store, like(1))
            writers = [pid for (pid,) in rows(url, _WRITERS)]
            for pid in writers:  # they would write it to the disk, when it suits them
                os.kill(pid, signal.SIGSTOP)
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("INSERT INTO seen VALUES (1)")
            assert rows(url, "SELECT n FROM seen") == [(1,)]
            for pid in writers:
                os.kill(pid, signal.SIGKILL)
            await crashed(cluster)
            assert rows(url, "SELECT n FROM seen") == []
            await until_there(store, like(2))
        finally:
            await store.close()
        assert await check_store(url) == {(1, 1), (1, 2)}
