"""Every workload runs, small, and checks what it was told."""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from clusters import Cluster
from groundswell.bench import check, growth, load, systems
from groundswell.bench.load import write_requests, wrk
from groundswell.bench.measure import Bench
from groundswell.bench.results import Chart
from groundswell.bench.servers import Databases, redis_missing
from groundswell.bench.systems import Running
from groundswell.bench.workload import Way
from groundswell.demo.trace import Action
from groundswell.errors import StoreUnusable

if absent := systems.missing():
    pytest.skip(f"not installed: {', '.join(absent)}", allow_module_level=True)
if why := load.missing():
    pytest.skip(why, allow_module_level=True)

from groundswell.bench.run import WORKLOADS
from groundswell.bench.workloads import day, page, rollup, tao, trace

pytestmark = pytest.mark.anyio

TRACE = "".join(f"{n % 40} {n % 7} {trace.SINCE_UNIX_S + n // 4} RT\n" for n in range(400))
MIX = [
    {"name": "operations", "weights": [6, 3, 2, 2]},
    {"name": "primary_shards", "weights": [5, 3, 1, 1]},
    {
        "name": "read_operation_types",
        "values": ["obj_read", "edge_point_read", "edge_range_read", "edge_count_read"],
        "weights": [1, 1, 1, 1],
    },
    {
        "name": "write_operation_types",
        "values": ["obj_add", "obj_update", "edge_add", "edge_update"],
        "weights": [1, 1, 1, 1],
    },
    {"name": "read_txn_sizes", "values": [2, 300], "weights": [9, 1]},
    {"name": "write_txn_sizes", "values": [2, 5], "weights": [1, 1]},
    {
        "name": "write_txn_operation_types",
        "values": ["obj_add", "obj_update", "edge_add", "edge_update"],
        "weights": [1, 1, 1, 1],
    },
]

# One node, and of the peers each that is asked in a way of its own.
SMALL = [
    pytest.param(way, id=f"{workload.name}, {way.labels[0]}")
    for workload in WORKLOADS.values()
    for way in workload.ways
    if way.system == "groundswell"
    or (workload.name, way.labels[0])
    in {
        ("likes", "outbox-per-like"),
        ("trace", "redis"),
        ("reads-100", "inline-sqlalchemy"),
        ("page", "scan"),
        ("spike", "scan"),
        ("tao-a", "inline"),
        ("rollup", "outbox-per-like"),
    }
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A trace and definitions in the real formats."""
    folder = tmp_path / "data"
    (folder / "taobench").mkdir(parents=True)
    (folder / trace.FILE).write_bytes(gzip.compress(TRACE.encode()))
    lines = b"\n".join(map(msgspec.json.encode, MIX))
    for letter in "ao":
        (folder / "taobench" / f"workload_{letter}.json").write_bytes(lines)
    return folder


@pytest.fixture
def bench(
    cluster: Cluster, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    monkeypatch.setattr(rollup, "EVENTS_QUICK", 3_000)
    monkeypatch.setattr(day, "FOLLOWS_QUICK", 20_000)
    monkeypatch.setattr(tao, "OBJECTS", 200)
    monkeypatch.setattr(page, "WARM_S", 0.2)
    monkeypatch.setattr(trace, "PACED_S", 1.0)
    yield Bench(Databases(cluster), tmp_path, 1.0, True, data, {})


@pytest.mark.parametrize("way", SMALL)
async def test_a_workload_runs_and_counts_right(way: Way, bench: Bench) -> None:
    if way.system == "redis" and (why := redis_missing()):
        pytest.skip(why)
    runs = await way.run(bench)
    assert sorted(runs) == sorted(way.labels)
    for run in runs.values():
        assert run.operations > 0
        assert run.rate > 0
        assert run.cpu_s > 0
        assert run.memory_mib > 1
        assert run.p50_ms is None or 0 < run.p50_ms <= (run.p99_ms or 0)
        assert run.bytes_per_edge is None or run.bytes_per_edge > 20
        assert run.staleness_ms is None or run.staleness_ms >= 0


async def test_a_trace_is_sent_whole(bench: Bench) -> None:
    """So that the stored likes can be compared with it exactly."""
    run = await trace.replay(bench, "groundswell", paced=False)
    assert run.operations == 400


async def test_a_trace_with_a_like_that_is_missing_is_found_out(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def another(action: Action) -> bytes:
        return request_of(action._replace(source=action.source or 1))

    request_of = trace._request
    monkeypatch.setattr(trace, "_request", another)  # who was 0 is 1: their likes are one
    distinct = len({tuple(line.split()[:2]) for line in TRACE.splitlines()})
    with pytest.raises(check.Miscounted, match=f"acknowledged were {distinct}"):
        await trace.replay(bench, "groundswell", paced=False)


async def test_without_data_a_workload_says_what_is_missing(bench: Bench, tmp_path: Path) -> None:
    for data in (None, tmp_path / "nothing"):
        poor = bench._replace(data=data)
        skipped = {w.name for w in WORKLOADS.values() if "--data" in w.skipped(poor)}
        assert skipped == {"trace", "trace-100x", "tao-a", "tao-o"}


async def test_refusals_are_errors(bench: Bench) -> None:
    async with systems.SYSTEMS["groundswell"].running(bench.databases) as running:
        path = write_requests(
            bench.folder / "bad", [b"GET /v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n"]
        )
        with pytest.raises(StoreUnusable, match="met errors"):
            await wrk(bench.folder, running.url, "cycle", path, clients=2, seconds=1)


async def test_a_day_with_stops_makes_its_charts(bench: Bench) -> None:
    edges = growth.Edges(bench)
    lived = await day.live(bench, [10_000, 20_000], edges)
    assert [part.follows for part in lived.parts] == [10_000, 10_000]
    assert lived.run.operations == 20_000
    charts = edges.charts(lived)
    assert [chart.name for chart in charts] == ["growth-edges", "day-rate", "day-memory"]
    assert all(y > 0 for line in charts[0].lines for y in line.y)
    assert "rollup" in {line.label for line in charts[0].lines}
    [memory] = charts[2].lines
    assert [*memory.x] == sorted(memory.x)


async def test_a_follow_that_is_missing_is_found_out(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def one_request_less(bench: Bench, running: Running, made: int, until: int) -> day.Part:
        return await follow(bench, running, made, until - day.ROWS)

    follow = day.follow
    monkeypatch.setattr(day, "follow", one_request_less)
    with pytest.raises(check.Miscounted, match="10000 follows: 8000 stored, 8000 counted"):
        await day.live(bench, [10_000])


@pytest.mark.parametrize("made", growth.CHARTS, ids=lambda made: made.__name__)
async def test_growth_is_measured(
    made: Callable[[Bench], Awaitable[Chart]], bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growth, "TARGETS", (1, 50))
    chart = await made(bench)
    assert len(chart.lines[0].x) == 2
    assert all(y > 0 for line in chart.lines for y in line.y)
