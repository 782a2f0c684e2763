"""`bench`: Groundswell beside what people would use instead."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from groundswell.bench import report as reports
from groundswell.bench import run, terminal
from groundswell.bench.check import Miscounted
from groundswell.bench.results import Report, Table
from groundswell.bench.systems import PEERS
from groundswell.cli.main import app, err, execute, out
from groundswell.errors import StoreUnusable
from groundswell.reports import write_report

RUNS: Final = 5


@app.command()
def bench(
    quick: Annotated[
        bool,
        typer.Option("--quick", help="One short run of what matters most: no basis for claims."),
    ] = False,
    workload: Annotated[
        list[str] | None,
        typer.Option(help=f"Only this one; repeatable: {', '.join(run.NAMES)}."),
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(help=f"Only this one beside Groundswell; repeatable: {', '.join(PEERS)}."),
    ] = None,
    runs: Annotated[
        int | None, typer.Option(min=1, help="Of each, in turns (default 5; with --quick 1).")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            envvar="GROUNDSWELL_BENCH_DATA",
            help="Folder of the real trace and TAOBench's definitions.",
        ),
    ] = None,
    report_file: Annotated[
        Path | None, typer.Option("--report", help="Write an HTML report.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write everything that was measured, as JSON.")
    ] = None,
) -> None:
    """Measure this machine: Groundswell and its peers in turns, under the same loads."""
    plan = run.Plan(
        quick=quick,
        runs=runs or (1 if quick else RUNS),
        workloads=workload or (run.QUICK if quick else run.NAMES),
        peers=peer or (run.QUICK_PEERS if quick else None),
        data=data,
        command=_command(quick, workload, peer, runs),
    )
    run.check(plan)

    def keep(report: Report) -> None:
        """Written after each workload, so that a long run that is ended leaves what it has."""
        if report_file is not None:
            reports.write(report_file, report)
        if json_file is not None:
            made = msgspec.json.format(msgspec.json.encode(report), indent=1)
            write_report(json_file, made.decode() + "\n")

    with tempfile.TemporaryDirectory(prefix="groundswell-bench-") as folder:
        try:
            made = execute(run.bench(plan, Path(folder), _tell, keep))
        except Miscounted as error:
            raise StoreUnusable(f"{error} Figures of what counts wrong say nothing.") from error
    for table in made.tables:
        _show(table)
    out.print(f"\n{terminal.LEGEND}", highlight=False)
    out.print(reports.summary(made), highlight=False)
    for file in filter(None, (report_file, json_file)):
        err.print(f"Written: {file.resolve()}", highlight=False, soft_wrap=True)


def _tell(what: str) -> None:
    err.print(what, highlight=False, markup=False)


def _command(
    quick: bool, workload: list[str] | None, peer: list[str] | None, runs: int | None
) -> str:
    parts = ["groundswell bench", *["--quick"] * quick]
    parts += [f"--workload {name}" for name in workload or ()]
    parts += [f"--peer {name}" for name in peer or ()]
    parts += [f"--runs {runs}"] if runs else []
    return " ".join(parts)


def _show(measured: Table) -> None:
    out.print(f"\n[bold]{measured.title}[/]", highlight=False)
    if measured.skipped:
        out.print(f"skipped: {measured.skipped}", highlight=False, markup=False)
        return
    out.print(terminal.fitted(measured, out))
