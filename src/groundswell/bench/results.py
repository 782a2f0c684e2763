"""What is measured, as values: of one run, of several, of a whole benchmark."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One system under one load, once."""

    operations: int
    seconds: float
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    cpu_s: float  # of the system's processes and its database's
    client_s: float  # CPU seconds of the client
    memory_mib: float  # the most that the system's processes held; the database's are not in it
    bytes_per_edge: float | None = None
    # From an acknowledgement to its sight, the worst of those tried.
    staleness_ms: float | None = None
    beside_per_s: float | None = None  # writes while the reads were measured

    @property
    def rate(self) -> float:
        """Operations per second."""
        return self.operations / self.seconds

    @property
    def cpu_per_10k(self) -> float:
        """CPU seconds per 10,000 operations."""
        return self.cpu_s / self.operations * 10_000

    @property
    def client_share(self) -> float:
        """Percent of the machine that the client took."""
        return 100 * self.client_s / self.seconds / (os.cpu_count() or 1)


# Field of a run, its title, and the digits of its figures.
FIGURES: Final = (
    ("rate", "per second", 0),
    ("p50_ms", "p50 ms", 1),
    ("p95_ms", "p95 ms", 1),
    ("p99_ms", "p99 ms", 1),
    ("cpu_per_10k", "CPU s per 10,000", 2),
    ("memory_mib", "MiB resident", 0),
    ("bytes_per_edge", "bytes per edge", 0),
    ("staleness_ms", "staleness ms", 0),
    ("beside_per_s", "writes/s beside", 0),
    ("client_share", "client % of CPU", 0),
)


class Figure(msgspec.Struct, frozen=True):
    """A figure of several runs."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        """Of at least one."""
        return cls(statistics.median(values), min(values), max(values))


class Row(msgspec.Struct, frozen=True):
    """All runs of one way of doing it."""

    label: str
    system: str
    note: str
    figures: Mapping[str, Figure]
    ratio: Figure | None  # how many times its rate the first row's is, run by run
    runs: Sequence[Run]

    @classmethod
    def of(
        cls, label: str, system: str, note: str, runs: Sequence[Run], first: Sequence[Run]
    ) -> Row:
        """`first`: the runs that took place beside these."""
        figures = {}
        for field, _, _ in FIGURES:
            values = [getattr(run, field) for run in runs]
            if None not in values:
                figures[field] = Figure.of(values)
        beside = [a.rate / b.rate for a, b in zip(first, runs, strict=False)]
        ratio = Figure.of(beside) if first is not runs and beside else None
        return cls(label, system, note, figures, ratio, runs)


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A workload, and how everybody did."""

    name: str
    title: str
    operation: str
    note: str = ""
    skipped: str = ""  # why there are no rows
    rows: Sequence[Row] = ()


class Line(msgspec.Struct, frozen=True):
    """One line of a chart."""

    label: str
    x: Sequence[float]
    y: Sequence[float]


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """How something grows."""

    name: str
    title: str
    x: str
    y: str
    lines: Sequence[Line]
    logarithmic: bool = True


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where it was measured."""

    cores: int
    cpu: str
    memory_gib: float
    python: str
    kernel: str
    postgres: str
    queue: str
    sync_ms: float  # median of fdatasync of a page
    load_before: float  # of the machine, average of the last minute


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A whole benchmark."""

    version: str
    began: str
    seconds: float
    runs: int
    command: str
    machine: Machine
    yardstick: Figure  # requests per second of an endpoint that does nothing
    tables: Sequence[Table]
    charts: Sequence[Chart] = ()


def machine(postgres: str, queue: str, sync_ms: float) -> Machine:
    """This one."""
    cpu = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(
        cores=os.cpu_count() or 1,
        cpu=cpu[0] if cpu else platform.machine(),
        memory_gib=round(pages / 2**30, 1),
        python=platform.python_version(),
        kernel=platform.release(),
        postgres=postgres,
        queue=queue,
        sync_ms=round(sync_ms, 3),
        load_before=os.getloadavg()[0],
    )
