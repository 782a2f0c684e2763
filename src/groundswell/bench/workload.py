"""What a workload is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from groundswell.bench.measure import Bench
from groundswell.bench.results import Run


class Way(NamedTuple):
    """One way of doing it, measured in turn with the others; the first is what they are compared with."""

    label: str
    system: str
    run: Callable[[Bench], Awaitable[Run]]


class Workload(NamedTuple):
    """A load, and who takes it."""

    name: str
    title: str
    operation: str  # what is counted, in the plural
    ways: Sequence[Way]
    note: str = ""
    runs_max: int = 1_000  # more would take too long
    skipped: Callable[[Bench], str] = lambda _: ""  # why it cannot be run here
