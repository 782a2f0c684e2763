"""Every check is given something to judge, and finds something when a history is not as it should be."""

from __future__ import annotations

import asyncio
import copy
import time
from random import Random

import msgspec
import pytest

import groundswell
from groundswell.verify.final import Ending, ending
from groundswell.verify.history import History, Op
from groundswell.verify.judge import Finding, judge
from groundswell.verify.shape import LEVELS, Shape
from groundswell.verify.tally import tally
from groundswell.verify.workload import Work

OPERATIONS = 1_500
OF_A_SESSION = 150  # so that it often reads what it wrote
TAMPERINGS = 4_000


@pytest.fixture(scope="module")
def history() -> tuple[list[Op], Ending]:
    """Of clients on a node in this process, whose replicas differ in age; nothing goes wrong."""
    return asyncio.run(recorded())


async def recorded() -> tuple[list[Op], Ending]:
    delays_ms = [0, 20, 60]
    async with groundswell.open("memory://", replicas=3, replica_delay_ms=delays_ms) as node:
        made = History(time.monotonic_ns)
        shape = Shape(run=10**12, pause_s=0.002, operations=OF_A_SESSION)
        work = Work([node], made, shape, Random(1))
        await work.prepare()
        await work.run(lambda: len(made.ops) >= OPERATIONS)
        return made.ops, await ending([node], shape, patience_s=30)


def broken(findings: list[Finding]) -> set[tuple[str, str]]:
    return {(one.level, one.name) for one in findings if one.violation is not None}


def test_nothing_is_wrong_and_every_check_has_something_to_judge(
    history: tuple[list[Op], Ending],
) -> None:
    findings = judge(*history)
    assert not broken(findings), findings
    assert {one.level for one in findings} == {*LEVELS[1:], "every level"}
    assert not [one for one in findings if not one.checked]


@pytest.mark.timeout(900)  # hundreds of histories, each a fifth of a second where it is busy
def test_there_is_no_check_that_cannot_fail(history: tuple[list[Op], Ending], seed: int) -> None:
    """Answers are changed at random, one at a time, until each check has seen through one."""
    rng = Random(seed)
    missing = {(one.level, one.name) for one in judge(*history)}
    for _ in range(TAMPERINGS):
        missing -= broken(judge(*tampered(rng, *history)))
        if not missing:
            return
    raise AssertionError(f"never failed: {missing}")


def tampered(rng: Random, ops: list[Op], end: Ending) -> tuple[list[Op], Ending]:
    """A copy in which one answer is another one."""
    if rng.random() < 0.3:
        return ops, tampered_ending(rng, end)
    answered = [op for op in ops if op.type == "ok" and (op.found or op.versions)]
    kinds = sorted({(op.f, str(op.level), op.max_age_ms or 0) for op in answered})
    kind = rng.choice(kinds)
    chosen = rng.choice(
        [op for op in answered if (op.f, str(op.level), op.max_age_ms or 0) == kind]
    )
    changed = copy.deepcopy(chosen)
    if changed.versions and rng.random() < 0.5:
        changed.versions[0] = rng.randint(0, 2 * changed.versions[0] + 1)
    elif changed.found:
        at = rng.randrange(len(changed.found))
        others = [
            op.found[at]
            for op in ops
            if op.f == chosen.f and op.keys == chosen.keys and len(op.found) > at
        ]
        changed.found[at] = rng.choice([*others, 0, 1, -1, 10**6])
    return [changed if op is chosen else op for op in ops], end


def tampered_ending(rng: Random, end: Ending) -> Ending:
    field = rng.choice(("shown", "sources", "balances", "histories", "replicas"))
    values = copy.deepcopy(getattr(end, field))
    key = rng.choice(list(values))
    match field:
        case "shown" | "balances":
            values[key] = (values[key] or 0) + 1
        case "replicas":
            values[key].pop(rng.choice(list(values[key])))
        case _:
            if values[key]:
                values[key].pop(rng.randrange(len(values[key])))
    return msgspec.structs.replace(end, **{field: values})


def test_the_tally_counts_what_weak_levels_show(history: tuple[list[Op], Ending]) -> None:
    rows = {row.level: row for row in tally(history[0])}
    assert list(rows) == list(LEVELS)
    assert rows["eventual"].went_backwards and rows["eventual"].stale
    assert not rows["monotonic"].went_backwards
    assert not rows["read_your_writes"].missed_own_write
    strictest = rows["linearizable"]
    assert (strictest.went_backwards, strictest.missed_own_write, strictest.stale) == (0, 0, 0)
    for row in rows.values():
        assert row.reads and row.proves == 3 / row.reads
