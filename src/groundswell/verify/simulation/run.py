"""One run from one seed: clients, faults, peace, and what is left in the end.

python -m groundswell.verify.simulation.run 4711
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sys
from collections.abc import Iterator
from random import Random
from typing import Any, Final

import msgspec

from groundswell.errors import Unavailable
from groundswell.verify.final import Ending, ending
from groundswell.verify.history import History, Op
from groundswell.verify.judge import EVERY, Finding, judge
from groundswell.verify.shape import Shape
from groundswell.verify.simulation.clients import HurriedWork
from groundswell.verify.simulation.end import looked_up
from groundswell.verify.simulation.faults import forgetful, plague
from groundswell.verify.simulation.loop import SimulatedLoop, run
from groundswell.verify.simulation.world import Plan, World

OPERATIONS: Final = 80
PATIENCE_S: Final = 5.0  # virtual
ASKED_SHARE: Final = (
    0.2  # of the runs whose end is asked for as a client would; the others are looked at
)


class Outcome(msgspec.Struct, frozen=True):
    """What clients saw in a run, and how it ended."""

    seed: int
    plan: Plan
    parts: list[list[Op]]  # before and after a failover; without one there is one
    end: Ending | None
    errors: list[str]  # what died of itself; nothing is meant to
    contradictions: list[str]  # of pages within themselves

    @property
    def ops(self) -> list[Op]:
        """All operations."""
        return [op for ops in self.parts for op in ops]

    def findings(self) -> list[Finding]:
        """Every contradiction in it."""
        found: list[Finding] = []
        for ops in self.parts:
            end = self.end if ops is self.parts[-1] else None
            found += [one for one in judge(ops, end) if one.violation is not None]
        for error in self.errors:
            found.append(Finding(EVERY, f"no part dies: {error}", 1, None))
        for one in self.contradictions:
            found.append(Finding(EVERY, f"a page is of one state: {one}", 1, None))
        return found


def simulate(seed: int, *, operations: int = OPERATIONS, faults: bool = True) -> Outcome:
    """Run it; the same seed gives the same outcome, byte for byte."""
    rng = Random(seed)
    loop = SimulatedLoop(Random(rng.getrandbits(64)))
    plan = Plan.draw(rng, faults=faults)
    running = _Run(World(plan, rng, loop))
    loop.set_exception_handler(lambda _, context: running.errors.append(_told(context)))
    end = None
    with _quiet():
        try:
            end = run(running.run(operations), loop)
        except Exception as error:  # whatever it is, it shows that something is wrong
            running.errors.append(f"the run ended: {error!r}")
    parts = [history.ops for history in running.histories]
    return Outcome(seed, plan, parts, end, running.errors, running.contradictions)


class _Run:
    """One run on its way."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.errors: list[str] = []
        self.contradictions: list[str] = []
        # Of a failover clients keep their tokens. What they knew may be lost, so they turn to other keys.
        parts = 1 if world.plan.lost < 0 else 2
        self.histories = [History(world.loop.tick) for _ in range(parts)]
        self.handles = world.handles()

    async def run(self, operations: int) -> Ending | None:
        """All of it."""
        world = self.world
        await world.start()
        tokens: list[str] = []
        for part, history in enumerate(self.histories):
            if part:
                world.starting.append(asyncio.create_task(world.fail_over()))
            shape = self._shape(1_000 * (part + 1))
            work = HurriedWork(self.handles, history, shape, world.rng)
            work.tokens = tokens
            await self._work(work, history, operations // len(self.histories))
            tokens = work.left
            self.contradictions += [one for c in work.clients for one in c.contradictions]
        if world.starting:
            await asyncio.wait(world.starting)
        await world.settled(PATIENCE_S)
        return await self._end(shape)

    def _shape(self, run: int) -> Shape:
        rng = self.world.rng
        return Shape(
            run=run,
            sessions=rng.choice((1, 1, 2)),
            operations=rng.choice((3, 10, 40)),
            pause_s=rng.choice((0.002, 0.006)),
            max_age_ms=rng.choice((10, 40, 100)),
        )

    async def _work(self, work: HurriedWork, history: History, operations: int) -> None:
        await work.prepare()
        ended = len(history.ops) + operations
        faults = [
            asyncio.create_task(plague(self.world)),
            asyncio.create_task(forgetful(self.world)),
        ]
        await work.run(lambda: len(history.ops) >= ended)
        for task in faults:
            task.cancel()
        await asyncio.wait(faults)

    async def _end(self, shape: Shape) -> Ending | None:
        world, end = self.world, None
        try:
            if world.rng.random() < ASKED_SHARE:
                clock = world.loop.time
                end = await ending(self.handles, shape, patience_s=PATIENCE_S, clock=clock)
            else:
                end = looked_up(world, shape)
        except Unavailable as error:
            self.errors.append(f"it does not come to peace: {error}")
        for machine in world.machines:
            if machine.node is None or not machine.node.is_alive():
                self.errors.append(f"node {machine.number} is dead")
        return end


def _told(context: dict[str, Any]) -> str:
    return f"{context['message']}: {context.get('exception')!r}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the log, which tells of every fault; and with no finalizers at odd moments."""
    log = logging.getLogger("groundswell")
    level, collecting = log.level, gc.isenabled()
    log.setLevel(logging.CRITICAL + 1)
    gc.disable()
    try:
        yield
    finally:
        log.setLevel(level)
        if collecting:
            gc.enable()


def main(seeds: list[str]) -> int:
    """Replay runs and tell what is wrong with them."""
    wrong = False
    for seed in map(int, seeds):
        outcome = simulate(seed)
        for found in outcome.findings():
            wrong = True
            print(f"seed {seed}: {found.level}: {found.name}: {found.violation}")  # noqa: T201
            for op in outcome.ops:
                if found.violation is not None and op.id in found.violation.ops:
                    print("   ", op)  # noqa: T201
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
