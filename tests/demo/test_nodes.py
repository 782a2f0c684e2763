"""The demonstration's spike against three nodes on one database, behind a balancer without memory.

Every request of a session goes to another node than the one before, which is at another point of the feed.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import nodes
from balancers import balanced, needs_haproxy
from clusters import Cluster
from groundswell.client import HttpApi
from groundswell.demo import profile, run, threads
from groundswell.model import Level
from groundswell.session import Groundswell
from groundswell.transport import Answer
from groundswell.transports.aiohttp import AiohttpTransport
from groundswell.wire import SESSION_HEADER
from pg_nodes import migrated, on_both_queues, serving

pytestmark = pytest.mark.anyio

NODES = 3
ACTIONS = 30_000
MESSAGES = (
    3_000  # so many in so few seconds that a reply is often looked for before it is everywhere
)
SECONDS = 12.0
# What a machine that is busy may miss: it reads too seldom.
SELDOM = {"eventual: every anomaly was seen", "causal: at least 90 % served by replicas"}
DELAYS_MS = ("0", "150", "2500")  # the last one so late that slow readers find it behind as well


class Rotating:
    """A transport that sends each request to the next node, and forgets the session if told to."""

    def __init__(self, urls: Sequence[str], *, forgetful: bool = False) -> None:
        self._transports = [AiohttpTransport(url) for url in urls]
        self._turns = itertools.cycle(self._transports)
        self._forgetful = forgetful

    async def send(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        if self._forgetful:
            headers = {name: headers[name] for name in headers if name != SESSION_HEADER}
        return await next(self._turns).send(method, path, headers, body)

    def stream(self, path: str, headers: Mapping[str, str]) -> AsyncGenerator[bytes | Answer, None]:
        return next(self._turns).stream(path, headers)

    async def close(self) -> None:
        for transport in self._transports:
            await transport.close()


def connecting(urls: Sequence[str], *, forgetful: bool = False) -> Any:
    """What stands in for `connect`."""

    @contextlib.asynccontextmanager
    async def connect(url: str) -> AsyncIterator[Groundswell]:
        transport = Rotating(urls, forgetful=forgetful)
        try:
            yield Groundswell(HttpApi(transport))
        finally:
            await transport.close()

    return connect


@pytest.fixture
def three(cluster: Cluster, tmp_path: Path, queue: str) -> Iterator[list[nodes.Node]]:
    """Three nodes on a new store, with three replicas each, two of which are late."""
    url = asyncio.run(migrated(cluster, queue))
    flags = ("--replicas", str(len(DELAYS_MS)), "--replica-delay-ms", ",".join(DELAYS_MS))
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(serving(tmp_path, f"node-{number}", url, *flags))
            for number in range(NODES)
        ]


def plan() -> run.Plan:
    """The spike of the demonstration, drawn smaller."""
    return run.Plan(
        actions=profile.draw(profile.load(), actions=ACTIONS),
        messages=threads.draw(seed=profile.SEED, messages=MESSAGES),
        seconds=SECONDS,
        seed=profile.SEED,
    )


def served(node: nodes.Node) -> Counter[str]:
    """How many reads the node has answered, by level."""
    text = node.request("GET", "/metrics").body.decode()
    found = re.findall(r'^groundswell_reads_total\{level="(\w+)",[^}]*\} (\S+)$', text, re.M)
    counted: Counter[str] = Counter()
    for level, times in found:
        counted[level] += int(float(times))
    return counted


async def spike(url: str) -> run.Outcome:
    return await run.demonstrate(url, plan(), lambda steps: None)


def check(outcome: run.Outcome, three: list[nodes.Node]) -> None:
    """Nothing is shown that a level forbids, while others see it; every node answers at every level."""
    verdicts = run.verdicts(outcome)
    assert verdicts.keys() > SELDOM
    assert {name for name, kept in verdicts.items() if not kept} <= SELDOM, outcome.result
    eventual = outcome.result.levels[Level.EVENTUAL]
    assert eventual.went_backwards and eventual.missed_own_write and eventual.stale_reads
    reads = [served(node) for node in three]
    for level in Level:
        assert min(one[level] for one in reads) > sum(one[level] for one in reads) / 6, reads


@on_both_queues
async def test_sessions_that_change_nodes_with_every_request(
    three: list[nodes.Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "connect", connecting([node.url for node in three]))
    check(await spike(""), three)


@needs_haproxy
@on_both_queues
async def test_sessions_behind_haproxy(three: list[nodes.Node], tmp_path: Path) -> None:
    with balanced(tmp_path / "haproxy", [node.url for node in three]) as balancer:
        check(await spike(balancer.url), three)


@pytest.mark.parametrize("queue", ["outbox"])
async def test_without_their_tokens_the_same_sessions_meet_what_their_levels_forbid(
    three: list[nodes.Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the zeros above are the tokens' doing, and would not be there without them."""
    urls = [node.url for node in three]
    monkeypatch.setattr(run, "connect", connecting(urls, forgetful=True))
    result = (await spike("")).result
    assert result.trace.counts_exact
    assert result.levels[Level.READ_YOUR_WRITES].missed_own_write > 0
    assert result.levels[Level.MONOTONIC].went_backwards > 0
    assert result.levels[Level.CAUSAL].missed_own_write > 0
    assert result.levels[Level.CAUSAL].went_backwards > 0
    assert result.levels[Level.LINEARIZABLE].stale_reads == 0  # which needs no token
