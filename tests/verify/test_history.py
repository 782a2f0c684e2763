"""What is recorded can be read back, also when the recorder was killed."""

from __future__ import annotations

import io
from itertools import count

import pytest

from groundswell.verify.history import NEVER, History, Op, dump, load


def recorded() -> tuple[list[Op], bytes]:
    """Three operations that end in every way, and one that does not end."""
    file = io.BytesIO()
    history = History(count(100, 10).__next__, file)
    done = history.invoke(1, "put", ["o0"], [7], node=2)
    done.versions, done.tries = [3], 2
    history.complete(done, "ok")
    refused = history.invoke(2, "count", ["c0", "c1"], level="causal", max_age_ms=5)
    refused.error = "replica-late"
    history.complete(refused, "fail")
    lost = history.invoke(1, "add", ["c0"], [9])
    lost.error = "node-unreachable"
    history.complete(lost, "info")
    read = history.invoke(2, "count", ["c0"], level="eventual")
    read.found, read.pending, read.served_by, read.age_ms = [4], [1], "replica-a", 2.5
    history.complete(read, "ok")
    history.invoke(2, "get", ["o0"], level="causal")
    return history.ops, file.getvalue()


def test_what_is_written_is_what_is_read() -> None:
    ops, written = recorded()
    assert load(written.splitlines(keepends=True)) == ops
    assert load(dump(ops)) == ops
    assert [op.type for op in ops] == ["ok", "fail", "info", "ok", "info"]
    assert [op.end for op in ops] == [110, 130, NEVER, 170, NEVER]


def test_times_are_taken_at_once_and_in_order() -> None:
    ops, _ = recorded()
    assert [op.start for op in ops] == [100, 120, 140, 160, 180]


def test_an_invocation_is_in_the_file_before_anything_is_answered() -> None:
    file = io.BytesIO()
    history = History(count().__next__, file)
    history.invoke(1, "put", ["o0"], [7])
    [op] = load(file.getvalue().splitlines(keepends=True))
    assert (op.type, op.values) == ("info", [7])


@pytest.mark.parametrize("cut", range(1, 60))
def test_a_line_that_was_cut_off_counts_as_not_written(cut: int) -> None:
    ops, written = recorded()
    found = load(written[:-cut].splitlines(keepends=True))
    assert found == ops[: len(found)] or found[:-1] == ops[: len(found) - 1]
