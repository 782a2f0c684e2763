"""Feeds the replica: whoever is elected applies the change feed to all buckets, and says where they are."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from groundswell.errors import ReplicaUnavailable, StoreUnavailable
from groundswell.replicas.redis.cells import Mark, Published
from groundswell.replicas.redis.link import Link
from groundswell.replicas.redis.names import Names
from groundswell.replicas.redis.parts import Parts
from groundswell.replicas.redis.scripts import Command, script
from groundswell.store import Feed, Rollup, Source, Store

log = logging.getLogger(__name__)

CHANGES_MAX: Final = 20_000  # in one answer of the feed
FEEDS_MS: Final = 1_000  # how long a feeder is one without a sign of life
SWEEP_PAUSE_S: Final = 0.01


class Seen(NamedTuple):
    """What a look at Redis found."""

    published: Published | None
    elected: bool


class Feeder:
    """One node's candidate for feeding the replica."""

    def __init__(self, name: str, link: Link, names: Names, store: Store, source: Source) -> None:
        self._name = name
        self._me = secrets.token_hex(8)
        self._link = link
        self._names = names
        self._store = store
        self._source = source
        self._sweeping: asyncio.Task[None] | None = None

    async def look(self) -> Seen:
        """Where the replica stands, and whether it is for us to feed it. Raises ReplicaUnavailable."""
        keys = [self._names.standing, self._names.feeder]
        [(raw, elected)] = await self._run([script("look", keys, self._me, FEEDS_MS)])
        return Seen(None if raw is None else Published.parse(raw), bool(elected))

    async def feed(self, epoch: int, number: int, published: Published | None) -> Published | None:
        """Bring all buckets to rollup `number` of the epoch, or beyond; what is published then.

        Steps aside where it cannot. Raises ReplicaUnavailable, StoreUnavailable.
        """
        try:
            return await self._feed(epoch, number, published)
        except (ReplicaUnavailable, StoreUnavailable):
            await self._leave()
            raise

    async def close(self) -> None:
        """Let another node feed the replica."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait([self._sweeping])
        await self._leave()

    async def _leave(self) -> None:
        with contextlib.suppress(ReplicaUnavailable):  # it expires
            await self._run([script("leave", [self._names.feeder], self._me)])

    async def _feed(self, epoch: int, number: int, published: Published | None) -> Published | None:
        marks = await self._marks()
        if not _are_at(marks, epoch, number) and not _are_newer(marks, epoch):
            marks = await self._advance(marks)
        elif await self._is_beyond(marks, epoch, number):
            log.warning("replica %s: what it shows is not of this store: begins anew", self._name)
            latest = (await self._source.feed(-1, 1)).latest
            marks = await self._begin(range(len(marks)), marks, epoch, latest, by_force=True)
            return await self._publish(marks, published, by_force=True)
        return await self._publish(marks, published)

    async def _is_beyond(self, marks: list[Mark | None], epoch: int, number: int) -> bool:
        """Whether it shows what the store has not reached: an older copy was put in the store's place."""
        last = max((m.rollup for m in marks if m is not None and m.epoch == epoch), default=0)
        if last <= number:
            return False
        head = await self._store.head()  # which is asked after the marks
        return head.epoch == epoch and head.rollup < last

    async def _marks(self) -> list[Mark | None]:
        found = await self._run(
            [
                ["MGET", mark, swept]
                for mark, swept in zip(self._names.marks, self._names.swept, strict=True)
            ]
        )
        marks = [None if mark is None else Mark.parse(mark) for mark, _ in found]
        for bucket, (mark, (_, swept)) in enumerate(zip(marks, found, strict=True)):
            if mark is not None and swept != mark.generation:
                self._sweep(bucket, mark.generation)
        return marks

    async def _advance(self, marks: list[Mark | None]) -> list[Mark | None]:
        """Apply what follows to every bucket; those to which the feed does not lead begin anew."""
        led: dict[int, Mark] = {b: mark for b, mark in enumerate(marks) if mark is not None}
        while True:
            after = min((mark.rollup for mark in led.values()), default=-1)
            feed = await self._source.feed(after, CHANGES_MAX)
            led = {b: mark for b, mark in led.items() if mark.epoch == feed.epoch}
            if not led or not feed.behind:
                break
            led = {b: mark for b, mark in led.items() if mark.rollup > after}
        end = feed.latest if feed.behind or not feed.rollups else feed.rollups[-1]
        marks = await self._apply(feed, led, marks)
        lost = [b for b in range(len(marks)) if b not in led]
        return await self._begin(lost, marks, feed.epoch, end)

    async def _apply(
        self, feed: Feed, led: dict[int, Mark], marks: list[Mark | None]
    ) -> list[Mark | None]:
        """The rollups of the feed on the buckets that stand before them."""
        buckets: list[int] = []
        commands: list[Command] = []
        for rollup in feed.rollups if not feed.behind else ():
            parts = Parts(self._names, feed.epoch, rollup)
            for bucket, mark in led.items():
                if mark.rollup < rollup.number:
                    scripts = parts.scripts(bucket)
                    commands += scripts
                    buckets += [bucket] * len(scripts)
        return _after(marks, buckets, await self._run(commands))

    async def _begin(
        self,
        buckets: Sequence[int],
        marks: list[Mark | None],
        epoch: int,
        at: Rollup,
        *,
        by_force: bool = False,
    ) -> list[Mark | None]:
        """Let these buckets forget all cells and stand at a rollup; by force also if that is going back."""
        commands = []
        for bucket in buckets:
            mark = marks[bucket]
            replaced = mark.raw if by_force and mark is not None else b""
            arguments = (epoch, at.number, str(at.revision), secrets.token_urlsafe(6), replaced)
            commands.append(script("begin", [self._names.marks[bucket]], *arguments))
        if commands:
            said = "replica %s: %d of %d buckets begin anew at rollup %d of epoch %d"
            log.warning(said, self._name, len(commands), len(marks), at.number, epoch)
        return _after(marks, buckets, await self._run(commands))

    async def _publish(
        self, marks: list[Mark | None], published: Published | None, *, by_force: bool = False
    ) -> Published | None:
        """Say where all buckets are, if they are of one epoch and that is news."""
        there = [mark for mark in marks if mark is not None]
        if len(there) < len(marks) or len({mark.epoch for mark in there}) != 1:
            return published
        last = min(there, key=lambda mark: mark.rollup)
        news = b"%d %d %b" % (last.epoch, last.rollup, last.revision)
        if published is not None and published.raw == news:
            return published
        replaced = published.raw if by_force and published is not None else b""
        arguments = (last.epoch, last.rollup, last.revision, replaced)
        [raw] = await self._run([script("publish", [self._names.standing], *arguments)])
        return Published.parse(raw)

    async def _run(self, commands: list[Command]) -> list[Any]:
        keys = [command[3] if command[0] == "EVAL" else command[1] for command in commands]
        return await self._link.run(keys, commands) if commands else []

    # --- what is left of other generations -------------------------------------------------------

    def _sweep(self, bucket: int, generation: bytes) -> None:
        """Remove it in the background, a bucket at a time: plain counts do not say how old they are."""
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.create_task(self._swept(bucket, generation))

    async def _swept(self, bucket: int, generation: bytes) -> None:
        mark = self._names.marks[bucket]
        with contextlib.suppress(ReplicaUnavailable):  # at another look, perhaps by another node
            for pattern in self._names.patterns(bucket):
                async for found in self._link.scan(mark, pattern):
                    pairs = [(self._names.cell_of(bucket, key), key) for key in found]
                    keys = [name for cell, key in pairs if cell is not None for name in (cell, key)]
                    if keys:
                        await self._run([script("sweep", [mark, *keys])])
                    await asyncio.sleep(SWEEP_PAUSE_S)
            await self._run([["SET", self._names.swept[bucket], generation]])


def _are_at(marks: list[Mark | None], epoch: int, number: int) -> bool:
    """Whether all buckets are there, or beyond."""
    return all(m is not None and m.epoch == epoch and m.rollup >= number for m in marks)


def _are_newer(marks: list[Mark | None], epoch: int) -> bool:
    """Whether all are of an epoch that we have not heard of yet."""
    return all(m is not None and m.epoch > epoch for m in marks)


def _after(
    marks: list[Mark | None], buckets: Sequence[int], answers: Sequence[bytes | None]
) -> list[Mark | None]:
    """The marks as the answers to scripts on these buckets show them, the last one of each."""
    made = list(marks)
    for bucket, raw in zip(buckets, answers, strict=True):
        made[bucket] = None if raw is None else Mark.parse(raw)
    return made
