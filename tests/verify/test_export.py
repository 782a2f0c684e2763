"""Histories in the formats of other checkers."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

import nodes
from groundswell.verify.export import elle, plume, porcupine
from groundswell.verify.history import Op, dump
from groundswell.verify.simulation.run import simulate


@pytest.fixture(scope="module")
def ops() -> list[Op]:
    """A long history with faults and all operations: with outcomes that nobody knows."""
    histories = (ops for seed in range(100) for ops in simulate(seed, operations=400).parts)
    return next(
        ops
        for ops in histories
        if len(ops) > 300
        and {op.type for op in ops} == {"ok", "fail", "info"}
        and {"add", "remove", "put", "count", "get"} <= {op.f for op in ops}
    )


def test_plume_lines_name_what_was_written_and_read(ops: list[Op]) -> None:
    lines = [line.decode() for line in plume(ops, "causal")]
    parsed = [re.fullmatch(r"([rw])\((\d+),(\d+),(\d+),(\d+)\)\n", line) for line in lines]
    assert all(parsed)
    written = {(one[2], one[3]) for one in parsed if one and one[1] == "w"}
    read = {(one[2], one[3]) for one in parsed if one and one[1] == "r"}
    assert read - {(key, "0") for key in "012"} <= written
    assert len(lines) > 20


def test_elle_lists_are_prefixes_of_one_another(ops: list[Op]) -> None:
    text = b"".join(elle(ops, "linearizable", "causal")).decode()
    lists: dict[str, list[list[str]]] = {}
    for key, shown in re.findall(r":ok, :value \[\[:r :(\w+) \[([\d ]*)\]\]\]", text):
        lists.setdefault(key, []).append(shown.split())
    assert lists
    for shown_of_key in lists.values():
        ordered = sorted(shown_of_key, key=len)
        for shorter, longer in pairwise(ordered):
            assert longer[: len(shorter)] == shorter
    indexes = [int(one) for one in re.findall(r":index (\d+)", text)]
    assert indexes == list(range(len(indexes)))


def test_an_elle_process_ends_with_an_unknown_outcome(ops: list[Op]) -> None:
    ended: set[str] = set()
    for line in b"".join(elle(ops, "causal")).decode().splitlines():
        process = re.findall(r":process (\d+)", line)[0]
        assert process not in ended, line
        if ":type :info" in line:
            ended.add(process)
    assert ended


def test_porcupine_lines_have_calls_and_returns(ops: list[Op]) -> None:
    lines = [msgspec.json.decode(line) for line in porcupine(ops, "linearizable")]
    assert {line["op"] for line in lines} == {"add", "remove", "put", "count", "get"}
    for line in lines:
        assert line["return"] is None or line["call"] <= line["return"]


def test_the_command_prints_them(tmp_path: Path, ops: list[Op]) -> None:
    (tmp_path / "history.jsonl").write_bytes(b"".join(dump(ops)))
    done = nodes.command(tmp_path, "history", "history.jsonl", "--to", "plume")
    assert done.returncode == 0, done
    assert done.stdout.encode() == b"".join(plume(ops, "linearizable"))
    wrong = nodes.command(tmp_path, "history", "history.jsonl", "--to", "knossos")
    assert "there are: elle, plume, porcupine" in wrong.stderr
    (tmp_path / "other").write_text("no history\n")
    wrong = nodes.command(tmp_path, "history", "other", "--to", "elle")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)
    assert "cannot be read as a history" in wrong.stderr
