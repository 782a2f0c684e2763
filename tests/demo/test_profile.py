from __future__ import annotations

import hashlib
import importlib.util
import os
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from groundswell.demo.profile import (
    Profile,
    ProfileRecord,
    decode,
    draw,
    encode,
    load,
    load_record,
    measure,
)
from groundswell.demo.trace import Action, read_trace

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("GROUNDSWELL_DATA") or ROOT.parent / "shared" / "data")
HIGGS_LOG = DATA / "higgs-activity_time.txt.gz"
PROFILE_JSON = ROOT / "src" / "groundswell" / "demo" / "profile.json"

#: SHA-256 of the default spike, the same on every machine and version of Python.
SPIKE_SHA256 = "b55f52a2d4ee0ad5dea0c655f6aaeb700ec2fa648590f0caa8b8f6153aefc1be"


@pytest.fixture(scope="module")
def spike() -> list[Action]:
    return draw(load())


@pytest.fixture(scope="module")
def higgs_log() -> Path:
    if not HIGGS_LOG.exists():
        reason = f"needs {HIGGS_LOG.name}, looked for in $GROUNDSWELL_DATA and beside the checkout"
        pytest.skip(reason)
    return HIGGS_LOG


@pytest.fixture
def script() -> ModuleType:
    path = ROOT / "benchmarks" / "measure_profile.py"
    spec = importlib.util.spec_from_file_location("measure_profile", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def edges(actions: list[Action]) -> set[tuple[int | str, int | str]]:
    return {(action.target, action.source) for action in actions}


def popularity(actions: list[Action]) -> Counter[int | str]:
    return Counter(target for target, _ in edges(actions))


# --- the committed profile


def test_the_committed_profile_has_the_published_figures() -> None:
    profile = load()
    assert profile.start_unix_s == 1341374400
    assert profile.actions_total == 133_069
    assert profile.edges_distinct == 119_732
    assert len(profile.actions_per_minute) == 480
    assert profile.distinct_sources_and_targets[0] == (9_839, 1)
    assert profile.repeats_share == pytest.approx(13_337 / 133_069, abs=1e-6)


def test_the_committed_profile_is_what_the_trace_gives(higgs_log: Path, script: ModuleType) -> None:
    assert script.measure_record(higgs_log) == load_record()
    window = read_trace(higgs_log, since=1341374400, until=1341403200, only="RT")
    assert measure(window) == load()


def test_the_committed_file_is_small_and_as_the_script_writes_it() -> None:
    content = PROFILE_JSON.read_bytes()
    assert len(content) < 20_000
    assert max(map(len, content.splitlines())) < 200
    assert encode(decode(content)) == content


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("actions_total", 133_070),
        ("edges_distinct", 119_731),
        ("repeats_share", 0.2),
        ("actions_per_minute", [1, 2]),
        ("distinct_sources_and_targets", [[1, 2]]),
    ],
)
def test_figures_that_contradict_each_other_are_refused(field: str, value: object) -> None:
    record = msgspec.json.decode(PROFILE_JSON.read_bytes())
    record["profile"][field] = value
    with pytest.raises(msgspec.DecodeError, match=r"actions_total|edges_distinct|repeats_share"):
        decode(msgspec.json.encode(record))


# --- measure


def test_measure_counts_minutes_ranks_and_repeats() -> None:
    actions = [
        Action(185.0, "like", "a", 1, "add"),
        Action(60.5, "like", "a", 1, "add"),
        Action(61.0, "like", "a", 2, "add"),
        Action(62.0, "like", "b", 2, "add"),
        Action(63.0, "like", "c", 2, "add"),
    ]
    assert measure(actions) == Profile(
        start_unix_s=60,
        actions_total=5,
        edges_distinct=4,
        sources_distinct=2,
        repeats_share=0.2,
        actions_per_minute=(4, 0, 1),
        distinct_sources_and_targets=((2, 1), (1, 2)),
    )


def test_there_is_no_profile_of_nothing() -> None:
    with pytest.raises(ValueError, match="at least one action"):
        measure([])


# --- draw


def test_the_spike_has_exactly_the_figures_of_the_profile(spike: list[Action]) -> None:
    assert len(spike) == 133_069
    assert len(edges(spike)) == 119_732
    assert measure(spike) == load()


def test_targets_are_numbered_by_rank(spike: list[Action]) -> None:
    counts = popularity(spike)
    measured = [n for n, targets in load().distinct_sources_and_targets for _ in range(targets)]
    assert [counts[rank] for rank in range(1, len(counts) + 1)] == measured
    assert min(source for _, source in edges(spike) if isinstance(source, int)) > len(measured)


def test_the_spike_is_sorted_and_only_adds_likes(spike: list[Action]) -> None:
    assert all(a.t <= b.t for a, b in pairwise(spike))
    assert {(action.kind, action.op) for action in spike} == {("like", "add")}
    assert all(action.t == round(action.t, 3) for action in spike)


def test_times_are_spread_evenly_over_the_minute(spike: list[Action]) -> None:
    tenths = Counter(int(action.t % 60 // 6) for action in spike)
    assert sorted(tenths) == list(range(10))
    assert max(tenths.values()) < 1.05 * min(tenths.values())


def test_repeats_are_spread_over_the_whole_spike(spike: list[Action]) -> None:
    seen: set[tuple[int | str, int | str]] = set()
    repeats_at = []
    for index, (_, _, target, source, _) in enumerate(spike):
        if (target, source) in seen:
            repeats_at.append(index)
        seen.add((target, source))
    assert len(repeats_at) == 13_337
    assert sum(repeats_at) / len(repeats_at) == pytest.approx(len(spike) / 2, rel=0.02)


def test_the_spike_is_the_same_everywhere(spike: list[Action]) -> None:
    assert hashlib.sha256(repr([tuple(action) for action in spike]).encode()).hexdigest() == (
        SPIKE_SHA256
    )


def test_the_seed_decides() -> None:
    profile = load()
    assert draw(profile, actions=500) == draw(profile, actions=500, seed=20120704)
    assert draw(profile, actions=500) != draw(profile, actions=500, seed=1)


@pytest.mark.parametrize("total", [1, 2, 7, 100, 1_000, 10_000, 133_068, 200_000])
def test_a_scaled_spike_has_the_same_shape(total: int) -> None:
    profile = load()
    scale = total / profile.actions_total
    spike = draw(profile, actions=total)
    assert len(spike) == total
    assert len(edges(spike)) == max(1, 119_732 * total // 133_069)
    assert abs(max(popularity(spike).values()) - 9_839 * scale) <= 1
    counts = popularity(spike)
    ranked = [counts[rank] for rank in range(1, len(counts) + 1)]
    assert ranked == sorted(ranked, reverse=True)
    per_minute = Counter(int(action.t - profile.start_unix_s) // 60 for action in spike)
    for minute, measured in enumerate(profile.actions_per_minute):
        assert abs(per_minute[minute] - measured * scale) < 1


@pytest.mark.parametrize("total", [0, -1])
def test_a_spike_has_an_action(total: int) -> None:
    with pytest.raises(ValueError, match="at least one action"):
        draw(load(), actions=total)


def test_a_profile_of_one_target_draws_every_source_once() -> None:
    profile = measure([Action(60.0, "like", "x", source, "add") for source in range(50)])
    spike = draw(profile)
    assert measure(spike) == profile
    assert popularity(spike) == {1: 50}


# --- the script


def test_check_agrees_with_the_real_trace(
    higgs_log: Path, script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main([str(higgs_log), "--check"]) == 0
    assert "profile.json is what the trace gives" in capsys.readouterr().out


def test_check_names_every_difference(
    tmp_path: Path, script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "trace.txt"
    trace.write_text("1 2 1341374400 RT\n")
    before = PROFILE_JSON.read_bytes()
    assert script.main([str(trace), "--check"]) == 1
    out = capsys.readouterr().out
    assert "profile.actions_total: committed 133069, measured 1\n" in out
    assert "profile.actions_per_minute: committed 480 entries, measured 1\n" in out
    assert "trace_sha256" in out
    assert "citation" not in out
    assert PROFILE_JSON.read_bytes() == before


def test_without_check_the_file_is_written(
    tmp_path: Path, script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "trace.txt"
    trace.write_text("1 2 1341374400 RT\n3 2 1341374460 RT\n")
    monkeypatch.setattr(script, "PROFILE_JSON", tmp_path / "profile.json")
    assert script.main([str(trace)]) == 0
    record = decode((tmp_path / "profile.json").read_bytes())
    assert isinstance(record, ProfileRecord)
    assert record.profile.actions_per_minute == (1, 1)
    assert script.main([str(trace), "--check"]) == 0


@pytest.mark.parametrize("content", ["nonsense\n", "1 2 5 RT\n"])
def test_a_trace_without_the_window_is_refused(
    tmp_path: Path, script: ModuleType, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "trace.txt"
    trace.write_text(content)
    with pytest.raises(SystemExit) as caught:
        script.main([str(trace)])
    assert caught.value.code == 2
    assert str(trace) in capsys.readouterr().err
