"""A node that is killed or told to stop in the middle of a load: nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import msgspec
import pytest

import nodes

pytestmark = pytest.mark.anyio

ROUNDS = 4
TARGETS = 3
SINGLES = 8  # writers that send one like a request
BULKS = 2  # writers that send 200
BULK = 200
TWICE = 0.2  # share of the writes that is sent a second time

Edge = tuple[int, int]


class Ledger:
    """What was sent, and what came back."""

    def __init__(self) -> None:
        self.added: set[Edge] = set()  # acknowledged
        self.removing: set[Edge] = set()  # sent
        self.removed: set[Edge] = set()  # acknowledged
        self.unsure: set[Edge] = set()  # sent to be added, and never answered
        self.tallied: set[str] = set()
        self.tallies_unsure: set[str] = set()
        self.answers = 0
        self._last = 0

    def new(self, rng: random.Random) -> Edge:
        self._last += 1
        return rng.randrange(TARGETS), self._last


class Load:
    """Writers that go on until the node stops answering."""

    def __init__(self, http: aiohttp.ClientSession, ledger: Ledger, rng: random.Random) -> None:
        self._http = http
        self._ledger = ledger
        self._rng = rng

    async def run(self) -> None:
        await asyncio.gather(
            *(self._until_gone(self._single) for _ in range(SINGLES)),
            *(self._until_gone(self._bulk) for _ in range(BULKS)),
            self._until_gone(self._tally),
        )

    async def _until_gone(self, work: Callable[[], Awaitable[bool]]) -> None:
        while await work():
            pass

    async def _send(self, method: str, path: str, body: object = None) -> bytes | None:
        """The answer; None if the node has gone, or is going."""
        data = None if body is None else msgspec.json.encode(body)
        try:
            async with self._http.request(method, path, data=data) as response:
                content = await response.read()
                if response.status == 503:
                    return None
                assert response.status == 200, content
        except (aiohttp.ClientError, ConnectionError):
            return None
        self._ledger.answers += 1
        return content

    async def _single(self) -> bool:
        edge = self._ledger.new(self._rng)
        path = f"/v1/edges/like/{edge[0]}/{edge[1]}"
        self._ledger.unsure.add(edge)
        for _ in range(1 + (self._rng.random() < TWICE)):
            if await self._send("PUT", path) is None:
                return False
            self._ledger.unsure.discard(edge)
            self._ledger.added.add(edge)
        if self._rng.random() < TWICE:
            self._ledger.removing.add(edge)
            if await self._send("DELETE", path) is None:
                return False
            self._ledger.added.discard(edge)
            self._ledger.removed.add(edge)
        return True

    async def _bulk(self) -> bool:
        edges = [self._ledger.new(self._rng) for _ in range(BULK)]
        again = [edge for edge in edges if self._rng.random() < TWICE]
        writes = [
            {"op": "add", "kind": "like", "target": target, "source": source}
            for target, source in edges + again
        ]
        self._ledger.unsure |= set(edges)
        body = {"writes": writes, "atomic": self._rng.random() < 0.5}
        if (content := await self._send("POST", "/v1/writes", body)) is None:
            return False
        outcomes = [outcome["changed"] for outcome in msgspec.json.decode(content)["outcomes"]]
        assert outcomes == [True] * BULK + [False] * len(again)
        self._ledger.unsure -= set(edges)
        self._ledger.added |= set(edges)
        return True

    async def _tally(self) -> bool:
        id_ = str(self._ledger.new(self._rng)[1])
        self._ledger.tallies_unsure.add(id_)
        for _ in range(1 + (self._rng.random() < TWICE)):
            if await self._send("POST", "/v1/tallies/view/1", {"id": id_}) is None:
                return False
            self._ledger.tallied.add(id_)
        self._ledger.tallies_unsure.discard(id_)
        return True


async def load_until(
    node: nodes.Node, ledger: Ledger, rng: random.Random, stop: Callable[[], None], after_s: float
) -> None:
    """Writers at work; a while after the first answer `stop` ends the node, and with it the writers."""
    timeout = aiohttp.ClientTimeout(total=30)
    before = ledger.answers
    async with aiohttp.ClientSession(node.url, timeout=timeout) as http:
        working = asyncio.create_task(Load(http, ledger, rng).run())
        while ledger.answers == before and not working.done():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        await asyncio.sleep(after_s)
        assert not working.done(), working.exception()
        stop()
        await working


def stored(node: nodes.Node) -> set[Edge]:
    """Every stored like, each found once; the counts agree."""
    found: set[Edge] = set()
    for target in range(TARGETS):
        count, sources = node.count("like", target), node.sources("like", target)
        assert len(sources) == len(set(sources)) == count
        found |= {(target, source) for source in sources}
    return found


async def test_nothing_acknowledged_is_lost_when_a_node_is_killed(
    tmp_path: Path, seed: int
) -> None:
    rng, ledger = random.Random(seed), Ledger()
    with nodes.running(tmp_path) as node:
        for _ in range(ROUNDS):
            answers = ledger.answers
            await load_until(node, ledger, rng, node.kill, rng.uniform(0.15, 0.7))
            assert ledger.answers > answers, "the node was killed before it did anything"
            node.start()
            found = stored(node)
            assert ledger.added - ledger.removing <= found
            assert not ledger.removed & found
            assert found <= ledger.added | ledger.unsure
            # What is sent again after the crash counts once, whether or not it was stored before.
            sent = ledger.tallied | ledger.tallies_unsure
            writes = [
                {"op": "tally", "kind": "view", "target": 1, "id": id_} for id_ in sorted(sent)
            ]
            outcomes = node.request("POST", "/v1/writes", {"writes": writes}).json["outcomes"]
            counted = {id_ for id_, o in zip(sorted(sent), outcomes, strict=True) if o["changed"]}
            assert not counted & ledger.tallied
            assert node.count("view", 1) == len(sent)
        assert "Traceback" not in node.output()


async def test_everything_accepted_is_answered_when_a_node_is_told_to_stop(
    tmp_path: Path, seed: int
) -> None:
    rng, ledger = random.Random(seed), Ledger()
    with nodes.running(tmp_path) as node:
        await load_until(node, ledger, rng, node.signal_terminate, rng.uniform(0.3, 0.8))
        assert node.wait() == 0
        assert "everything that was accepted is stored" in node.output()
        assert "Traceback" not in node.output()
        node.start()
        found = stored(node)
    # An answer for everything that was stored, and everything answered is stored.
    assert found == ledger.added
    assert ledger.answers > 0


async def test_a_node_that_is_idle_stops_at_once(tmp_path: Path) -> None:
    with nodes.running(tmp_path) as node:
        timeout = aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(node.url, timeout=timeout) as http:
            async with http.get("/healthz") as response:  # its connection stays open
                assert response.status == 200
            began_s = time.monotonic()
            assert node.terminate() == 0
            assert time.monotonic() - began_s < 5


async def test_two_nodes_on_one_store_agree(tmp_path: Path, seed: int) -> None:
    rng, ledger = random.Random(seed), Ledger()
    with nodes.running(tmp_path) as one, nodes.running(tmp_path) as two:
        await asyncio.gather(
            load_until(one, ledger, rng, one.kill, 0.5),
            load_until(two, ledger, rng, two.signal_terminate, 0.6),
        )
        assert two.wait() == 0
        one.start()
        found = stored(one)
        assert ledger.added - ledger.removing <= found <= ledger.added | ledger.unsure
        assert not ledger.removed & found
