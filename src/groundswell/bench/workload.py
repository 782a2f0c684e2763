"""What a workload is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from groundswell.bench.measure import Bench
from groundswell.bench.results import Run


class Way(NamedTuple):
    """A system at work, measured in turn with the others, at each of these in turn too.

    What all are compared with is the first label of the first way.
    """

    system: str
    labels: Sequence[str]
    run: Callable[[Bench], Awaitable[Mapping[str, Run]]]


def way(system: str, run: Callable[[Bench], Awaitable[Run]], label: str = "") -> Way:
    """One that is measured in one way only, called as the system if it has no name of its own."""
    label = label or system

    async def runs(bench: Bench) -> Mapping[str, Run]:
        return {label: await run(bench)}

    return Way(system, [label], runs)


class Workload(NamedTuple):
    """A load, and who takes it."""

    name: str
    title: str
    operation: str  # what is counted, in the plural
    ways: Sequence[Way]
    note: str = ""
    skipped: Callable[[Bench], str] = lambda _: ""  # why it cannot be run here
