"""PostgreSQL stores and nodes under faults: a load that goes on through them, and what must hold."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import msgspec
import psycopg
import pytest

import nodes
from clusters import Cluster, missing
from groundswell.kinds import Kinds
from groundswell.model import Key
from groundswell.store import Committed, Rollup
from groundswell.stores.postgres import PostgresStore, migrate
from groundswell.testing.base import check_settled, follow

WAIT_S: Final = 60.0  # generous: the machine may be busy
KINDS: Final = Kinds()
ENOUGH: Final = "100000"  # rollups kept, so that the whole feed can be checked

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
        done = connection.execute(sql.encode(), bound)
        return done.fetchall() if done.description is not None else []


@contextlib.contextmanager
def serving(
    folder: Path, name: str, url: str, *flags: str, **settings: str
) -> Iterator[nodes.Node]:
    """A node on the store at `url`, with files of its own; gone at the end, whatever happened."""
    (folder / name).mkdir()
    settings = {"store": named(url, name), "rollups_kept": ENOUGH, "log_level": "info"} | settings
    environment = {f"GROUNDSWELL_{key.upper()}": value for key, value in settings.items()}
    with nodes.running(folder / name, *flags, environment=environment) as node:
        yield node


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
            if rollup.revision.sees(one.xid):
                due[one.key] += one.by
        waiting = [one for one in waiting if not rollup.revision.sees(one.xid)]
        assert +shown == +due, f"rollup {rollup.number} at {rollup.revision}"
    assert not waiting, "never rolled up"


async def check_store(url: str, kind: str = "like") -> set[tuple[int, int]]:
    """Counters, feed and edges agree, at every rollup; the edges of `kind`, which was only added to.

    A row's xmin is the transaction that added it: so the truth at every rollup can be told later on.
    """
    store = await PostgresStore.open(url, KINDS, rollups_kept=int(ENOUGH), idle_s=None)
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


_KEYS: Final = """
    SELECT kind, target FROM groundswell.counter
    UNION SELECT 'like', target::text FROM groundswell.edge_like
    UNION SELECT 'follow', target::text FROM groundswell.edge_follow
    UNION SELECT 'reply', target::text FROM groundswell.edge_reply
"""


# --- a load over HTTP ---------------------------------------------------------------------------

Edge = tuple[int, int]
TARGETS: Final = 3
SINGLES: Final = 6
BULK: Final = 100
LEVELS: Final = ("eventual", "read_your_writes", "monotonic", "causal", "linearizable")
REFUSALS: Final = {"store-unavailable", "replica-late", "overloaded"}


class Got(NamedTuple):
    """An answer with status 200 or 404."""

    json: Any
    token: str | None


class Load:
    """Writers, and sessions that read, which go on whatever becomes of the nodes.

    Refusals are allowed, and answers that never come; wrong answers are not.
    """

    def __init__(self, urls: Sequence[str], rng: random.Random) -> None:
        self.urls = list(urls)
        self.rng = rng
        self.likes: set[Edge] = set()  # acknowledged; nobody takes a like back
        self.follows: set[Edge] = set()  # acknowledged
        self.unfollowing: set[Edge] = set()  # sent
        self.unfollowed: set[Edge] = set()  # acknowledged
        self.views: set[str] = set()  # ids of acknowledged tallies
        self.sent: set[Edge] = set()  # all likes and follows
        self.viewing: set[str] = set()  # all ids sent
        self.answers = 0
        self.refusals: Counter[str] = Counter()
        self.reads: Counter[str] = Counter()  # by level
        self._last = 0
        self._over = False
        self._http: aiohttp.ClientSession

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """At work until the block ends; raises what a writer or session found wrong."""
        timeout = aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(timeout=timeout) as self._http:
            jobs = [self._single] * SINGLES + [self._bulk, self._view]
            tasks = [asyncio.create_task(self._again(job)) for job in jobs]
            tasks += [asyncio.create_task(Session(self, n).run()) for n in range(3)]
            try:
                yield
                self._over = True
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def is_over(self) -> bool:
        return self._over

    async def answered(self, more: int = 100) -> None:
        """Wait until the nodes have answered so many more requests."""
        goal = self.answers + more
        await until(lambda: self.answers >= goal, "an answer to the load")

    async def send(
        self, method: str, path: str, body: object = None, *, token: str | None = None
    ) -> Got | None:
        """The answer of any node; None if it was refused, or never came."""
        headers = {"Groundswell-Session": token} if token else {}
        data = None if body is None else msgspec.json.encode(body)
        url = self.rng.choice(self.urls) + path
        try:
            async with self._http.request(method, url, data=data, headers=headers) as response:
                content = msgspec.json.decode(await response.read())
                if response.status == 503:
                    assert content["code"] in REFUSALS, content
                    self.refusals[content["code"]] += 1
                    await asyncio.sleep(0.01)
                    return None
                assert response.status in (200, 404), content
                self.answers += 1
                return Got(content, response.headers.get("Groundswell-Session"))
        except (aiohttp.ClientError, TimeoutError, ConnectionError):
            self.refusals["gone"] += 1
            await asyncio.sleep(0.01)
            return None

    async def _again(self, job: Callable[[], Any]) -> None:
        while not self._over:
            await job()

    def _new(self) -> Edge:
        self._last += 1
        return self.rng.randrange(TARGETS), self._last

    async def _single(self) -> None:
        """A like or a follow; without an answer sometimes sent again, as a client would."""
        edge, kind = self._new(), self.rng.choice(("like", "follow"))
        path = f"/v1/edges/{kind}/{edge[0]}/{edge[1]}"
        self.sent.add(edge)
        tries = 1
        while await self.send("PUT", path) is None:
            tries += 1
            if self._over or self.rng.random() < 0.5:
                return
        (self.likes if kind == "like" else self.follows).add(edge)
        # What was not answered may still happen, even after it was taken back.
        if kind == "follow" and tries == 1 and self.rng.random() < 0.3:
            self.unfollowing.add(edge)
            if await self.send("DELETE", path) is not None:
                self.unfollowed.add(edge)

    async def _bulk(self) -> None:
        edges = [self._new() for _ in range(BULK)]
        self.sent.update(edges)
        writes = [{"op": "add", "kind": "like", "target": t, "source": s} for t, s in edges]
        if await self.send("POST", "/v1/writes", {"writes": writes}) is not None:
            self.likes.update(edges)

    async def _view(self) -> None:
        id_ = str(self._new()[1])
        self.viewing.add(id_)
        if await self.send("POST", "/v1/tallies/view/1", {"id": id_}) is not None:
            self.views.add(id_)

    async def check(self, url: str, *, lost: bool = False) -> None:
        """All that was acknowledged is stored (unless some is `lost`), once, and the counts are right."""
        likes = await check_store(url)
        found = rows(url, "SELECT target, source FROM groundswell.edge_follow")
        views = {id_ for (id_,) in rows(url, "SELECT id FROM groundswell.tally")}
        counted = rows(url, "SELECT count FROM groundswell.counter WHERE kind = 'view'")
        assert [(len(views),)] == counted or not views
        assert likes | set(found) <= self.sent
        assert views <= self.viewing
        if not lost:
            assert self.likes <= likes
            assert self.follows - self.unfollowing <= set(found)
            assert not self.unfollowed & set(found)
            assert self.views <= views


class Session:
    """One user, who adds to a count of their own, and reads it at every level on every node."""

    def __init__(self, load: Load, number: int) -> None:
        self._load = load
        self._target = 1_000 + number
        self._token: str | None = None
        self._sent = 0
        self._acknowledged = 0
        self._seen = 0  # in the state of a replica or the primary, own writes on top left out

    async def run(self) -> None:
        while not self._load.is_over:
            if self._load.rng.random() < 0.3:
                await self._write()
            else:
                await self._read(self._load.rng.choice(LEVELS))

    async def _write(self) -> None:
        self._sent += 1
        path = f"/v1/edges/reply/{self._target}/{self._sent}"
        if (got := await self._load.send("PUT", path, token=self._token)) is not None:
            assert got.json == {"changed": True}
            self._token = got.token
            self._acknowledged += 1

    async def _read(self, level: str) -> None:
        path = f"/v1/counts/reply/{self._target}?consistency={level}"
        if (got := await self._load.send("GET", path, token=self._token)) is None:
            return
        self._load.reads[level] += 1
        count, pending = got.json["count"], got.json["pending"]
        told = f"{level}: {got.json}, {self.__dict__}"
        assert count <= self._sent, told
        if level in ("read_your_writes", "causal", "linearizable"):
            assert count >= self._acknowledged, told
        if level in ("monotonic", "causal", "linearizable"):
            assert count - pending >= self._seen, told
        if level != "eventual":
            self._token = got.token
            self._seen = max(self._seen, count - pending)
