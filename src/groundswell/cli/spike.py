"""`demo` and `replay`: real or drawn spikes into a node."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich import box
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from groundswell import wiring
from groundswell.cli.main import Key, Url, app, err, execute, out
from groundswell.demo import profile, report, run, threads, writers
from groundswell.demo.trace import Action, Message, TraceError, read_threads, read_trace
from groundswell.demo.truth import Truth
from groundswell.errors import BadSettings

SECONDS: Final = 30.0

TraceFile = Annotated[
    Path | None,
    typer.Option("--trace", help="Real actions: SNAP's Higgs log, or CSV t,kind,target,source,op."),
]
Since = Annotated[float | None, typer.Option("--from", help="Only from this Unix time on.")]
Until = Annotated[float | None, typer.Option("--until", help="Only before this Unix time.")]
Only = Annotated[
    str | None, typer.Option("--only", help="Only this activity (RT, MT, RE) or kind.")
]
Seconds = Annotated[float, typer.Option(min=1, help="Compress the trace into this many seconds.")]
Seed = Annotated[int, typer.Option(help="Of everything that is drawn at random.")]


@app.command()
def demo(
    store: Annotated[
        str | None, typer.Option(help="Store to use; by default one that is thrown away.")
    ] = None,
    trace: TraceFile = None,
    since: Since = None,
    until: Until = None,
    only: Only = None,
    threads_file: Annotated[
        Path | None,
        typer.Option("--threads", help="Real discussions: CSV id,parent_id,discussion,t."),
    ] = None,
    seconds: Seconds = SECONDS,
    seed: Seed = profile.SEED,
    report_file: Annotated[
        Path, typer.Option("--report", help="Where to write the report.")
    ] = Path("groundswell-report.html"),
    leave: Annotated[bool, typer.Option("--exit", help="End after the report.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print the table as JSON; ends after it.")
    ] = False,
) -> None:
    """Start a node with three replicas, let something go viral, and show what each level sees."""
    report.check_installed()
    plan = run.Plan(
        actions=_actions(trace, since, until, only),
        messages=_messages(threads_file, seed),
        seconds=seconds,
        seed=seed,
    )
    held = execute(_demo(store, plan, report_file.resolve(), leave=leave or json, json=json))
    if not held:
        sys.exit(1)


def _actions(
    trace: Path | None, since: float | None, until: float | None, only: str | None
) -> list[Action]:
    if trace is None:
        if (since, until, only) != (None, None, None):
            raise BadSettings("--from, --until and --only cut a trace: name one with --trace.")
        return profile.draw(profile.load())
    try:
        found = read_trace(trace, since=since, until=until, only=only)
    except TraceError as error:
        raise BadSettings(str(error)) from error
    if not found:
        raise BadSettings(f"{trace} has no action in what --from, --until and --only leave of it.")
    return found


def _messages(threads_file: Path | None, seed: int) -> list[Message]:
    if threads_file is None:
        return threads.draw(seed=seed)
    try:
        return read_threads(threads_file)
    except TraceError as error:
        raise BadSettings(str(error)) from error


async def _demo(
    store: str | None, plan: run.Plan, report_file: Path, *, leave: bool, json: bool
) -> bool:
    async with run.running_node(store) as url:
        err.print(
            f"A node with three replicas runs at {url}, which shows it live. Their delays of 0, 150 and "
            "600 ms are injected.",
            highlight=False,
            soft_wrap=True,
        )
        total = len(plan.actions) + len(plan.messages) + writers.repeats(plan.actions, plan.seed)
        with _progress("spike", total) as advance:
            outcome = await run.demonstrate(url, plan, advance)
        await asyncio.to_thread(report.write, report_file, outcome)
        held = run.verdicts(outcome)
        if json:
            sys.stdout.write(msgspec.json.encode(outcome.result).decode() + "\n")
        else:
            _show(outcome)
            for name, kept in held.items():
                out.print(
                    f"[green]✓[/] {name}" if kept else f"[bold red]✗ {name}[/]", highlight=False
                )
        err.print(f"Report: {report_file}", highlight=False, soft_wrap=True)
        if not leave:
            err.print(
                f"Still serving at {url} (the live page; its API: {url}/docs). Ctrl-C ends.",
                highlight=False,
                soft_wrap=True,
            )
            await _until_interrupted()
    return all(held.values())


def _show(outcome: run.Outcome) -> None:
    check = outcome.result.trace
    table = Table(
        title=(
            f"{check.actions:,} actions in {outcome.seconds:.0f} s ({outcome.repeated:,} sent twice), "
            f"{check.edges:,} edges, counts {'exact' if check.counts_exact else 'NOT exact'}"
        ),
        title_justify="left",
        title_style="",
        box=box.SIMPLE_HEAD,
        padding=(0, 0),
        pad_edge=False,
    )
    table.add_column("level", no_wrap=True)
    for _, _, title in report.COLUMNS:
        table.add_column(title, justify="right", no_wrap=True)
    colours = {"kept": "green", "broken": "bold red", "": "default"}
    for level, row in outcome.result.levels.items():
        table.add_row(
            level,
            *(
                f"[{colours[report.standing(level, column, row)]}]{report.text_of(row, column)}[/]"
                for column, _, _ in report.COLUMNS
            ),
        )
    out.print(table)


async def _until_interrupted() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


@contextlib.contextmanager
def _progress(title: str, total: int) -> Iterator[run.Advance]:
    """A progress bar on standard error, and the function that moves it."""
    columns = (
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=err) as progress:
        task = progress.add_task(title, total=total)

        def advance(steps: int) -> None:
            progress.advance(task, steps)

        yield advance


@app.command()
def replay(
    trace: Annotated[
        Path, typer.Argument(help="SNAP's Higgs log, or CSV t,kind,target,source,op.")
    ],
    since: Since = None,
    until: Until = None,
    only: Only = None,
    seconds: Seconds = SECONDS,
    seed: Seed = profile.SEED,
    url: Url = "http://127.0.0.1:8080",
    key: Key = None,
) -> None:
    """Send a trace of real actions into a running node, a fifth of them twice."""
    actions = _actions(trace, since, until, only)

    async def work() -> tuple[float, int]:
        truth = Truth(actions)
        began_s = time.monotonic()
        async with wiring.connect(url, key=key) as gs:
            await gs.session().write([])  # fails now, and not again and again, if there is no node
            total = len(actions) + writers.repeats(actions, seed)
            with _progress("replay", total) as advance:
                await writers.spike(gs, actions, truth, seconds=seconds, seed=seed, advance=advance)
        return time.monotonic() - began_s, sum(truth.acknowledged.values())

    took_s, stored = execute(work())
    out.print(
        f"{len(actions):,} actions in {timedelta(seconds=round(took_s))}, {stored:,} new edges.",
        highlight=False,
    )
