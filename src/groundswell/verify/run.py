"""One verification: clients at work, faults, the truth in the end, and the verdict."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from random import Random
from typing import IO, Any, Final, Literal, TypeVar

import msgspec

from groundswell.errors import (
    BadSettings,
    NodeUnreachable,
    Overloaded,
    StoreUnavailable,
    Unavailable,
)
from groundswell.session import Groundswell
from groundswell.verify.final import Ending, ending
from groundswell.verify.history import History, Op
from groundswell.verify.judge import Finding, judge
from groundswell.verify.nemesis import Injected, Nemesis
from groundswell.verify.shape import Shape
from groundswell.verify.tally import Row, tally
from groundswell.verify.topology import Topology
from groundswell.verify.workload import Work
from groundswell.wiring import connect

TIMEOUT_S: Final = 5.0  # of a request: then nobody knows
SETTLE_S: Final = 60.0  # for replicas to come to the truth, once everything is healed
ENOUGH: Final = 100  # successful reads of each level; less proves nothing
AWAY: Final = (StoreUnavailable, Overloaded)  # may pass; a node that was never there will not
RUN_BITS: Final = (34, 28)  # of ids: the run, and the operation in it

T = TypeVar("T")
Verdict = Literal["passed", "failed", "unknown"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for."""

    seconds: float = 30.0
    seed: int = 0
    faults: bool = False
    sessions: int = 2  # at a time, of each level
    key: str | None = None  # API key


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. `witnesses` has the operations of each violation, by finding."""

    label: str
    seed: int
    seconds: float
    operations: dict[str, int]  # how many ended as ok, fail and info
    levels: list[Row]
    findings: list[Finding]
    witnesses: list[list[Op]]
    faults: list[Injected]
    converged_s: float | None
    unsettled: str | None  # why the truth in the end could not be read

    @property
    def verdict(self) -> Verdict:
        """`failed` with any violation; `unknown` where too little succeeded to say anything."""
        if any(finding.violation is not None for finding in self.findings):
            return "failed"
        few = any(row.reads < ENOUGH for row in self.levels)
        return "unknown" if few or self.unsettled is not None else "passed"


class Progress(msgspec.Struct):
    """How far it is; read while it runs."""

    operations: int = 0
    elapsed_s: float = 0.0  # of the time that clients work
    phase: str = "starting"


async def verify(
    topology: Topology, plan: Plan, progress: Progress, file: IO[bytes] | None = None
) -> Report:
    """Run the plan. The history goes to `file` while it is made. Raises if nothing can be begun."""
    rng = Random(plan.seed)
    history = History(time.monotonic_ns, file)
    async with contextlib.AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(connect(url, key=plan.key, timeout_s=TIMEOUT_S))
            for url in topology.urls
        ]
        shape = await _shape(nodes[0], plan)
        work = Work(nodes, history, shape, rng)
        nemesis = Nemesis(topology.faults, Random(plan.seed + 1))
        await work.prepare()
        began_s = time.monotonic()

        def until() -> bool:
            progress.operations = len(history.ops)
            progress.elapsed_s = time.monotonic() - began_s
            return progress.elapsed_s > plan.seconds

        progress.phase = "clients at work, faults" if plan.faults else "clients at work"
        async with asyncio.TaskGroup() as group:
            group.create_task(work.run(until))
            if plan.faults and topology.faults:
                group.create_task(nemesis.run(until))
        progress.phase = "replicas come to the truth"
        end, unsettled = await _settled(nodes, shape)
    progress.phase = "judging"
    findings = await asyncio.to_thread(judge, history.ops, end)
    return Report(
        label=topology.label,
        seed=plan.seed,
        seconds=plan.seconds,
        operations=dict(Counter(op.type for op in history.ops)),
        levels=tally(history.ops),
        findings=findings,
        witnesses=[
            [history.ops[id_] for id_ in finding.violation.ops if id_ < len(history.ops)]
            for finding in findings
            if finding.violation is not None
        ],
        faults=nemesis.injected,
        converged_s=None if end is None else end.converged_s,
        unsettled=unsettled,
    )


async def _shape(node: Groundswell, plan: Plan) -> Shape:
    """Ids of this run alone, of a kind that the deployment has."""
    of_run, of_operation = RUN_BITS
    kind = _kind((await _patiently(node.status, AWAY)).kinds)
    return Shape(
        run=(1 + secrets.randbelow(2**of_run)) << of_operation,
        kind=kind["name"],
        text=(kind["target"] == "text", kind["source"] == "text"),
        sessions=plan.sessions,
    )


def _kind(kinds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One that can be liked and unliked by anybody; `like`, if there is one."""
    fit = [
        kind
        for kind in kinds
        if kind["unique"]
        and not kind["exclusive"]
        and not kind.get("value")
        and "uuid" not in (kind["source"], kind["target"])
    ]
    if not fit:
        raise BadSettings(
            "No kind of this deployment can be used: one is needed with unique edges, without values, "
            "not exclusive, whose ids are int or text. Declare one for the verification."
        )
    return min(fit, key=lambda kind: kind["name"] != "like")


async def _settled(nodes: Sequence[Groundswell], shape: Shape) -> tuple[Ending | None, str | None]:
    """The truth in the end; or why there is none."""
    try:
        read = partial(ending, nodes, shape, patience_s=SETTLE_S)
        return await _patiently(read, (*AWAY, NodeUnreachable)), None
    except Unavailable as error:
        return None, error.detail


async def _patiently(call: Callable[[], Awaitable[T]], away: tuple[type[Unavailable], ...]) -> T:
    """What comes of it; again, for some time, where it fails with what may pass."""
    deadline_s = time.monotonic() + SETTLE_S
    while True:
        try:
            return await call()
        except away:
            if time.monotonic() > deadline_s:
                raise
            await asyncio.sleep(0.2)
