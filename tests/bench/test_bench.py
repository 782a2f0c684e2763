"""The benchmark as a user runs it; and its report, from figures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from clusters import missing
from groundswell.bench import load, systems
from groundswell.bench.results import Chart, Figure, Line, Machine, Report, Row, Run, Table

if absent := systems.missing():
    pytest.skip(f"not installed: {', '.join(absent)}", allow_module_level=True)

from groundswell.bench import report as reports
from groundswell.bench.run import NAMES, QUICK, QUICK_PEERS

RUN_S = 120.0


def run_of(operations: int, seconds: float = 2.0) -> Run:
    return Run(
        operations=operations,
        seconds=seconds,
        p50_ms=1.0,
        p95_ms=2.0,
        p99_ms=3.0,
        cpu_s=1.0,
        client_s=1.0,
        memory_mib=50.0,
    )


def a_report() -> Report:
    ours = [run_of(2_000), run_of(4_000), run_of(3_000)]
    theirs = [run_of(1_000), run_of(1_000), run_of(500)]
    table = Table(
        name="likes",
        title="Likes <of one post>",
        operation="likes",
        rows=[
            Row.of("groundswell", "groundswell", "a node", ours, ours),
            Row.of("inline", "inline", "a <peer>", theirs, ours),
        ],
    )
    return Report(
        version="0.1.0",
        began="2026-01-01T00:00:00+00:00",
        seconds=60.0,
        runs=3,
        command="groundswell bench",
        machine=Machine(
            cores=2,
            cpu="A CPU",
            memory_gib=8.0,
            python="3.11",
            kernel="6",
            postgres="15",
            queue="pgq",
            sync_ms=0.1,
            load_before=0.0,
        ),
        yardstick=Figure.of([10_000, 30_000, 20_000]),
        tables=[table, Table(name="trace", title="A trace", operation="likes", skipped="no data")],
        charts=[
            Chart(name="g", title="Growth", x="x", y="y", lines=[Line("like", [1, 2], [3, 3])])
        ],
    )


def test_a_row_has_medians_extremes_and_ratios_run_by_run() -> None:
    ours, theirs = a_report().tables[0].rows
    assert ours.figures["rate"] == Figure(1_500, 1_000, 2_000)
    assert ours.ratio is None
    assert theirs.ratio == Figure(4.0, 2.0, 6.0)
    assert theirs.figures["cpu_per_10k"] == Figure(10.0, 10.0, 20.0)
    assert "staleness_ms" not in ours.figures


def test_the_report_needs_nothing_else_and_has_every_table_and_chart(tmp_path: Path) -> None:
    reports.write(tmp_path / "bench.html", a_report())
    page = (tmp_path / "bench.html").read_text()
    assert "Likes &lt;of one post&gt;" in page
    assert "a &lt;peer&gt;" in page
    assert "Skipped: no data" in page
    assert "20,000 requests/s" in page
    assert page.count("Plotly.newPlot(") == 2
    assert "<script src" not in page


def test_the_client_that_took_the_machine_is_told() -> None:
    run = run_of(100)
    assert run.client_share == pytest.approx(100 * 1.0 / 2.0 / (os.cpu_count() or 1))


@pytest.mark.skipif(bool(missing()), reason=missing() or "none")
@pytest.mark.skipif(bool(load.missing()), reason=load.missing() or "none")
def test_a_small_benchmark_from_the_command_line(tmp_path: Path) -> None:
    arguments = ["--quick", "--workload", "likes", "--workload", "trace", "--peer", "inline"]
    files = ["--json", str(tmp_path / "a.json"), "--report", str(tmp_path / "a.html")]
    done = subprocess.run(
        [sys.executable, "-m", "groundswell", "bench", *arguments, *files],
        capture_output=True,
        text=True,
        timeout=RUN_S,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "One hot post" in done.stdout
    assert "--data names no folder" in done.stdout
    found = msgspec.json.decode((tmp_path / "a.json").read_bytes(), type=Report)
    likes, trace = found.tables
    assert [row.label for row in likes.rows] == ["groundswell", "inline"]
    assert likes.rows[0].figures["client_share"].median > 0
    assert trace.skipped
    assert found.yardstick.median > 0
    assert "Plotly.newPlot(" in (tmp_path / "a.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--workload", "nothing"], "There is no workload 'nothing'"),
        (["--peer", "graph"], "There is no peer 'graph'"),
    ],
)
def test_what_is_unknown_is_said_before_anything_starts(arguments: list[str], said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "groundswell", "bench", *arguments],
        capture_output=True,
        text=True,
        timeout=RUN_S,
    )
    assert done.returncode == 1
    assert said in done.stderr


def test_the_quick_one_is_made_of_what_there_is() -> None:
    assert set(QUICK) <= set(NAMES)
    assert set(QUICK_PEERS) <= set(systems.PEERS)
