"""What the design takes for granted about PostgreSQL and PgQ, each seen on a real server.

Where PostgreSQL does what one would not expect, the test shows it first, and then that it does no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import psycopg
import pytest

from clusters import Cluster, Installation, every, missing
from groundswell.fills import Fills
from groundswell.follower import Follower, Tail
from groundswell.model import Add, Key, Put
from groundswell.replicas.memory import MemoryReplica
from groundswell.revision import Revision
from groundswell.store import Committed, Window
from groundswell.stores.postgres import PostgresStandby, PostgresStore
from groundswell.stores.postgres.snapshots import parse
from groundswell.testing.base import ENOUGH, commit, drain, json
from pg_nodes import KINDS, Slow, check_store, migrated, moves, on_both_queues, rows, until

pytestmark = pytest.mark.anyio

SIZE: Final = 1 << 20


class Pair(NamedTuple):
    primary: Cluster
    standby: Cluster

    def standby_url(self, url: str) -> str:
        """The same database on the standby."""
        return self.standby.url(urlsplit(url).path[1:])


@pytest.fixture(scope="module")
def pair(installation: Installation) -> Iterator[Pair]:
    """A primary and a streaming standby, for tests that leave them as they were."""
    with Cluster(installation, in_memory=True) as primary:
        yield Pair(primary, primary.standby())


@contextlib.contextmanager
def threads(*jobs: Any) -> Iterator[threading.Event]:
    """Each job in a thread of its own, called with an event that says that it is over."""
    over, failed = threading.Event(), []

    def run(job: Any) -> None:
        try:
            job(over)
        except BaseException as error:
            failed.append(error)

    running = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in running:
        thread.start()
    try:
        yield over
    finally:
        over.set()
        for thread in running:
            thread.join()
    assert not failed, failed


# --- snapshots on the primary -------------------------------------------------------------------

WRITERS: Final = 6
TRANSACTIONS: Final = 60  # of each writer


class Ended(NamedTuple):
    """A committed transaction: it began after `began_s`, and was acknowledged at `ended_s`."""

    xid: int
    began_s: float
    ended_s: float


@every()
def test_snapshots_on_the_primary_are_in_line_and_respect_acknowledgement(
    pair: Pair, seed: int
) -> None:
    """Of two of them one includes the other, and whoever sees B sees all acknowledged before B began."""
    pair.primary.execute("CREATE TABLE fact (n int)")
    ended: list[Ended] = []
    snapshots: list[Revision] = []

    def write(rng: random.Random) -> None:
        with psycopg.connect(pair.primary.url(), autocommit=True) as connection:
            for _ in range(TRANSACTIONS):
                began_s = time.monotonic()
                connection.execute("BEGIN")
                if rng.random() < 0.3:  # before it has an id: one's own is missing in it
                    snapshots.append(snapshot(connection))
                connection.execute("INSERT INTO fact VALUES (1)")
                if rng.random() < 0.3:
                    connection.execute("SAVEPOINT s")
                    connection.execute("INSERT INTO fact VALUES (2)")  # with an id of its own
                    connection.execute("ROLLBACK TO s" if rng.random() < 0.5 else "RELEASE s")
                [xid] = (
                    connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone() or ()
                )
                if rng.random() < 0.2:
                    time.sleep(rng.uniform(0, 0.02))  # others come and go meanwhile
                if rng.random() < 0.2:
                    connection.execute("ROLLBACK")
                    continue
                connection.execute("COMMIT")
                ended.append(Ended(xid, began_s, time.monotonic()))

    def look(over: threading.Event) -> None:
        with psycopg.connect(pair.primary.url(), autocommit=True) as connection:
            while not over.is_set():
                snapshots.append(snapshot(connection))

    rng = random.Random(seed)
    writers = [
        threading.Thread(target=write, args=(random.Random(rng.random()),)) for _ in range(WRITERS)
    ]
    with threads(look, look):
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
    pair.primary.execute("DROP TABLE fact")

    distinct = sorted(set(snapshots), key=lambda s: (s.xmax, -len(s.xip)))
    assert len(distinct) > 100
    assert sum(len(s.xip) > 1 for s in distinct) > 20, "nothing overlapped"
    for before, after in itertools.pairwise(distinct):
        assert after.includes(before), (before, after)
    for state in distinct:
        unseen = [one.ended_s for one in ended if not state.sees(one.xid)]
        seen = [one.began_s for one in ended if state.sees(one.xid)]
        assert not unseen or not seen or min(unseen) >= max(seen), state


def one_row(connection: psycopg.Connection[Any], sql: bytes) -> tuple[Any, ...]:
    row = connection.execute(sql).fetchone()
    assert row is not None
    return tuple(row)


def snapshot(connection: psycopg.Connection[Any]) -> Revision:
    [text] = one_row(connection, b"SELECT pg_current_snapshot()::text")
    return parse(text)


# --- snapshots on a standby ---------------------------------------------------------------------


@every()
async def test_a_snapshot_taken_on_a_standby_is_wrong_and_never_used(pair: Pair) -> None:
    """It counts what is in progress as finished. Nothing that our standby says comes from it."""
    url = await migrated(pair.primary, "outbox")
    await asyncio.to_thread(pair.standby.catch_up)
    store = await PostgresStore.open(url, KINDS, idle_s=None)
    standby = await PostgresStandby.open(pair.standby_url(url), KINDS, store, connections=2)
    try:
        await commit(store, Add("like", 1, 1), Put("x", "t", json(n=1)))
        await drain(store)
        slow = await Slow.begin(url, "outbox", Add("like", 1, 2))
        await commit(store, Add("like", 1, 3), Put("x", "t", json(n=2)))
        assert slow.committed.xid is not None
        await asyncio.to_thread(pair.standby.catch_up)
        [[there]] = rows(pair.standby_url(url), "SELECT pg_current_snapshot()::text")
        seen = rows(
            pair.standby_url(url), "SELECT source FROM groundswell.edge_like ORDER BY source"
        )
        assert seen == [(1,), (3,)]
        wrong = parse(there).sees(slow.committed.xid)

        feed = await standby.feed(0, SIZE)
        at = feed.rollups[-1].revision
        counters = await standby.counters([("like", 1)])
        assert counters.rows[0].counter.count == 1
        listed = await standby.edges("like", 1, Window())
        assert {edge.source for edge in listed.edges} == {1, 3}
        documents = await standby.documents(["x"])
        assert [d and d.version for d in documents.rows] == [2]
        inverse = await standby.inverse("like", 2, Window())
        _, one = await standby.edge("like", 1, 2)
        shown = [feed.latest.revision, counters.revision, documents.revision, one]
        assert {*shown, listed.revision, inverse.revision} == {at}
        assert not at.sees(slow.committed.xid)

        # A replica fed from it brings the slow one when it is there, once.
        replica = MemoryReplica("r", bytes_max=SIZE)
        follower = Follower(Tail(standby), replica, poll_s=1)
        await follower.step()
        await drain(store)
        await slow.end(kept=True)
        await drain(store)
        await asyncio.to_thread(pair.standby.catch_up)
        while not await follower.step():
            pass
        held = await Fills(standby).counters(replica, [("like", 1)])
        assert held is not None
        assert [row and row.count for row in held.rows] == [3]
        assert held.standing.revision.sees(slow.committed.xid)
    finally:
        await standby.close()
        await store.close()
    await check_store(url)
    if not wrong:
        pytest.skip("this PostgreSQL tells the truth about snapshots on a standby")


# --- a rollup's row, and what is in its revision ------------------------------------------------


class Seen(NamedTuple):
    """What one statement has seen."""

    revision: Revision
    edges: set[tuple[int, int]]
    counts: Counter[Key]


_LOOK: Final = b"""
    SELECT (SELECT snapshot::text FROM groundswell.rollup ORDER BY number DESC LIMIT 1),
           (SELECT array_agg(ARRAY[target, source]) FROM groundswell.edge_like),
           (SELECT array_agg(ARRAY[target::bigint, count]) FROM groundswell.counter WHERE kind = 'like')
"""


def look(connection: psycopg.Connection[Any]) -> Seen:
    text, edges, counts = one_row(connection, _LOOK)
    return Seen(
        parse(text),
        {(target, source) for target, source in edges or []},
        Counter({("like", target): count for target, count in counts or []}),
    )


@on_both_queues
async def test_whoever_sees_a_rollup_sees_everything_in_its_revision(
    pair: Pair, queue: str, seed: int
) -> None:
    url, rng = await migrated(pair.primary, queue), random.Random(seed)
    await asyncio.to_thread(pair.standby.catch_up)
    found: dict[str, list[Seen]] = {"primary": [], "standby": []}
    written: dict[int, list[tuple[int, int]]] = {}
    done: list[Committed] = []
    over = asyncio.Event()
    numbers = itertools.count()

    def watch(name: str, url: str) -> Any:
        def watching(over: threading.Event) -> None:
            with psycopg.connect(url, autocommit=True) as connection:
                while not over.is_set():
                    found[name].append(look(connection))

        return watching

    def hold_up(over: threading.Event) -> None:
        while not over.is_set():
            pair.standby.pause_replay()
            over.wait(rng.uniform(0, 0.1))
            pair.standby.resume_replay()
            over.wait(rng.uniform(0, 0.1))

    async def write(store: PostgresStore) -> None:
        for _ in range(40):
            edges = [(rng.randrange(3), next(numbers)) for _ in range(rng.randrange(1, 4))]
            one = await commit(store, *(Add("like", *edge) for edge in edges))
            assert one.xid is not None
            written[one.xid] = edges
            done.append(one)
            if rng.random() < 0.3:  # one that comes to nothing
                slow = await Slow.begin(url, queue, Add("like", 1, next(numbers)))
                await slow.end(kept=False)

    async def roll(store: PostgresStore) -> None:
        while not over.is_set():
            await store.rollup(rng.choice((1, 3, ENOUGH)))
            await asyncio.sleep(rng.uniform(0, 0.01))

    store = await PostgresStore.open(url, KINDS, idle_s=None)
    watches = [watch("primary", url), watch("standby", pair.standby_url(url))]
    try:
        with threads(*watches, hold_up):
            rolling = asyncio.create_task(roll(store))
            await asyncio.gather(*(write(store) for _ in range(4)))
            over.set()
            await rolling
    finally:
        await store.close()
        pair.standby.resume_replay()
    for name, states in found.items():
        assert len({state.revision for state in states}) > 5, f"{name} stood still"
        for state in states:
            for xid, edges in written.items():
                assert not state.revision.sees(xid) or state.edges.issuperset(edges), (name, xid)
            due: Counter[Key] = Counter()
            for one in moves(done):
                due[one.key] += one.by * state.revision.sees(one.xid)
            assert +state.counts == +due, (name, state.revision)


# --- the long fork ------------------------------------------------------------------------------

_LOCALLY: Final = "?options=-c%20synchronous_commit%3Dlocal"
_FORKED: Final = "SELECT source FROM groundswell.edge_like WHERE target = 1 ORDER BY source"


@on_both_queues
async def test_a_long_fork_happens_and_does_no_harm(installation: Installation, queue: str) -> None:
    """Two commits, of which the primary shows the one and the standby the other."""
    with Cluster(installation, in_memory=True) as primary:
        pair = Pair(primary, primary.standby())
        url = await migrated(primary, queue)
        await asyncio.to_thread(pair.standby.catch_up)
        store = await PostgresStore.open(url, KINDS, idle_s=None)
        standby = await PostgresStandby.open(pair.standby_url(url), KINDS, store, connections=2)
        try:
            await _fork(pair, url, store, standby, queue)
        finally:
            await standby.close()
            await store.close()
        await check_store(url)


async def _fork(
    pair: Pair, url: str, store: PostgresStore, standby: PostgresStandby, queue: str
) -> None:
    await commit(store, Add("like", 1, 0), Put("x", "t", json(n=1)))
    await drain(store)
    await asyncio.to_thread(pair.standby.catch_up)
    replicas = {"primary": MemoryReplica("p", bytes_max=SIZE)}
    replicas["standby"] = MemoryReplica("s", bytes_max=SIZE)
    sources: dict[str, Any] = {"primary": store, "standby": standby}
    followers = {n: Follower(Tail(sources[n]), replicas[n], poll_s=1) for n in replicas}

    async def counted(name: str) -> tuple[int, Revision]:
        while not await followers[name].step():
            pass
        held = await Fills(sources[name]).counters(replicas[name], [("like", 1)])
        assert held is not None
        [row] = held.rows
        assert row is not None
        return row.count, held.standing.revision

    base = await counted("primary")
    assert base == await counted("standby")
    assert base[0] == 1

    # One commit has reached the standby, and waits for another that never answers ..
    synchronous(pair.primary, "'nobody'")
    waiting = asyncio.create_task(commit(store, Add("like", 1, 100), Put("x", "t", json(n=2))))
    await until(lambda: (100,) in rows(pair.standby_url(url), _FORKED), "the standby's commit")
    await asyncio.to_thread(pair.standby.pause_replay)
    # .. the other one waits for nobody.
    local = await Slow.begin(url + _LOCALLY, queue, Add("like", 1, 200))
    await local.end(kept=True)
    assert local.committed.xid is not None
    assert rows(url, _FORKED) == [(0,), (200,)]
    assert rows(pair.standby_url(url), _FORKED) == [(0,), (100,)]
    assert not waiting.done()

    # Replicas follow rollups, and these the primary: nobody counts what that does not show.
    rows(url + _LOCALLY, "SELECT * FROM groundswell.roll_up(1000000, 1000, NULL, NULL)")
    count, revision = await counted("primary")
    assert count == 2
    assert revision.sees(local.committed.xid)
    assert await counted("standby") == base
    held = await Fills(standby).documents(replicas["standby"], ["x"])
    assert held is None or [row and row.version for row in held.rows] == [1]
    # The standby's list shows more, to those who asked for no more; it claims no more than its rollup.
    page = await standby.edges("like", 1, Window())
    assert [edge.source for edge in page.edges] == [100, 0]
    assert page.revision == base[1]
    # Whoever has read the primary is not sent to the standby's replica, nor the other way round back.
    page = await store.edges("like", 1, Window())
    assert [edge.source for edge in page.edges] == [200, 0]
    assert not replicas["standby"].standing.revision.includes(page.revision)

    synchronous(pair.primary, "DEFAULT")
    acknowledged = await waiting
    assert acknowledged.xid is not None
    assert not page.revision.sees(acknowledged.xid)
    assert not revision.sees(acknowledged.xid)
    await drain(store)
    await asyncio.to_thread(pair.standby.resume_replay)
    await asyncio.to_thread(pair.standby.catch_up)
    last = await counted("primary")
    assert last == await counted("standby")
    assert last[0] == 3
    assert last[1].includes(revision)
    assert last[1].sees(acknowledged.xid)


def synchronous(primary: Cluster, names: str) -> None:
    """Make commits of the primary wait for standbys of these names."""
    primary.execute(f"ALTER SYSTEM SET synchronous_standby_names = {names}")
    primary.execute("SELECT pg_reload_conf()")
    deadline_s = time.monotonic() + 20
    shown = "" if names == "DEFAULT" else names.strip("'")
    while primary.execute("SHOW synchronous_standby_names") != [(shown,)]:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    primary.execute("CHECKPOINT")  # whose process lets commits wait once it hears of it


# --- ticks of PgQ -------------------------------------------------------------------------------

_TICKS: Final = """
    SELECT count(*) FROM pgq.tick JOIN pgq.queue ON queue_id = tick_queue WHERE queue_name = '{}'
"""
_CONTROL: Final = """
    SELECT pgq.create_queue('other'), pgq.set_queue_config('other', 'ticker_max_lag', '0'),
           pgq.set_queue_config('other', 'ticker_idle_period', '0')
"""


def ticks(url: str, queue: str) -> int:
    [[found]] = rows(url, _TICKS.format(queue))
    return int(found)


@pytest.mark.skipif(bool(missing(pgq=True)), reason=missing(pgq=True) or "it is there")
async def test_nobody_else_makes_ticks_for_our_queue(cluster: Cluster) -> None:
    url = await migrated(cluster, "pgq")
    store = await PostgresStore.open(url, KINDS, idle_s=None)
    try:
        await commit(store, Add("like", 1, 1))
        rows(url, _CONTROL)
        ours, others = ticks(url, "groundswell"), ticks(url, "other")
        for n in range(3):
            rows(url, "SELECT pgq.insert_event('other', 'a', 'b')")
            rows(url, "SELECT pgq.force_tick('groundswell'), pgq.force_tick('other')")
            rows(url, "SELECT pgq.ticker()")
            await commit(store, Add("like", 1, 2 + n))
        with pytest.raises(psycopg.errors.RaiseException, match="external tick"):
            rows(url, "SELECT pgq.ticker('groundswell')")
        assert ticks(url, "other") > others
        assert ticks(url, "groundswell") == ours
        await drain(store)
        assert ticks(url, "groundswell") == ours + 1
    finally:
        await store.close()
    await check_store(url)


@pytest.mark.skipif(bool(missing(pgq=True)), reason=missing(pgq=True) or "it is there")
@pytest.mark.skipif(not shutil.which("pgqd"), reason="pgqd is not installed: apt-get install pgqd")
async def test_pgqd_leaves_our_queue_alone(cluster: Cluster, tmp_path: Path) -> None:
    url = await migrated(cluster, "pgq")
    rows(url, _CONTROL)
    at = urlsplit(url)
    (tmp_path / "pgqd.ini").write_text(
        f"""
        [pgqd]
        logfile = {tmp_path}/log
        pidfile = {tmp_path}/pid
        base_connstr = host={at.hostname} port={at.port} user={at.username} password={at.password}
        database_list = {at.path[1:]}
        ticker_period = 0.1
        maint_period = 1
        """
    )
    store = await PostgresStore.open(url, KINDS, idle_s=None)
    daemon = await asyncio.create_subprocess_exec("pgqd", "-q", str(tmp_path / "pgqd.ini"))
    try:
        ours, others = ticks(url, "groundswell"), ticks(url, "other")
        for n in range(10):
            await commit(store, Add("like", 1, n))
            rows(url, "SELECT pgq.insert_event('other', 'a', 'b')")
        await until(lambda: ticks(url, "other") > others + 3, "a tick of pgqd")
        assert ticks(url, "groundswell") == ours
        await drain(store)
        assert ticks(url, "groundswell") == ours + 1
    finally:
        daemon.kill()
        await daemon.wait()
        await store.close()
    await check_store(url)
