"""What may be done to a demo node, and to no other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import nodes
from groundswell.demo.controls import (
    DemoAnswer,
    DemoRequest,
    ReplicaState,
    RollupState,
    SpikeState,
)
from groundswell.demo.surge import PER_S_MAX, TARGET_FIRST

REFERENCE = Path(__file__).parents[2] / "docs" / "reference.md"
HOTTEST = TARGET_FIRST + 1


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[nodes.Node]:
    """A demo node with two replicas."""
    with nodes.running(tmp_path_factory.mktemp("demo"), "--demo", "--replicas", "2") as node:
        yield node
        assert "Traceback" not in node.output()


def change(node: nodes.Node, **wanted: Any) -> dict[str, Any]:
    answer = node.request("POST", "/v1/demo", wanted)
    assert answer.status == 200, answer
    found: dict[str, Any] = answer.json
    assert node.request("GET", "/v1/demo").json == found or wanted.get("spike")
    return found


def status(node: nodes.Node) -> Any:
    return node.request("GET", "/v1/status").json


def test_a_production_node_has_no_controls(tmp_path: Path) -> None:
    with nodes.running(tmp_path) as node:
        nodes.problem(node.request("GET", "/v1/demo"), 404, "not-found")
        nodes.problem(node.request("POST", "/v1/demo", {}), 404, "not-found")
        assert "/v1/demo" not in node.request("GET", "/openapi.json").json["paths"]


def test_a_demo_node_documents_them(demo: nodes.Node) -> None:
    assert set(demo.request("GET", "/openapi.json").json["paths"]["/v1/demo"]) == {"get", "post"}


def test_the_spike_is_started_sped_up_and_stopped(demo: nodes.Node) -> None:
    assert change(demo, spike={"running": True, "per_s": 1000})["spike"]["running"]
    nodes.until(lambda: demo.count("like", HOTTEST) > 0, "likes of the hottest")
    assert change(demo, spike={"per_s": 5000})["spike"] | {"sent": 0} == {
        "running": True,
        "per_s": 5000,
        "sent": 0,
    }
    assert change(demo, spike={"running": True})["spike"]["running"]  # once more does nothing
    assert not change(demo, spike={"running": False})["spike"]["running"]
    before = demo.count("like", HOTTEST)
    sent = change(demo)["spike"]["sent"]
    assert sent > 0
    assert (demo.count("like", HOTTEST), change(demo)["spike"]["sent"]) == (before, sent)
    assert len(demo.sources("like", HOTTEST)) == before  # every like is another source's


def test_a_replica_is_delayed_stopped_and_goes_on(demo: nodes.Node) -> None:
    found = change(demo, replicas={"replica-b": {"delay_ms": 300}})
    assert found["replicas"] == [
        {"name": "replica-a", "delay_ms": 0, "following": True},
        {"name": "replica-b", "delay_ms": 300, "following": True},
    ]
    assert status(demo)["replicas"][1]["delay_ms"] == 300
    change(demo, replicas={"replica-b": {"delay_ms": 0, "following": False}})
    nodes.until(lambda: status(demo)["replicas"][1]["age_ms"] > 500, "it grows old")
    first, second = status(demo)["replicas"]
    assert (first["following"], second["following"]) == (True, False)
    change(demo, replicas={"replica-b": {"following": True}})
    nodes.until(lambda: status(demo)["replicas"][1]["age_ms"] < 500, "it has caught up")


def test_the_rollup_worker_is_stopped_and_goes_on(demo: nodes.Node) -> None:
    assert change(demo, rollup={"working": False})["rollup"] == {"working": False}
    assert demo.request("PUT", "/v1/edges/like/1/1").status == 200
    nodes.until(lambda: status(demo)["backlog"] > 0, "a backlog")
    assert demo.count("like", 1) == 1  # from the primary, as ever
    assert change(demo, rollup={"working": True})["rollup"] == {"working": True}
    nodes.until(lambda: status(demo)["backlog"] == 0, "worked off")


@pytest.mark.parametrize(
    "wanted",
    [
        {"spike": {"per_s": 0}},
        {"spike": {"per_s": PER_S_MAX + 1}},
        {"spike": {"speed": 1}},
        {"replicas": {"replica-a": {"delay_ms": -1}}},
        {"replicas": {"replica-a": {"delay_ms": 10_001}}},
        {"replicas": {"replica-z": {"following": False}}},
        {"replicas": {"replica-a": {"following": False}, "replica-z": {}}},
        {"rollup": {"working": "no"}},
        {"trending": {}},
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    demo: nodes.Node, wanted: dict[str, Any]
) -> None:
    before = demo.request("GET", "/v1/demo").json
    nodes.problem(demo.request("POST", "/v1/demo", wanted), 400, "bad-request")
    assert demo.request("GET", "/v1/demo").json == before


def test_a_node_stops_while_its_spike_runs(tmp_path: Path) -> None:
    with nodes.running(tmp_path, "--demo") as node:
        change(node, spike={"running": True})
        nodes.until(lambda: node.count("like", HOTTEST) > 0, "the spike")
        assert node.terminate() == 0
        assert "Traceback" not in node.output()


def test_the_reference_describes_them_whole() -> None:
    text = REFERENCE.read_text("utf-8").partition("\n## Demo nodes\n")[2].partition("\n## ")[0]
    shapes = (SpikeState, ReplicaState, RollupState, DemoAnswer, DemoRequest)
    for name in {field.name for shape in shapes for field in msgspec.structs.fields(shape)}:
        assert f"`{name}`" in text, name
    for call in ("`GET /v1/demo`", "`POST /v1/demo`", f"1 to {PER_S_MAX:,}"):
        assert call in text, call
