"""The demonstration end to end, as a process, on drawn and on real input."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

import nodes
from clusters import Cluster
from groundswell.demo import profile
from groundswell.demo.trace import write_trace

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

pytestmark = pytest.mark.timeout(900)  # of which a busy machine may need a part

needs_higgs = pytest.mark.skipif(
    not HIGGS.exists(), reason="the Higgs log is not in GROUNDSWELL_DATA"
)
needs_threads = pytest.mark.skipif(
    not THREADS.exists(), reason="the discussions are not in GROUNDSWELL_DATA"
)


SHARP = "eventual: every anomaly was seen"
SHARE = "causal: at least 90 % served by replicas"
MISSED = {SHARP, SHARE}  # by a machine that is too busy to read often


def demo(
    tmp_path: Path, *arguments: str, seconds: int, stores: Iterator[str] | None = None
) -> tuple[dict[str, Any], str]:
    """What `groundswell demo --json` prints, and on which store; it fails where a promise was broken.

    That all was seen that may be takes many reads: a busy machine gets more time, and a new store.
    """
    for longer, store in zip((1, 2, 4), stores or itertools.repeat(""), strict=False):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "groundswell", "demo", "--json", *arguments),
                *("--seconds", str(seconds * longer), *(["--store", store] if store else [])),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        report = tmp_path / "groundswell-report.html"
        assert report.exists(), done.stdout + done.stderr
        broken = set(re.findall(r'<li class="broken">(.+): NO</li>', report.read_text()))
        assert done.returncode == bool(broken), done.stdout + done.stderr
        assert broken <= MISSED, done.stdout + done.stderr
        if not broken:
            break
    assert not broken, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found, store


@pytest.fixture
def databases(cluster: Cluster) -> Iterator[Iterator[str]]:
    """As many new ones as are asked for; dropped at the end."""
    names: list[str] = []

    def made() -> Iterator[str]:
        while True:
            names.append(cluster.create_database())
            yield cluster.url(names[-1])

    yield made()
    for name in names:
        cluster.drop_database(name)


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
    result, _ = demo(tmp_path, seconds=12)
    check_levels(result)
    assert result["trace"] == {"actions": 133_069, "edges": 119_732, "counts_exact": True}
    report = (tmp_path / "groundswell-report.html").read_text()
    assert "One spike, five consistency levels" in report
    assert not re.search(r'<(script|link)[^>]+(src|href)="http', report), "it needs the network"


def test_the_drawn_spike_on_postgresql(tmp_path: Path, databases: Iterator[str]) -> None:
    """The same table with the same zeros; a database without a store is migrated first."""
    result, database = demo(tmp_path, seconds=15, stores=databases)
    check_levels(result)
    assert result["trace"] == {"actions": 133_069, "edges": 119_732, "counts_exact": True}
    assert likes(database) == (119_732, 119_732)


def test_a_smaller_spike_on_postgresql_without_pgq(
    tmp_path: Path, databases: Iterator[str]
) -> None:
    """The same once more with the other queue: by a trace of our own, into a store that is there."""

    def migrated() -> Iterator[str]:
        for url in databases:
            done = nodes.command(tmp_path, "migrate", "--store", url, "--queue", "outbox")
            assert done.returncode == 0, done
            yield url

    write_trace(tmp_path / "spike.csv", profile.draw(profile.load(), actions=30_000))
    result, database = demo(tmp_path, "--trace", "spike.csv", seconds=8, stores=migrated())
    check_levels(result)
    assert result["trace"] == {"actions": 30_000, "edges": 26_993, "counts_exact": True}
    assert likes(database) == (26_993, 26_993)


def likes(url: str) -> tuple[int, int]:
    """From the database itself: the rows of likes, and the sum of their counts."""
    with psycopg.connect(url) as connection:
        [(edges,)] = connection.execute("SELECT count(*) FROM groundswell.edge_like")
        [(counted,)] = connection.execute(
            "SELECT sum(count)::bigint FROM groundswell.counter WHERE kind = 'like'"
        )
    return edges, counted


@needs_higgs
def test_the_real_hour_of_the_rise_is_counted_exactly(tmp_path: Path) -> None:
    """The busiest hour there is; the whole week is below."""
    hour = ["--from", "1341381600", "--until", "1341385200", "--only", "RT"]
    result, _ = demo(tmp_path, "--trace", str(HIGGS), *hour, seconds=8)
    check_levels(result)
    assert result["trace"] == {"actions": 30_600, "edges": 27_385, "counts_exact": True}


@needs_higgs
@needs_threads
def test_the_whole_week_and_all_real_threads(tmp_path: Path) -> None:
    result, store = demo(
        tmp_path,
        *("--trace", str(HIGGS), "--only", "RT", "--threads", str(THREADS)),
        seconds=25,
        stores=(f"sqlite:///week-{number}.db" for number in itertools.count()),
    )
    check_levels(result)
    assert result["trace"] == {"actions": 354_930, "edges": 328_132, "counts_exact": True}
    replies, account_88 = stored(tmp_path / store.removeprefix("sqlite:///"))
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
