"""`groundswell verify`, on real processes: levels hold under faults, and it says what it knows."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

import nodes
from clusters import missing
from groundswell.errors import Unavailable
from groundswell.verify.history import load
from groundswell.verify.nemesis import Act, Fault
from groundswell.verify.run import Plan, Progress, Report, verify
from groundswell.verify.shape import LEVELS
from groundswell.verify.topology import started
from groundswell.wiring import connect
from pg_nodes import until
from redises import needs_redis

needs_server = pytest.mark.skipif(bool(missing()), reason=missing() or "PostgreSQL is there")

# Together 60 s, on every push; the long run is `make soak`.
TOPOLOGIES = [
    pytest.param("sqlite", 15, id="sqlite"),
    pytest.param("postgres", 20, id="postgres", marks=needs_server),
    pytest.param("postgres-standby", 25, id="postgres-standby", marks=needs_server),
]


def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return nodes.command(folder, "verify", *map(str, arguments), timeout_s=280)


@pytest.mark.parametrize(("topology", "seconds"), TOPOLOGIES)
def test_every_level_holds_under_faults(
    tmp_path: Path, seed: int, topology: str, seconds: int
) -> None:
    where = ["--topology", topology, "--nodes", 3, "--faults", "--seed", seed]
    how = ["--seconds", seconds, "--sessions", 4, "--json"]
    files = ["--history", tmp_path / "history.jsonl", "--report", tmp_path / "report.html"]
    done = run(tmp_path, *where, *how, *files)
    assert done.returncode in (0, 2), done  # 2: a slow machine, on which too little was done
    report = msgspec.json.decode(done.stdout)
    assert not [one for one in report["findings"] if one["violation"]], report
    assert len(report["faults"]) > seconds / 10
    assert report["converged_s"] is not None
    assert [row["level"] for row in report["levels"]] == list(LEVELS)
    assert all(row["reads"] for row in report["levels"])
    assert report["levels"][0]["stale"] > 0  # or replicas were no replicas
    with (tmp_path / "history.jsonl").open("rb") as lines:
        ops = load(lines)
    assert len(ops) == sum(report["operations"].values())
    page = (tmp_path / "report.html").read_text("utf-8")
    assert f"--seed {seed}" in page
    assert "Traceback" not in done.stderr


@needs_server
@pytest.mark.anyio
async def test_a_failover_loses_nothing_that_was_acknowledged(tmp_path: Path, seed: int) -> None:
    async with started("postgres-standby", 2, tmp_path) as topology:
        [failover] = [fault for fault in topology.faults if fault.name == "failover"]
        plan = Plan(seconds=12, seed=seed, sessions=2)
        progress = Progress()
        work = asyncio.create_task(verify(topology, plan, progress))
        await until(lambda: progress.elapsed_s > 4, "clients at work")
        await act(failover.inject)
        report = await work
    assert not [one for one in report.findings if one.violation is not None], report.witnesses
    assert report.converged_s is not None
    again = [row for row in report.levels if row.operations]
    assert len(again) == len(LEVELS)


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["sqlite", pytest.param("postgres", marks=needs_server)])
async def test_a_full_disk_costs_nothing_that_was_acknowledged(
    tmp_path: Path, seed: int, name: str
) -> None:
    async with started(name, 1, tmp_path) as topology:
        full = next((fault for fault in topology.faults if fault.name == "disk full"), None)
        if full is None:
            pytest.skip("this user may not mount a small file system")
        async with connect(topology.urls[0], timeout_s=5) as gs:
            plan = Plan(seconds=12, seed=seed, sessions=2)
            progress = Progress()
            work = asyncio.create_task(verify(topology, plan, progress))
            await until(lambda: progress.elapsed_s > 2, "clients at work")
            await act(full.inject)
            with pytest.raises(Unavailable):
                for n in range(1_000):
                    await gs.session().put(f"big{n}", "t", {"text": "x" * 60_000})
            await act(full.heal)
        report = await work
    assert not [one for one in report.findings if one.violation is not None], report.witnesses
    assert report.converged_s is not None


@needs_redis
@pytest.mark.anyio
@pytest.mark.parametrize("name", ["sqlite-redis", "sqlite-redis-cluster"])
async def test_every_level_holds_whatever_befalls_redis(
    tmp_path: Path, seed: int, name: str
) -> None:
    """Each fault of Redis, and of the way of one node to it, one after the other."""
    async with started(name, 2, tmp_path, seed=seed) as topology:
        faults = [fault for fault in topology.faults if fault.place in ("redis", "node 0 to redis")]
        assert len(faults) == {"sqlite-redis": 8, "sqlite-redis-cluster": 4}[name]
        topology.faults[:] = []
        plan = Plan(seconds=4 + 3 * len(faults), seed=seed, sessions=2)
        progress = Progress()
        work = asyncio.create_task(verify(topology, plan, progress))
        await until(lambda: progress.elapsed_s > 2, "clients at work")
        for fault in faults:
            await act(fault.inject)
            await asyncio.sleep(1)
            await act(fault.heal)
        report = await work
    assert not [one for one in report.findings if one.violation is not None], report
    assert report.converged_s is not None
    assert all(row.reads for row in report.levels)


# --- what is wrong is seen ------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_store_that_forgets_is_found_out(tmp_path: Path) -> None:
    """A fault that no store survives: its file is put back to what it was."""
    async with started("sqlite", 1, tmp_path) as topology:
        [kill] = [fault for fault in topology.faults if fault.name == "kill -9"]
        topology.faults[:] = []
        plan = Plan(seconds=12, seed=1)
        progress = Progress()
        work = asyncio.create_task(verify(topology, plan, progress))
        await until(lambda: progress.elapsed_s > 2, "clients at work")
        await restored(tmp_path / "store" / "groundswell.db", kill, progress)
        report: Report = await work
    assert report.verdict == "failed"
    broken = {one.name for one in report.findings if one.violation is not None}
    assert "nothing acknowledged is lost" in broken


async def restored(store: Path, kill: Fault, progress: Progress) -> None:
    """Kill the node, let the work since a backup be forgotten, and start it again."""
    kept = store.with_name("kept.db")
    with closing(sqlite3.connect(store)) as now, closing(sqlite3.connect(kept)) as backup:
        now.backup(backup)  # while the clients go on: their time is short for a node to start in it
    done = progress.operations
    await until(lambda: progress.operations > done + 60, "work")
    await act(kill.inject)
    for file in store.parent.glob("groundswell.db*"):
        file.unlink()
    kept.rename(store)
    await act(kill.heal)


async def act(change: Act) -> None:
    if (done := change()) is not None:
        await done


# --- a deployment that is there -------------------------------------------------------------------


def test_a_deployment_is_verified_and_its_own_data_left_alone(tmp_path: Path) -> None:
    with nodes.running(tmp_path, "--replicas", "2") as node:
        assert node.request("PUT", "/v1/edges/like/1/1").status == 200
        for seconds in (8, 40):  # a slow machine does too little in the shorter time
            done = run(tmp_path, "--url", node.url, "--seconds", seconds, "--sessions", 6)
            if done.returncode != 2:
                break
        assert done.returncode == 0, done
        assert "PASSED" in done.stdout
        assert "No faults were injected." in done.stdout
        assert node.sources("like", 1) == [1]


def test_too_little_to_say_anything_is_not_passed(tmp_path: Path) -> None:
    with nodes.running(tmp_path) as node:
        done = run(tmp_path, "--url", node.url, "--seconds", 1, "--sessions", 1)
        assert done.returncode == 2, done
        assert "UNKNOWN" in done.stdout
        assert "PASSED" not in done.stdout


def test_a_deployment_of_other_ids(tmp_path: Path) -> None:
    toml = '[kinds.like]\nsource = "uuid"\n[kinds.follow]\nsource = "uuid"\n'
    toml += '[kinds.reply]\nsource = "text"\ntarget = "text"\n'
    with nodes.running(tmp_path, toml=toml) as node:
        done = run(tmp_path, "--url", node.url, "--seconds", 2, "--json")
        assert done.returncode in (0, 2), done
        assert msgspec.json.decode(done.stdout)["operations"]["ok"] > 50


WRONG: list[tuple[list[Any], str]] = [
    ([], "either a deployment"),
    (["--url", "http://127.0.0.1:1", "--topology", "sqlite"], "either a deployment"),
    (["--url", "http://127.0.0.1:1"], "Is the node running?"),
    (["--url", "http://127.0.0.1:1", "--faults"], "Nothing was done"),
    (["--topology", "cassandra"], "there are: sqlite, postgres"),
    (["--topology", "sqlite", "--history", "/nowhere/history"], "cannot be written"),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG)
def test_what_cannot_be_done_is_said_in_a_line(
    tmp_path: Path, arguments: list[Any], said: str
) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == 1, done
    assert said in done.stderr
    assert "Traceback" not in done.stderr
