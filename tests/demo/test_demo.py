"""The demonstration end to end, as a process, on drawn and on real input."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import psycopg
import pytest

import nodes

DATA = Path(
    os.environ.get("GROUNDSWELL_DATA", Path(__file__).parents[2].parent / "shared" / "data")
)
HIGGS = DATA / "higgs-activity_time.txt.gz"
THREADS = DATA / "reddit_ireland_events.csv.gz"
LEVELS = ["eventual", "read_your_writes", "monotonic", "causal", "linearizable"]
COLUMNS = {
    "reads",
    "went_backwards",
    "missed_own_write",
    "reply_before_question",
    "stale_reads",
    "double_spent",
    "oversold",
    "p50_ms",
    "p99_ms",
    "replica_share",
    "age_ms_max",
}
ANOMALIES = ("went_backwards", "missed_own_write", "reply_before_question", "stale_reads")

needs_higgs = pytest.mark.skipif(
    not HIGGS.exists(), reason="the Higgs log is not in GROUNDSWELL_DATA"
)
needs_threads = pytest.mark.skipif(
    not THREADS.exists(), reason="the discussions are not in GROUNDSWELL_DATA"
)


def demo(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """Run `groundswell demo --json`; it fails where a level broke its promise."""
    done = subprocess.run(
        [sys.executable, "-m", "groundswell", "demo", "--json", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def check_levels(result: dict[str, Any]) -> None:
    levels = result["levels"]
    assert list(levels) == LEVELS
    assert all(set(row) == COLUMNS for row in levels.values())
    sharp = (*ANOMALIES, "double_spent", "oversold")
    assert all(levels["eventual"][column] > 0 for column in sharp), "the demo is not sharp"
    assert levels["read_your_writes"]["missed_own_write"] == 0
    assert levels["monotonic"]["went_backwards"] == 0
    assert [levels["causal"][column] for column in ANOMALIES[:3]] == [0, 0, 0]
    assert [levels["linearizable"][column] for column in sharp] == [0] * 6
    assert levels["causal"]["replica_share"] >= 0.9


def test_the_drawn_spike_shows_every_anomaly_where_it_is_allowed_and_only_there(
    tmp_path: Path,
) -> None:
    result = demo(tmp_path, "--seconds", "12")
    check_levels(result)
    assert result["trace"] == {"actions": 133_069, "edges": 119_732, "counts_exact": True}
    report = (tmp_path / "groundswell-report.html").read_text()
    assert "One spike, five consistency levels" in report
    assert not re.search(r'<(script|link)[^>]+(src|href)="http', report), "it needs the network"


@pytest.mark.parametrize("queue", ["auto", "outbox"])
def test_the_drawn_spike_on_postgresql(tmp_path: Path, database: str, queue: str) -> None:
    """The same table with the same zeros; a database without a store is migrated first."""
    if queue != "auto":
        nodes.command(tmp_path, "migrate", "--store", database, "--queue", queue)
    result = demo(tmp_path, "--seconds", "15", "--store", database)
    check_levels(result)
    assert result["trace"] == {"actions": 133_069, "edges": 119_732, "counts_exact": True}
    with psycopg.connect(database) as connection:
        [(edges,)] = connection.execute("SELECT count(*) FROM groundswell.edge_like")
        [(likes,)] = connection.execute(
            "SELECT sum(count)::bigint FROM groundswell.counter WHERE kind = 'like'"
        )
    assert edges == likes == 119_732


@needs_higgs
def test_the_real_window_is_counted_exactly(tmp_path: Path) -> None:
    window = ["--from", "1341374400", "--until", "1341403200", "--only", "RT"]
    result = demo(tmp_path, "--trace", str(HIGGS), *window, "--seconds", "12")
    check_levels(result)
    assert result["trace"] == {"actions": 133_069, "edges": 119_732, "counts_exact": True}


@needs_higgs
@needs_threads
def test_the_whole_week_and_all_real_threads(tmp_path: Path) -> None:
    store = tmp_path / "week.db"
    result = demo(
        tmp_path,
        *("--trace", str(HIGGS), "--only", "RT", "--threads", str(THREADS)),
        *("--seconds", "25", "--store", f"sqlite:///{store}"),
    )
    check_levels(result)
    assert result["trace"] == {"actions": 354_930, "edges": 328_132, "counts_exact": True}
    replies, account_88 = stored(store)
    assert replies == 79_171
    assert account_88 == 14_060


def stored(path: Path) -> tuple[int, int]:
    """From the file itself: the reply edges, and the likes of account 88."""
    import sqlite3

    connection = sqlite3.connect(path)
    try:
        replies = connection.execute("SELECT count(*) FROM edge_reply").fetchone()[0]
        likes = connection.execute("SELECT count(*) FROM edge_like WHERE target = 88").fetchone()[0]
    finally:
        connection.close()
    return replies, likes


def test_it_goes_on_serving_until_interrupted(tmp_path: Path) -> None:
    # Settings of the folder are for other nodes: with these nobody could ask the demo's.
    (tmp_path / "groundswell.toml").write_text(
        f'[[keys]]\nname = "x"\nsha256 = "{"0" * 64}"\nscopes = ["read"]\n'
    )
    trace = tmp_path / "small.csv"
    rows = [f"{second},like,7,{second},add" for second in range(1, 400)]
    trace.write_text("t,kind,target,source,op\n" + "\n".join(rows) + "\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "groundswell", "demo", "--trace", str(trace), "--seconds", "3"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr
        url = None
        for line in process.stderr:
            if found := re.search(r"Still serving at (http://\S+)", line):
                url = found[1]
                break
        assert url is not None
        with urllib.request.urlopen(f"{url}/v1/counts/like/7?consistency=linearizable") as answer:
            assert json.load(answer)["count"] == 399
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
        assert "399 edges, counts exact" in out
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--trace", "absent.csv"], "absent.csv"),
        (["--from", "1"], "--trace"),
        (["--threads", "absent.csv"], "absent.csv"),
    ],
)
def test_bad_input_is_one_line_and_no_node_is_started(
    tmp_path: Path, arguments: list[str], says: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "groundswell", "demo", "--exit", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
