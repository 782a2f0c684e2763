"""What the topics of the conformance suite share."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable
from itertools import pairwise
from typing import Any, ClassVar

import msgspec
import pytest

from groundswell.kinds import Kind, Kinds, ValueRange
from groundswell.model import Add, Counter, Id, Key, Remove, Settle, Write
from groundswell.store import Batch, Changed, Committed, CountChange, Outcome, Rolled, Rollup, Store

KINDS = Kinds(
    (
        Kind(name="follow", inverse=True),
        Kind(name="like"),
        Kind(name="tag", source="text", target="text", inverse=True),
        Kind(name="member", source="uuid", target="uuid", inverse=True),
        Kind(name="review", value=ValueRange(-5, 5, histogram=False), inverse=True),
        Kind(name="rating", value=ValueRange(1, 3)),
        Kind(name="seat", target="text", exclusive=True),
        Kind(name="view", unique=False),
        Kind(name="play", target="text", unique=False),
    )
)
DONE = Changed(True)
NOTHING_DONE = Changed(False)
ENOUGH = 1_000_000  # of anything, in these tests


def wall_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


class Clock:
    """A clock for `now_ms` that moves only when told to."""

    def __init__(self, at_ms: int = 1_000_000) -> None:
        self.at_ms = at_ms

    def __call__(self) -> int:
        """The time."""
        return self.at_ms


class Suite:
    """What a subclass provides, and the fixtures that the topics use."""

    pytestmark = pytest.mark.anyio

    durable: ClassVar[bool] = False  # survives being closed; then `reopen` is needed

    async def make(
        self, kinds: Kinds, *, rollups_kept: int = 1_000, now_ms: Callable[[], int] = wall_ms
    ) -> Store:
        """An open, empty store, that keeps `rollups_kept` rollups and reads the time from `now_ms`."""
        raise NotImplementedError

    async def reopen(self, store: Store) -> Store:
        """Close the store and open it again, as after a restart."""
        raise NotImplementedError

    @pytest.fixture
    def anyio_backend(self) -> str:
        """The contract is one of asyncio."""
        return "asyncio"

    @pytest.fixture
    def seed(self) -> int:
        """Of a random test; printed when it fails, and taken from GROUNDSWELL_TEST_SEED to replay it."""
        drawn = int(os.environ.get("GROUNDSWELL_TEST_SEED") or secrets.randbelow(2**32))
        print(f"GROUNDSWELL_TEST_SEED={drawn}")  # noqa: T201
        return drawn

    @pytest.fixture
    def clock(self) -> Clock:
        """The time of `store`."""
        return Clock()

    @pytest.fixture
    async def store(self, clock: Clock) -> AsyncIterator[Store]:
        """An open, empty store that knows KINDS."""
        store = await self.make(KINDS, now_ms=clock)
        yield store
        await store.close()

    @pytest.fixture
    async def forgetful(self) -> AsyncIterator[Store]:
        """As `store`, but it keeps only the newest three rollups."""
        store = await self.make(KINDS, rollups_kept=3)
        yield store
        await store.close()


def json(**fields: Any) -> msgspec.Raw:
    """A canonical JSON object."""
    return msgspec.Raw(msgspec.json.encode(fields, order="sorted"))


def likes(target: Id, sources: Iterable[Id]) -> list[Write]:
    """One like of `target` by each of `sources`."""
    return [Add("like", target, source) for source in sources]


def unlikes(target: Id, sources: Iterable[Id]) -> list[Write]:
    """The same likes taken back."""
    return [Remove("like", target, source) for source in sources]


async def commit(store: Store, *writes: Write | Settle, atomic: bool = False) -> Committed:
    """One batch in a commit of its own."""
    [committed] = await store.commit([Batch(tuple(writes), atomic)])
    return committed


async def outcome(store: Store, write: Write) -> Outcome:
    """What becomes of one write."""
    return (await commit(store, write)).outcomes[0]


def codes(committed: Committed) -> list[str | bool]:
    """The outcomes in short: changed or not, or the code of the refusal."""
    return [
        getattr(outcome, "code", None) or bool(getattr(outcome, "changed", False))
        for outcome in committed.outcomes
    ]


async def drain(store: Store, events_max: int = ENOUGH) -> list[Rolled]:
    """Roll up until nothing is left."""
    done: list[Rolled] = []
    while (rolled := await store.rollup(events_max)) is not None:
        done.append(rolled)
        assert len(done) < 10_000, "rollups do not come to an end"
    return done


async def count(store: Store, kind: str, target: Id) -> Counter:
    """A counter as of the newest rollup."""
    return (await store.counters([(kind, target)])).rows[0].counter


async def recount(store: Store, keys: Iterable[Key]) -> dict[Key, Counter]:
    """The truth behind these counters."""
    return {key: await store.recount(*key) for key in keys}


async def follow(store: Store, after: int = 0, changes_max: int = ENOUGH) -> list[Rollup]:
    """All rollups after number `after`, read as a follower would."""
    found: list[Rollup] = []
    while True:
        feed = await store.feed(after, changes_max)
        assert not feed.behind
        if not feed.rollups:
            assert after == feed.latest.number, "the feed ends before the newest rollup"
            return found
        found += feed.rollups
        assert [r.number for r in feed.rollups] == [
            after + step for step in range(1, len(feed.rollups) + 1)
        ], "the feed left a rollup out"
        for before, rollup in pairwise(found[-len(feed.rollups) - 1 :]):
            assert rollup.revision.includes(before.revision), "a revision went back"
        after = feed.rollups[-1].number


def by_key(changes: Iterable[CountChange]) -> dict[Key, Counter]:
    """Published counters; each key at most once."""
    listed = [((c.kind, c.target), Counter(c.count, c.sum)) for c in changes]
    found = dict(listed)
    assert len(found) == len(listed), "a key is published twice in one rollup"
    return found


async def check_settled(store: Store, keys: Iterable[Key]) -> None:
    """After everything is rolled up: counters, the replayed feed and the truth agree, exactly."""
    keys = list(keys)
    await drain(store)
    truth = await recount(store, keys)
    rows = (await store.counters(keys)).rows
    assert {key: row.counter for key, row in zip(keys, rows, strict=True)} == truth
    replayed: dict[Key, Counter] = {}
    for rollup in await follow(store):
        replayed |= by_key(rollup.counts)
        assert all(counter.count >= 0 for counter in replayed.values()), "a count below zero"
    assert {key: replayed.get(key, Counter(0)) for key in keys} == truth
    assert await store.backlog() == 0
