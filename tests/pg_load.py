"""Loads on PostgreSQL that remember what was acknowledged, and check it: on stores, and over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, NamedTuple

import aiohttp
import msgspec

from groundswell.model import Add, Delete, Put, Remove, Tally, Write
from groundswell.store import Committed
from groundswell.stores.postgres import PostgresStore
from groundswell.testing.base import commit, follow, json
from pg_nodes import KEPT, KINDS, check_rollups, check_store, moves, rows, until

# --- on stores ----------------------------------------------------------------------------------

COUNTED: Final = {kind.name for kind in KINDS}


async def opened(url: str, **options: Any) -> PostgresStore:
    return await PostgresStore.open(url, KINDS, rollups_kept=KEPT, idle_s=None, **options)


@contextlib.asynccontextmanager
async def stores(url: str, number: int) -> AsyncIterator[list[PostgresStore]]:
    """So many stores on one database, as in so many nodes."""
    made = [await opened(url) for _ in range(number)]
    try:
        yield made
    finally:
        for store in made:
            await store.close()


class Writer:
    """Random writes of every sort; remembers what was acknowledged."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.done: list[Committed] = []
        self._numbers = itertools.count(1)

    def writes(self) -> list[Write]:
        n, target = next(self._numbers), self.rng.randrange(4)
        return self.rng.choice(
            [
                [Add("like", target, n)],
                [Add("like", t, n) for t in range(target + 1)],
                [Add("follow", target, n % 20), Tally("view", target)],
                [Remove("follow", target, n % 20)],
                [Add("review", target, n % 20, 1 + n % 5), Put(f"o{target}", "t", json(n=n))],
                [Tally("view", 9, 3, str(n % 50)), Delete(f"o{target}")],
            ]
        )

    async def write(self, store: PostgresStore) -> None:
        await self.commit(store, *self.writes())

    async def commit(self, store: PostgresStore, *writes: Write) -> None:
        self.done.append(await commit(store, *writes))

    async def check(self, url: str) -> None:
        """All of it was rolled up once, at the right rollup; counters, edges and feed agree."""
        await check_store(url)
        async with stores(url, 1) as [store]:
            rollups = await follow(store)
            check_rollups(rollups, moves(self.done), COUNTED)
            shown: dict[str, int] = {}
            for rollup in rollups:
                for document in rollup.documents:
                    assert rollup.revision.sees(document.xid)
                    assert document.version > shown.get(document.id, 0)
                    shown[document.id] = document.version
            stored = (await store.documents(list(shown))).rows
            assert [d and d.version for d in stored] == list(shown.values())


# --- over HTTP ----------------------------------------------------------------------------------

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
            await self.rest()

    async def rest(self) -> None:
        """A moment, so that there is time left for nodes to start."""
        await asyncio.sleep(self.rng.uniform(0, 0.02))

    def _new(self) -> Edge:
        self._last += 1
        return self.rng.randrange(TARGETS), self._last

    async def write(self, op: str, kind: str, *edges: Edge, token: str | None = None) -> Got | None:
        """Add or remove edges; never by PUT, which the client would repeat without being told to."""
        writes = [{"op": op, "kind": kind, "target": t, "source": s} for t, s in edges]
        return await self.send("POST", "/v1/writes", {"writes": writes}, token=token)

    async def _single(self) -> None:
        """A like or a follow; without an answer sometimes sent again, as a client would."""
        edge, kind = self._new(), self.rng.choice(("like", "follow"))
        self.sent.add(edge)
        tries = 1
        while await self.write("add", kind, edge) is None:
            tries += 1
            if self._over or self.rng.random() < 0.5:
                return
        (self.likes if kind == "like" else self.follows).add(edge)
        # What was not answered may still happen, even after it was taken back.
        if kind == "follow" and tries == 1 and self.rng.random() < 0.3:
            self.unfollowing.add(edge)
            if await self.write("remove", kind, edge) is not None:
                self.unfollowed.add(edge)

    async def _bulk(self) -> None:
        edges = [self._new() for _ in range(BULK)]
        self.sent.update(edges)
        if await self.write("add", "like", *edges) is not None:
            self.likes.update(edges)

    async def _view(self) -> None:
        id_ = str(self._new()[1])
        self.viewing.add(id_)
        if await self.send("POST", "/v1/tallies/view/1", {"id": id_}) is not None:
            self.views.add(id_)

    async def check(self, url: str, *, besides: int | None = None, lost: bool = False) -> None:
        """All that was acknowledged is stored (unless some is `lost`), once, and the counts are right.

        Likes of the target `besides` are somebody else's.
        """
        likes = {edge for edge in await check_store(url) if edge[0] != besides}
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
            await self._load.rest()

    async def _write(self) -> None:
        self._sent += 1
        edge = self._target, self._sent
        if (got := await self._load.write("add", "reply", edge, token=self._token)) is not None:
            assert got.json == {"outcomes": [{"changed": True}]}
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
