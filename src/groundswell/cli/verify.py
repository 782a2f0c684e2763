"""`verify`: whether a deployment keeps what it promises."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shlex
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Annotated, Final

import msgspec
import typer
from rich import box
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from groundswell.cli.main import Key, app, err, execute, out
from groundswell.errors import BadSettings
from groundswell.verify import export, network, run, topology
from groundswell.verify import report as reports
from groundswell.verify.history import load

EXIT_CODES: Final = {"passed": 0, "failed": 1, "unknown": 2}
COLOURS: Final = {"kept": "green", "broken": "bold red", "": "default"}


@app.command()
def verify(
    url: Annotated[
        list[str] | None,
        typer.Option("--url", help="A node of a deployment that is there; repeatable."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--topology", help=f"Start one instead: {', '.join(topology.NAMES)}."),
    ] = None,
    nodes: Annotated[int, typer.Option(min=1, max=16, help="Nodes to start.")] = 3,
    faults: Annotated[
        bool, typer.Option("--faults", help="Kill, pause, cut and delay what was started.")
    ] = False,
    seconds: Annotated[float, typer.Option(min=1, help="How long clients are at work.")] = 30.0,
    seed: Annotated[
        int | None, typer.Option(help="Of all that is drawn at random; by default a new one.")
    ] = None,
    sessions: Annotated[
        int, typer.Option(min=1, max=64, help="Sessions of each level at a time.")
    ] = 2,
    key: Key = None,
    history_file: Annotated[
        Path | None, typer.Option("--history", help="Keep what clients saw, as JSON lines.")
    ] = None,
    report_file: Annotated[
        Path | None, typer.Option("--report", help="Write an HTML report.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Let sessions of every level work, with faults, and check what they saw.

    Exits with 0 if no promise was broken, 1 if one was, and 2 if too little succeeded to say.
    """
    if (url is None) == (name is None):
        raise BadSettings("Name either a deployment, by --url, or what to start, by --topology.")
    if url is not None and faults:
        raise BadSettings(
            "--faults are for what --topology starts. Nothing was done to the deployment."
        )
    seed = secrets.randbelow(2**31) if seed is None else seed
    plan = run.Plan(seconds=seconds, seed=seed, faults=faults, sessions=sessions, key=key)
    if faults:
        network.enter()  # where it may; else packets are not lost
    made = execute(_verify(url or [], name, nodes, plan, history_file))
    command = _command(url or [], name, nodes, plan)
    if report_file is not None:
        reports.write(report_file, made, command)
    if json:
        sys.stdout.write(msgspec.json.encode(made).decode() + "\n")
    else:
        _show(made, command)
    if report_file is not None:
        err.print(f"Report: {report_file.resolve()}", highlight=False, soft_wrap=True)
    sys.exit(EXIT_CODES[made.verdict])


async def _verify(
    urls: list[str], name: str | None, nodes: int, plan: run.Plan, history: Path | None
) -> run.Report:
    with (
        tempfile.TemporaryDirectory(prefix="groundswell-verify-") as folder,
        _kept(history) as file,
    ):
        async with _there(urls, name, nodes, Path(folder), plan.seed) as there:
            progress = run.Progress()
            showing = asyncio.create_task(_show_progress(progress, plan.seconds))
            try:
                return await run.verify(there, plan, progress, file)
            finally:
                showing.cancel()
                await asyncio.wait([showing])


@contextlib.asynccontextmanager
async def _there(
    urls: list[str], name: str | None, nodes: int, folder: Path, seed: int
) -> AsyncIterator[topology.Topology]:
    if name is None:
        yield topology.running(urls)
        return
    async with topology.started(name, nodes, folder, seed=seed) as made:
        yield made


def _kept(path: Path | None) -> contextlib.AbstractContextManager[IO[bytes] | None]:
    if path is None:
        return contextlib.nullcontext()
    try:
        return path.open("wb", buffering=0)  # a line is there before the next request
    except OSError as error:
        raise BadSettings(f"The history {path} cannot be written: {error.strerror}.") from error


async def _show_progress(progress: run.Progress, seconds: float) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[operations]:,} operations"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=err) as bar:
        task = bar.add_task(progress.phase, total=seconds, operations=0)
        while True:
            await asyncio.sleep(0.2)
            bar.update(
                task,
                completed=progress.elapsed_s,
                operations=progress.operations,
                description=progress.phase,
            )


def _command(urls: list[str], name: str | None, nodes: int, plan: run.Plan) -> str:
    """What repeats it; with real processes the same faults at the same times, not the same history."""
    where = [f"--url {shlex.quote(url)}" for url in urls] if name is None else []
    what = [] if name is None else [f"--topology {name}", f"--nodes {nodes}"]
    what += ["--faults"] * plan.faults
    what += [f"--seconds {plan.seconds:g}", f"--seed {plan.seed}", f"--sessions {plan.sessions}"]
    return " ".join(["groundswell verify", *where, *what])


def _show(made: run.Report, command: str) -> None:
    out.print(reports.summary(made), highlight=False)
    out.print(reports.faults(made), highlight=False)
    out.print(reports.ended(made), highlight=False, markup=False)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0), pad_edge=False)
    table.add_column("level", no_wrap=True)
    for _, title in reports.COLUMNS:
        table.add_column(title, justify="right", no_wrap=True)
    for row in made.levels:
        table.add_row(
            row.level, *(f"[{COLOURS[kind]}]{text}[/]" for text, kind in reports.cells(row))
        )
    out.print(table)
    for finding in made.findings:
        if finding.violation is None:
            mark = "[green]✓[/]" if finding.checked else "-"
            out.print(
                f"{mark} {finding.level}: {finding.name} ({finding.checked:,})", highlight=False
            )
    for finding, lines in reports.violations(made):
        what = finding.violation.what if finding.violation else ""
        out.print(
            f"[bold red]✗ {finding.level}: {finding.name}[/]: {escape(what)}", highlight=False
        )
        for line in lines:
            out.print(f"    {line}", highlight=False, markup=False, soft_wrap=True)
    out.print(reports.meaning(made), highlight=False)
    out.print(f"Again: {command}", highlight=False, markup=False, soft_wrap=True)


@app.command()
def history(
    file: Annotated[Path, typer.Argument(help="What `verify --history` kept.")],
    to: Annotated[str, typer.Option(help=f"One of {', '.join(export.FORMATS)}.")],
    level: Annotated[
        list[str] | None,
        typer.Option(help="Reads of this level; repeatable; by default the linearizable ones."),
    ] = None,
) -> None:
    """Print a history in the format of another checker: Elle, Plume (or AWDIT), Porcupine."""
    if to not in export.FORMATS:
        raise BadSettings(f"There is no format {to!r}; there are: {', '.join(export.FORMATS)}.")
    try:
        with file.open("rb") as lines:
            ops = load(lines)
    except (OSError, msgspec.DecodeError, KeyError) as error:
        raise BadSettings(f"{file} cannot be read as a history: {error}.") from error
    for line in export.FORMATS[to](ops, *(level or ["linearizable"])):
        sys.stdout.buffer.write(line)
