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
from groundswell.verify.simulation.clients import HurriedWork
from groundswell.verify.simulation.end import looked_up
from groundswell.verify.simulation.faults import forgetful, plague
from groundswell.verify.simulation.loop import SimulatedLoop, run
from groundswell.verify.simulation.world import Plan, World
from groundswell.verify.workload import Shape

OPERATIONS: Final = 80
PATIENCE_S: Final = 5.0  # virtual
ASKED_SHARE: Final = (
    0.2  # of the runs whose end is asked for as a client would; the others are looked at
)


class Outcome(msgspec.Struct, frozen=True):
    """What clients saw in a run, and how it ended."""

    seed: int
    plan: Plan
    ops: list[Op]
    end: Ending | None
    errors: list[str]  # what died of itself; None is meant to

    def findings(self) -> list[Finding]:
        """Every contradiction in it."""
        found = [one for one in judge(self.ops, self.end) if one.violation is not None]
        for error in self.errors:
            found.append(Finding(EVERY, f"no part dies: {error}", 1, None))
        return found


def simulate(seed: int, *, operations: int = OPERATIONS, faults: bool = True) -> Outcome:
    """Run it; the same seed gives the same outcome, byte for byte."""
    rng = Random(seed)
    loop = SimulatedLoop(Random(rng.getrandbits(64)))
    errors: list[str] = []
    loop.set_exception_handler(lambda _, context: errors.append(_told(context)))
    plan = Plan.draw(rng, faults=faults)
    world = World(plan, rng, loop)
    history = History(loop.tick)
    end = None
    with _quiet():
        try:
            end = run(_run(world, history, operations, errors), loop)
        except Exception as error:  # whatever it is, it shows that something is wrong
            errors.append(f"the run ended: {error!r}")
    return Outcome(seed, plan, history.ops, end, errors)


async def _run(world: World, history: History, operations: int, errors: list[str]) -> Ending | None:
    rng = world.rng
    shape = Shape(
        run=1_000,
        sessions=rng.choice((1, 1, 2)),
        operations=rng.choice((3, 10, 40)),
        pause_s=rng.choice((0.002, 0.006)),
        max_age_ms=rng.choice((10, 40, 100)),
    )
    await world.start()
    handles = world.handles()
    work = HurriedWork(handles, history, shape, rng)
    await work.prepare()
    ended = len(history.ops) + operations
    faults = [asyncio.create_task(plague(world)), asyncio.create_task(forgetful(world))]
    await work.run(lambda: len(history.ops) >= ended)
    for task in faults:
        task.cancel()
    await asyncio.wait(faults)
    if world.starting:
        await asyncio.wait(world.starting)
    await world.settled(PATIENCE_S)
    try:
        if rng.random() < ASKED_SHARE:
            end = await ending(handles, shape, patience_s=PATIENCE_S, clock=world.loop.time)
        else:
            end = looked_up(world, shape)
    except Unavailable as error:
        errors.append(f"it does not come to peace: {error}")
        end = None
    for machine in world.machines:
        if machine.node is None or not machine.node.is_alive():
            errors.append(f"node {machine.number} is dead")
    return end


def _told(context: dict[str, Any]) -> str:
    return f"{context['message']}: {context.get('exception')!r}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the log, which tells of every fault; and with no finalizers at odd moments."""
    log = logging.getLogger("groundswell")
    level, collecting = log.level, gc.isenabled()
    log.setLevel(logging.CRITICAL)
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
            for op in outcome.ops if found.violation else ():
                if op.id in found.violation.ops:  # type: ignore[union-attr]
                    print("   ", op)  # noqa: T201
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
