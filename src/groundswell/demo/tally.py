"""What the sessions of one level met."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import TypeVar

import msgspec

from groundswell.errors import NotFound
from groundswell.results import AccountState, Count, Object

T = TypeVar("T")


class Tally(msgspec.Struct):
    """What the sessions of one level met."""

    reads: int = 0
    went_backwards: int = 0
    missed_own_write: int = 0
    reply_before_question: int = 0
    stale_reads: int = 0
    replica_reads: int = 0
    age_ms_max: float = 0.0
    latencies_ms: list[float] = []

    def percentile_ms(self, share: float) -> float:
        """The latency that this share of the reads kept below."""
        ordered = sorted(self.latencies_ms)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0

    async def timed(self, read: Awaitable[T]) -> T:
        """What the read answers, with a note of how long it took and who served it."""
        began_s = time.perf_counter()
        try:
            answer = await read
        except NotFound as error:
            found = error.read or {}
            self._note(began_s, found.get("served_by"), found.get("age_ms"))
            raise
        if isinstance(answer, Count | Object | AccountState):
            self._note(began_s, answer.served_by, answer.age_ms)
        return answer

    def _note(self, began_s: float, served_by: str | None, age_ms: float | None) -> None:
        self.reads += 1
        self.latencies_ms.append((time.perf_counter() - began_s) * 1000)
        self.replica_reads += served_by != "primary"
        self.age_ms_max = max(self.age_ms_max, age_ms or 0.0)
