"""Reads of cells: all of one standing, whatever servers they come from."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from groundswell.errors import ReplicaUnavailable
from groundswell.model import KEYS_MAX, Counter
from groundswell.replicas.redis.cells import Mark, Published, counter_of
from groundswell.replicas.redis.link import Link
from groundswell.replicas.redis.names import Name, Names
from groundswell.shared import Shared

AT_ONCE: Final = 4 * KEYS_MAX  # cells in one read
LANES: Final = 2  # reads under way: Redis works on one while the other is taken apart
PARSED_MAX: Final = 50_000  # rows whose text need not be taken apart again


class Cell(NamedTuple):
    """A cell that is valid at the standing."""

    rollup: int  # that set it
    payload: bytes


class Snapshot(NamedTuple):
    """What one read found."""

    published: Published
    generations: list[bytes | None]  # of each bucket; None: not asked, or not where the standing is
    cells: dict[bytes, bytes | None]


class Reading:
    """Reads cells; those who ask while a read is under way share the next one."""

    def __init__(self, link: Link, names: Names) -> None:
        self._link = link
        self._names = names
        self._lanes = itertools.cycle(
            [Shared[Sequence[Name], Snapshot](self._find, len, AT_ONCE) for _ in range(LANES)]
        )
        self._published: Published | None = None
        self._marks: dict[bytes, Mark] = {}
        self._rows: dict[bytes, tuple[bytes, int, Counter]] = {}

    async def counters(
        self, names: Sequence[Name]
    ) -> tuple[Published, list[Counter | None]] | None:
        """These rows at one standing; None where they are not of one now. Raises ReplicaUnavailable."""
        published, generations, found = await next(self._lanes)(names)
        at, rows = published.rollup, self._rows
        counters: list[Counter | None] = []
        for bucket, key in names:
            generation, raw = generations[bucket], found[key]
            if generation is None:
                return None
            if raw is None:
                counters.append(None)
                continue
            parsed = rows.get(raw) or self._parse(raw)
            if parsed[0] != generation:
                counters.append(None)
            elif parsed[1] > at:
                return None
            else:
                counters.append(parsed[2])
        return published, counters

    def _parse(self, raw: bytes) -> tuple[bytes, int, Counter]:
        generation, rollup, payload = raw.split(b" ", 2)
        if len(self._rows) >= PARSED_MAX:
            self._rows.clear()
        parsed = self._rows[raw] = generation, int(rollup), counter_of(payload)
        return parsed

    async def cells(self, names: Sequence[Name]) -> tuple[Published, list[Cell | None]] | None:
        """The same for cells of any sort."""
        published, generations, found = await next(self._lanes)(names)
        cells: list[Cell | None] = []
        for bucket, key in names:
            raw = found[key]
            if generations[bucket] is None:
                return None
            generation, rollup, payload = (b"", b"0", b"") if raw is None else raw.split(b" ", 2)
            if int(rollup) > published.rollup and generation == generations[bucket]:
                return None
            cell = Cell(int(rollup), payload)
            cells.append(cell if generation == generations[bucket] else None)
        return published, cells

    async def _find(self, group: Sequence[Sequence[Name]]) -> Callable[[Sequence[Name]], Snapshot]:
        asked: dict[int, dict[bytes, None]] = {0: {}}
        for names in group:
            for bucket, key in names:
                if bucket in asked:
                    asked[bucket][key] = None
                else:
                    asked[bucket] = {key: None}
        marks = [self._names.marks[bucket] for bucket in asked]
        commands = [
            ["MGET", mark, *([self._names.standing] if bucket == 0 else ()), *keys]
            for mark, (bucket, keys) in zip(marks, asked.items(), strict=True)
        ]
        answers = await self._link.run(marks, commands)
        snapshot = self._snapshot(asked, answers)
        return lambda _: snapshot

    def _snapshot(
        self, asked: dict[int, dict[bytes, None]], answers: list[list[bytes | None]]
    ) -> Snapshot:
        published = self._publication(answers[0].pop(1))
        generations: list[bytes | None] = [None] * len(self._names.marks)
        cells: dict[bytes, bytes | None] = {}
        for (bucket, keys), (raw, *found) in zip(asked.items(), answers, strict=True):
            mark = None if raw is None else self._mark(raw)
            if mark is not None and mark.epoch == published.epoch:
                # Else it lost what was published, or what is published now was asked for later.
                is_there = mark.rollup >= published.rollup
                generations[bucket] = mark.generation if is_there else None
            cells.update(zip(keys, found, strict=True))
        return Snapshot(published, generations, cells)

    def _publication(self, raw: bytes | None) -> Published:
        if raw is None:
            raise ReplicaUnavailable("The replica in Redis is empty; it is about to be filled.")
        if self._published is None or self._published.raw != raw:
            self._published = Published.parse(raw)
        return self._published

    def _mark(self, raw: bytes) -> Mark:
        mark = self._marks.get(raw)
        if mark is None:
            if len(self._marks) >= 2 * len(self._names.marks):
                self._marks.clear()
            mark = self._marks[raw] = Mark.parse(raw)
        return mark
