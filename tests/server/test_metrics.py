"""Metrics and status: what is watched appears, and moves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import nodes

NAMES = {
    "groundswell_writes_total",
    "groundswell_overloaded_total",
    "groundswell_commit_writes_bucket",
    "groundswell_commit_seconds_sum",
    "groundswell_backlog_events",
    "groundswell_rollup_events_sum",
    "groundswell_rollup_seconds_count",
    "groundswell_rollup_number",
    "groundswell_replica_age_seconds",
    "groundswell_replica_rollup_number",
    "groundswell_reads_total",
    "groundswell_read_waits_total",
    "groundswell_read_fallbacks_total",
    "groundswell_reads_late_total",
    "groundswell_http_responses_total",
}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[nodes.Node]:
    flags = ("--replicas", "2", "--replica-delay-ms", "0,200")
    with nodes.running(tmp_path_factory.mktemp("watched"), *flags) as node:
        yield node


def metrics(node: nodes.Node) -> dict[str, float]:
    """Every sample, by its name and labels as they are written."""
    answer = node.request("GET", "/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: dict[str, float] = {}
    for line in answer.body.decode().splitlines():
        if not line.startswith("#"):
            sample, _, value = line.rpartition(" ")
            found[sample] = float(value)
    return found


def moved(node: nodes.Node, *paths: tuple[str, str]) -> dict[str, float]:
    """By how much each sample moved over these requests."""
    before = metrics(node)
    for method, path in paths:
        node.request(method, path)
    return {s: v - before.get(s, 0.0) for s, v in metrics(node).items()}


def test_every_metric_is_there_with_its_help(watched: nodes.Node) -> None:
    watched.request("PUT", "/v1/edges/like/1/1")
    watched.request("GET", "/v1/counts/like/1")
    watched.request("GET", "/v1/counts/like/1?max_age_ms=0&wait_ms=200&consistency=eventual")
    watched.request("GET", "/v1/counts/like/1?max_age_ms=0&wait_ms=0&fallback=none")
    watched.request("GET", "/v1/nothing")
    assert {re.sub(r"\{.*", "", sample) for sample in metrics(watched)} >= NAMES
    text = watched.request("GET", "/metrics").body.decode()
    helped = {line.split()[2] for line in text.splitlines() if line.startswith("# HELP")}
    assert all(any(name.startswith(one) for one in helped) for name in NAMES)


def test_writes_are_counted_by_outcome(watched: nodes.Node) -> None:
    difference = moved(
        watched,
        ("PUT", "/v1/edges/like/2/1"),
        ("PUT", "/v1/edges/like/2/1"),
        ("PUT", "/v1/edges/seat/2A/1"),
        ("PUT", "/v1/edges/seat/2A/2"),
    )
    outcomes = {
        outcome: difference[f'groundswell_writes_total{{outcome="{outcome}"}}']
        for outcome in ("changed", "unchanged", "refused")
    }
    assert outcomes == {"changed": 2, "unchanged": 1, "refused": 1}
    assert difference["groundswell_commit_writes_sum"] == 4
    assert difference["groundswell_commit_seconds_count"] == 4


def test_reads_are_counted_by_level_and_by_who_served_them(watched: nodes.Node) -> None:
    reads = [("GET", "/v1/counts/like/1?consistency=eventual")] * 10
    reads += [("GET", "/v1/counts/like/1?consistency=linearizable")] * 3
    difference = moved(watched, *reads)
    sample = 'groundswell_reads_total{{level="{}",served_by="{}"}}'
    served = [difference[sample.format("eventual", one)] for one in ("replica-a", "replica-b")]
    assert sum(served) == 10
    assert min(served) >= 4
    assert difference[sample.format("linearizable", "primary")] == 3


def test_fallbacks_and_refusals_are_counted(watched: nodes.Node) -> None:
    path = "/v1/counts/like/1?max_age_ms=0&wait_ms=0"
    difference = moved(watched, ("GET", path), ("GET", path + "&fallback=none"))
    assert difference['groundswell_read_fallbacks_total{level="causal"}'] == 1
    assert difference['groundswell_reads_late_total{level="causal"}'] == 1
    assert difference['groundswell_http_responses_total{status="503"}'] == 1


def test_errors_are_counted_by_status(watched: nodes.Node) -> None:
    difference = moved(
        watched, ("GET", "/v1/nothing"), ("GET", "/v1/counts/like/x"), ("PUT", "/docs")
    )
    for status in (400, 404, 405):
        assert difference[f'groundswell_http_responses_total{{status="{status}"}}'] == 1


def test_rollups_and_replicas_move_on(watched: nodes.Node) -> None:
    watched.request("PUT", "/v1/edges/like/3/1")
    nodes.until(lambda: metrics(watched)["groundswell_backlog_events"] == 0, "the rollup")
    number = metrics(watched)["groundswell_rollup_number"]
    assert number == watched.request("GET", "/v1/status").json["rollup"] > 0

    def of_replicas(name: str) -> list[float]:
        found = metrics(watched)
        return [found[f'groundswell_replica_{name}{{replica="replica-{x}"}}'] for x in "ab"]

    nodes.until(lambda: min(of_replicas("rollup_number")) >= number, "replicas with the rollup")

    def are_fresh() -> bool:
        """Whether each is as young as it can be; never younger, while a busy machine may let it wait."""
        near, far = of_replicas("age_seconds")
        assert near >= 0
        assert far >= 0.2
        return near < 0.2 and far < 1

    nodes.until(are_fresh, "replicas as fresh as they are in general")


def test_status_has_the_shape_that_is_documented(watched: nodes.Node) -> None:
    watched.request("PUT", "/v1/edges/like/4/1")
    nodes.until(lambda: watched.request("GET", "/v1/status").json["backlog"] == 0, "the rollup")
    answer = watched.request("GET", "/v1/status")
    assert "groundswell-session" not in answer.headers
    status = answer.json
    assert status.keys() == {
        *("version", "store", "epoch", "revision", "rollup", "backlog", "replicas", "kinds"),
        "uptime_s",
    }
    assert re.fullmatch(r"SQLite, [0-9a-f]{16}", status["store"])
    assert re.fullmatch(r"\d+:\d+:", status["revision"])
    assert (status["epoch"], status["backlog"]) == (1, 0)
    assert status["uptime_s"] > 0
    assert [replica["name"] for replica in status["replicas"]] == ["replica-a", "replica-b"]
    assert [replica["delay_ms"] for replica in status["replicas"]] == [0.0, 200.0]
    for replica in status["replicas"]:
        assert replica.keys() == {
            *("name", "rollup", "revision", "age_ms", "delay_ms", "following"),
        }
        assert replica["following"] is True
    assert [kind["name"] for kind in status["kinds"]] == [
        *("follow", "like", "view", "review", "reply", "seat")
    ]


def test_an_overload_is_counted(tmp_path: Path) -> None:
    limits = {"GROUNDSWELL_QUEUE_MAX": "1", "GROUNDSWELL_GROUP_MAX": "1"}
    refused: list[bool] = []
    with nodes.running(tmp_path, environment=limits) as node:

        def burst() -> bool:
            refused.extend(
                nodes.together(
                    16, lambda n: node.request("PUT", f"/v1/edges/like/1/{n}").status == 503
                )
            )
            return any(refused)

        nodes.until(burst, "more at once than there is room for")
        assert metrics(node)["groundswell_overloaded_total"] == sum(refused)
