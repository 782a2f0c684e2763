"""Runs a benchmark: everybody in turn, again and again, and the machine's own pace beside."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple

from groundswell.bench import growth, load
from groundswell.bench.keepalive import request
from groundswell.bench.load import write_requests, wrk
from groundswell.bench.measure import Bench, rotated
from groundswell.bench.results import Chart, Figure, Report, Row, Run, Table, machine
from groundswell.bench.servers import (
    HOST,
    Databases,
    databases,
    listening,
    redis_missing,
    sync_ms,
)
from groundswell.bench.systems import PEERS, SYSTEMS, Tuning, missing, program
from groundswell.bench.workload import Way, Workload
from groundswell.bench.workloads import day
from groundswell.bench.workloads.likes import LIKES, LIKES_CROWD, like
from groundswell.bench.workloads.page import PAGE
from groundswell.bench.workloads.reads import READS, READS_MANY, SPIKE
from groundswell.bench.workloads.rollup import ROLLUP
from groundswell.bench.workloads.tao import TAO
from groundswell.bench.workloads.trace import PACED, TRACE
from groundswell.errors import BadSettings
from groundswell.server.run import free_port

WORKLOADS: Final = {
    made.name: made
    for made in (
        *(LIKES, LIKES_CROWD, TRACE, PACED, READS, READS_MANY, SPIKE, PAGE),
        *(*TAO, ROLLUP, day.DAY),
    )
}
GROWTH: Final = "growth"
NAMES: Final = (*WORKLOADS, GROWTH)
# What there is time for in three minutes.
QUICK: Final = ("likes", "trace", "reads", "reads-100", "page", "tao-o", "rollup", "day")
QUICK_PEERS: Final = ("inline", "inline-sqlalchemy", "slotted", "redis", "outbox-per-like")
SECONDS: Final = 2.0
YARDSTICK_S: Final = 1.0
CLIENTS: Final = 64

Tell = Callable[[str], None]
Keep = Callable[[Report], None]


class Plan(NamedTuple):
    """What to run."""

    quick: bool
    runs: int
    workloads: Sequence[str]
    peers: Sequence[str] | None  # besides Groundswell; None for all
    data: Path | None
    command: str


def check(plan: Plan) -> None:
    """Raise BadSettings, before anything is started, if something is unknown or not installed."""
    if unknown := set(plan.workloads) - set(NAMES):
        raise BadSettings(
            f"There is no workload {sorted(unknown)[0]!r}; there are {', '.join(NAMES)}."
        )
    if unknown := set(plan.peers or ()) - set(PEERS):
        raise BadSettings(f"There is no peer {sorted(unknown)[0]!r}; there are {', '.join(PEERS)}.")
    if absent := missing():
        raise BadSettings(
            f"Not installed: {', '.join(absent)}: pip install 'groundswell[bench]'. Nothing was started."
        )
    if why := load.missing():
        raise BadSettings(f"{why}. Nothing was started.")


async def bench(plan: Plan, folder: Path, tell: Tell, keep: Keep) -> Report:
    """Run it; `tell` hears what is done, `keep` gets what there is so far after each workload.

    Raises BadSettings, StoreUnusable where a server cannot be started, or Miscounted.
    """
    check(plan)
    began_s = time.monotonic()
    with databases() as there:
        made = _Maker(plan, folder, there, tell)
        report = made.report([], [], 0.0)
        tables: list[Table] = []
        charts: list[Chart] = []
        await made.pace()
        if not plan.quick and {LIKES.name, LIKES_CROWD.name} & set(plan.workloads):
            await made.tune()
        for name in (name for name in NAMES if name in plan.workloads):
            if name == GROWTH:
                charts += await made.growth()
            elif name == day.DAY.name:
                table, more = await made.day()
                tables.append(table)
                charts += more
            else:
                tables.append(await made.table(WORKLOADS[name]))
            await made.pace()
            report = made.report(tables, charts, time.monotonic() - began_s)
            keep(report)
    return report


class _Maker:
    """Makes the parts of a report."""

    def __init__(self, plan: Plan, folder: Path, there: Databases, tell: Tell) -> None:
        self._plan = plan
        self._tell = tell
        self._began = datetime.now(UTC).isoformat(timespec="seconds")
        seconds = 1.0 if plan.quick else SECONDS
        self._bench = Bench(there, folder, seconds, plan.quick, plan.data, {})
        self._machine = machine(there.version, there.queue, sync_ms())
        self._pace: list[float] = []

    def report(self, tables: Sequence[Table], charts: Sequence[Chart], seconds: float) -> Report:
        """What there is."""
        return Report(
            version=version("groundswell"),
            began=self._began,
            seconds=seconds,
            runs=self._plan.runs,
            command=self._plan.command,
            machine=self._machine,
            yardstick=Figure.of(self._pace or [0.0]),
            tables=list(tables),
            charts=list(charts),
        )

    async def pace(self) -> None:
        """What the machine gives in this minute: an endpoint that does nothing."""
        port = free_port(HOST, 0)
        async with program("bare", ["--port", str(port)]):
            await listening(port)
            file = write_requests(
                self._bench.folder / "requests", [request("GET", "/v1/counts/like/1")]
            )
            met = await wrk(
                *(self._bench.folder, f"http://{HOST}:{port}", "cycle", file),
                clients=CLIENTS,
                seconds=YARDSTICK_S,
            )
        self._pace.append(met.rate)
        self._tell(f"an endpoint that does nothing: {met.rate:,.0f}/s")

    async def tune(self) -> None:
        """Try each peer as its users would, and keep what is fastest."""
        for system in SYSTEMS.values():
            if len(system.tried) == 1 or not self._wanted(system.name):
                continue
            rates: dict[Tuning, float] = {}
            short = self._bench._replace(seconds=1.0)
            for tuning in system.tried:
                rates[tuning] = (await like(short, system.name, tuning)).rate
            self._bench.tunings[system.name] = max(rates, key=rates.__getitem__)
            tried = ", ".join(
                f"{rate:,.0f}/s with {tuning.workers} x {tuning.pool}"
                for tuning, rate in rates.items()
            )
            self._tell(f"{system.name} (processes x connections): {tried}")

    def _wanted(self, system: str) -> bool:
        if system == "redis" and redis_missing():
            return False
        peers = self._plan.peers
        if system == "graph":  # inline, for objects too
            system = "inline"
        return peers is None or system == "groundswell" or system in peers

    async def table(self, workload: Workload) -> Table:
        """All ways in turn, beginning with another one each time."""
        skipped = workload.skipped(self._bench)
        if skipped:
            self._tell(f"{workload.name}: skipped: {skipped}")
            return _table(workload, [], skipped=skipped)
        ways = [way for way in workload.ways if self._wanted(way.system)]
        runs: dict[str, list[Run]] = {label: [] for way in ways for label in way.labels}
        for n in range(self._plan.runs):
            for way in rotated(ways, n):
                for label, run in (await way.run(self._bench._replace(turn=n))).items():
                    runs[label].append(run)
                    self._tell(f"{workload.name}, {label}: {run.rate:,.0f} {workload.operation}/s")
        first = runs[ways[0].labels[0]]
        made = [
            Row.of(label, way.system, self._note(way), runs[label], first)
            for way in ways
            for label in way.labels
        ]
        absent = redis_missing() if any(way.system == "redis" for way in workload.ways) else ""
        return _table(workload, made, note=absent)

    def _note(self, way: Way) -> str:
        tuning = self._bench.tunings.get(way.system)
        used = f"; {tuning.workers} x {tuning.pool} connections" if tuning else ""
        return SYSTEMS[way.system].note + used

    async def day(self) -> tuple[Table, list[Chart]]:
        """Once: it is long enough. With what operations cost at each size of it."""
        marks = [10_000, 100_000, day.FOLLOWS_QUICK]
        if not self._plan.quick:
            marks = [10_000, 100_000, 1_000_000, day.FOLLOWS]
        edges = growth.Edges(self._bench)
        lived = await day.live(self._bench, marks, edges)
        self._tell(f"day: {lived.run.operations:,} follows in {lived.run.seconds:.1f} s")
        way = day.DAY.ways[0]
        row = Row.of(way.labels[0], way.system, self._note(way), [lived.run], [])
        return _table(day.DAY, [row]), edges.charts(lived)

    async def growth(self) -> list[Chart]:
        """All charts but those of the day."""
        charts = []
        for made in growth.CHARTS:
            charts.append(await made(self._bench))
            self._tell(f"growth by {made.__name__}: done")
        return charts


def _table(workload: Workload, rows: Sequence[Row], *, skipped: str = "", note: str = "") -> Table:
    return Table(
        name=workload.name,
        title=workload.title,
        operation=workload.operation,
        note=" ".join(filter(None, (workload.note, note))),
        skipped=skipped,
        rows=rows,
    )
