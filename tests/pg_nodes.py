"""PostgreSQL stores and nodes for tests, and what must hold for them whatever has happened."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import psycopg
import pytest

import nodes
from clusters import Cluster, missing
from groundswell.kinds import Kinds
from groundswell.model import Key, Write
from groundswell.store import Batch, Committed, Rollup
from groundswell.stores.postgres import PostgresStore, direct, migrate
from groundswell.stores.postgres.server import Connection, conninfo
from groundswell.testing.base import check_settled, follow

WAIT_S: Final = 60.0  # generous: the machine may be busy
KINDS: Final = Kinds()
KEPT: Final = 100_000  # rollups kept, so that the whole feed can be checked

on_both_queues = pytest.mark.parametrize(
    "queue",
    [
        pytest.param(
            "pgq", marks=[pytest.mark.skip(missing(pgq=True))] if missing(pgq=True) else []
        ),
        "outbox",
    ],
)


async def migrated(cluster: Cluster, queue: Any) -> str:
    """The URL of a new database with an empty store."""
    url = cluster.url(await asyncio.to_thread(cluster.create_database))
    await migrate(url, KINDS, queue=queue)
    return url


def named(url: str, application: str) -> str:
    """The URL for connections that the server knows by this name."""
    return f"{url}{'&' if '?' in url else '?'}application_name={application}"


async def until(check: Callable[[], object], what: str, *, within_s: float = WAIT_S) -> None:
    """Wait until `check`, called in a thread, says yes."""
    deadline_s = asyncio.get_running_loop().time() + within_s
    while not await asyncio.to_thread(check):
        assert asyncio.get_running_loop().time() < deadline_s, f"waited in vain: {what}"
        await asyncio.sleep(0.01)


def rows(url: str, sql: str, bound: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """The rows of a statement, run outside a transaction on a connection of its own."""
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
        done = connection.execute(sql.encode(), bound or None)
        return done.fetchall() if done.description is not None else []


@contextlib.contextmanager
def locked(url: str, table: str) -> Iterator[None]:
    """Nobody else gets at the table until the end."""
    with psycopg.connect(url) as other:
        other.execute(f"LOCK TABLE groundswell.{table}".encode())
        yield


@contextlib.contextmanager
def serving(
    folder: Path, name: str, url: str, *flags: str, **settings: str
) -> Iterator[nodes.Node]:
    """A node on the store at `url`, with files of its own; gone at the end, whatever happened."""
    (folder / name).mkdir()
    settings = {
        "store": named(url, name),
        "rollups_kept": str(KEPT),
        "log_level": "info",
    } | settings
    environment = {f"GROUNDSWELL_{key.upper()}": value for key, value in settings.items()}
    with nodes.running(folder / name, *flags, environment=environment) as node:
        yield node


@contextlib.contextmanager
def paused(node: nodes.Node) -> Iterator[None]:
    """Stand still in the block, wherever it is; it does not know afterwards."""
    os.kill(node.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(node.pid, signal.SIGCONT)


class Slow:
    """A commit that has written and queued, under an id of its own, and has not ended."""

    def __init__(self, connection: Connection, committed: Committed) -> None:
        self._connection = connection
        self.committed = committed

    @classmethod
    async def begin(cls, url: str, queue: Any, *writes: Write) -> Self:
        """Edges of one kind."""
        connection = await Connection.connect(conninfo(url))
        batches = [Batch(tuple(writes))]
        group = direct.Group.of(batches, KINDS)
        assert group is not None
        [committed], _ = await direct.commit(
            connection, queue, group, batches, now_ms=None, floor_ms=0
        )
        return cls(connection, committed)

    async def end(self, *, kept: bool) -> None:
        await (self._connection.commit() if kept else self._connection.rollback())
        await self._connection.close()


# --- what must hold -----------------------------------------------------------------------------


class Moved(NamedTuple):
    """What a transaction did to one count."""

    xid: int
    key: Key
    by: int


def moves(commits: Iterable[Committed]) -> list[Moved]:
    """What acknowledged commits did."""
    return [
        Moved(one.xid, (effect.kind, effect.target), effect.count)
        for one in commits
        if one.xid is not None
        for effect in one.effects
    ]


def check_rollups(rollups: Iterable[Rollup], moved: Iterable[Moved], kinds: set[str]) -> None:
    """After each rollup every count of `kinds` is that of the transactions in its revision, exactly."""
    waiting = list(moved)
    shown: Counter[Key] = Counter()
    due: Counter[Key] = Counter()
    for rollup in rollups:
        for change in rollup.counts:
            if change.kind in kinds:
                shown[change.kind, change.target] = change.count
        for one in waiting:
            if one.key[0] in kinds and rollup.revision.sees(one.xid):
                due[one.key] += one.by
        waiting = [one for one in waiting if not rollup.revision.sees(one.xid)]
        assert +shown == +due, f"rollup {rollup.number} at {rollup.revision}"
    assert not waiting, "never rolled up"


async def check_store(url: str, kind: str = "like") -> set[tuple[int, int]]:
    """Counters, feed and edges agree, at every rollup; the edges of `kind`, which was only added to.

    A row's xmin is the transaction that added it: so the truth at every rollup can be told later on.
    """
    store = await PostgresStore.open(url, KINDS, rollups_kept=KEPT, idle_s=None)
    try:
        keys = {(name, target) for name, target in rows(url, _KEYS)}
        await check_settled(store, [(k, t if k == "seat" else int(t)) for k, t in keys])
        edges = rows(url, f"SELECT target, source, xmin::text::bigint FROM groundswell.edge_{kind}")
        moved = [Moved(xid, (kind, target), 1) for target, _, xid in edges]
        check_rollups(await follow(store), moved, {kind})
        if store.queue == "outbox":
            assert rows(url, "SELECT FROM groundswell.event") == []
        return {(target, source) for target, source, _ in edges}
    finally:
        await store.close()


def eventual(node: nodes.Node, kind: str, target: int) -> int:
    """What a replica of the node counts."""
    answer = node.request("GET", f"/v1/counts/{kind}/{target}?consistency=eventual&fallback=none")
    assert answer.status == 200, answer
    assert answer.json["read"]["served_by"].startswith("replica-"), answer
    return int(answer.json["count"])


async def check_nodes(url: str, *running: nodes.Node) -> None:
    """Every node, asked at the strictest level and at the weakest, comes to the truth by itself."""
    truth = dict(rows(url, "SELECT target, count(*) FROM groundswell.edge_like GROUP BY target"))
    for node in running:
        for target, count in truth.items():
            assert await asyncio.to_thread(node.count, "like", target) == count
            await until(partial(shows, node, target, count), f"{count} likes of {target}")
        assert "Traceback" not in node.output()


def shows(node: nodes.Node, target: int, count: int) -> bool:
    """Whether a replica of the node counts so many likes."""
    return eventual(node, "like", target) == count


_KEYS: Final = """
    SELECT kind, target FROM groundswell.counter
    UNION SELECT 'like', target::text FROM groundswell.edge_like
    UNION SELECT 'follow', target::text FROM groundswell.edge_follow
    UNION SELECT 'reply', target::text FROM groundswell.edge_reply
"""
