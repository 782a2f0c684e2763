"""What goes wrong in a simulated world, drawn from its seed; each fault ends by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from groundswell.verify.simulation.world import World

MEAN_S: Final = 0.04  # of a fault, and between two


async def plague(world: World) -> None:
    """So many faults as the plan has, one after the other, sometimes two at once."""
    running: list[asyncio.Task[None]] = []
    try:
        for _ in range(world.plan.faults):
            await pause(world)
            fault = world.rng.choice(FAULTS)
            running.append(asyncio.create_task(_last(world, fault)))
            if world.rng.random() < 0.6:
                await asyncio.wait(running)
        if running:
            await asyncio.wait(running)
    finally:
        for task in running:
            task.cancel()


async def _last(world: World, fault: Callable[[World], Awaitable[None]]) -> None:
    await fault(world)


async def forgetful(world: World) -> None:
    """Replicas forget rows, as those do that have little memory."""
    while world.plan.forgets_s:
        await asyncio.sleep(world.rng.expovariate(1 / world.plan.forgets_s))
        machine = world.rng.choice(world.machines)
        replica = world.rng.choice(machine.replicas)
        held: tuple[Any, ...] = (
            replica._counters,
            replica._documents,
            replica._documents,
            replica._lists,
            replica._flags,
        )
        rows = world.rng.choice(held)
        if world.rng.random() < 0.3:
            rows.clear()
        rows.drop(world.rng.choice([*rows._rows, None]))


async def pause(world: World) -> None:
    """As long as a fault lasts."""
    await asyncio.sleep(world.rng.expovariate(1 / MEAN_S))


async def crash_node(world: World) -> None:
    """A node dies, and comes back."""
    machine = world.rng.choice(world.machines)
    if machine.node is None:
        return
    machine.crash()
    try:
        await pause(world)
    finally:
        world.starting.append(asyncio.create_task(machine.run()))


async def crash_primary(world: World) -> None:
    """The database server dies, and recovers."""
    if not world.primary.up:
        return
    world.primary.crash()
    try:
        await pause(world)
    finally:
        world.primary.start()


async def stall(world: World) -> None:
    """A node does not reach the store; what it asks hangs."""
    machine = world.rng.choice(world.machines)
    clear = asyncio.Event()
    ways = machine.ways[:1] if world.rng.random() < 0.5 else machine.ways
    for way in ways:
        way.clear = clear
    try:
        await pause(world)
    finally:
        for way in ways:
            way.clear = None
        clear.set()


async def breaking(world: World) -> None:
    """A node's connections break, before a statement or after it."""
    machine = world.rng.choice(world.machines)
    for way in machine.ways:
        way.lost_share = 0.4
    try:
        await pause(world)
    finally:
        for way in machine.ways:
            way.lost_share = 0.0


async def late_answers(world: World) -> None:
    """What a node asks is answered late: the feed, the fills, or the rollup."""
    machine = world.rng.choice(world.machines)
    verb = world.rng.choice(("feed", "counters", "documents", "rollup", "current", "commit"))
    for way in machine.ways:
        way.late[verb] = MEAN_S / 2
    try:
        await pause(world)
    finally:
        for way in machine.ways:
            way.late.pop(verb, None)


async def lagging_standby(world: World) -> None:
    """The standby stops to replay."""
    if world.standby is None or world.standby.paused:
        return
    world.standby.paused = True
    try:
        await pause(world)
    finally:
        world.standby.go_on()


async def dead_standby(world: World) -> None:
    """The standby is away."""
    if world.standby is None:
        return
    world.standby.up = False
    try:
        await pause(world)
    finally:
        world.standby.up = True


FAULTS: Final = (
    crash_node,
    crash_primary,
    stall,
    breaking,
    late_answers,
    late_answers,
    late_answers,
    lagging_standby,
    dead_standby,
)
