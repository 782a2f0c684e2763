"""Nodes on one store, all simulated, and the ways between them; what goes wrong is in `faults`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any, cast
from unittest import mock

import msgspec

from groundswell.api import Api
from groundswell.errors import NodeUnreachable, StoreUnavailable
from groundswell.kinds import Kind, Kinds
from groundswell.node import Node, Tuning
from groundswell.replicas.memory import MemoryReplica
from groundswell.session import Groundswell
from groundswell.telemetry import Telemetry
from groundswell.verify.simulation.loop import Process, SimulatedLoop
from groundswell.verify.simulation.primary import Pace, Primary
from groundswell.verify.simulation.standby import SimulatedStandby, Standby
from groundswell.verify.simulation.store import SimulatedStore, Way

KINDS = Kinds((Kind(name="like"),))
RESTART_S = 0.03
TELEMETRY = Telemetry()  # the nodes share it: making one takes longer than all else of a node


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is made of; `draw` takes it from a seed."""

    nodes: int
    delays_s: tuple[float, ...]  # of each node's replicas
    bytes_max: int  # of a replica
    forgets_s: float  # mean, between two rows that replicas forget; 0: they forget none
    standby: bool
    tuning: Tuning
    pace: Pace
    way_s: float  # mean, between a node and a server, each way
    current_max: int
    rollups_kept: int
    lost_notices: float  # share
    faults: int
    lost: int  # records that a failover at half-time loses; -1: there is none

    @classmethod
    def draw(cls, rng: Random, *, faults: bool = True) -> Plan:
        """One of many different deployments."""
        return cls(
            nodes=rng.choice((1, 2, 2, 3)),
            delays_s=(0.0, rng.choice((0.0, 0.01, 0.03)), 0.08),
            bytes_max=rng.choice((4_000, 6_000, 1_000_000, 1_000_000)),
            forgets_s=rng.choice((0.0, 0.001, 0.005)),
            standby=rng.random() < 0.4,
            tuning=Tuning(
                events_max=rng.choice((1, 3, 10_000, 10_000)),
                rollup_pause_ms=rng.choice((1, 5, 20)),
                poll_ms=rng.choice((30, 80)),
                wait_ms=rng.choice((0, 10, 50)),
            ),
            pace=Pace(
                flush_s=rng.choice((0.0005, 0.002)),
                visible_s=rng.choice((0.0001, 0.002, 0.005)),
                slow_s=rng.choice((0.02, 0.08)),
                slow_share=rng.choice((0.0, 0.2, 0.4)) if faults else 0.0,
                long_visible_share=rng.choice((0.0, 0.1, 0.3)) if faults else 0.0,
                idle_s=0.2,
            ),
            way_s=rng.choice((0.0003, 0.001, 0.003)),
            current_max=rng.choice((0, 3, 10_000, 10_000)),
            rollups_kept=rng.choice((3, 1_000, 1_000)),
            lost_notices=rng.choice((0.0, 0.5, 1.0)) if faults else 0.0,
            faults=rng.choice((0, 3, 6)) if faults else 0,
            lost=rng.choice((-1, -1, -1, 0, 10, 40)) if faults else -1,
        )


class Machine:
    """Runs one node, again after each crash."""

    def __init__(self, number: int, world: World) -> None:
        self.number = number
        self.node: Node | None = None
        self.process = Process(f"node {number}")
        self.replicas: list[MemoryReplica] = []
        self.ways: list[Way] = []  # to the primary, and to the standby
        self._world = world

    async def run(self) -> None:
        """Start a node, until that works."""
        world = self._world
        while True:
            self.process = Process(f"node {self.number}")
            self.ways = [world.way(), world.way()]
            store = SimulatedStore(world.primary, self.ways[0], current_max=world.plan.current_max)
            standby = None
            if world.standby is not None:
                standby = SimulatedStandby(world.standby, store, self.ways[1])
            held = [
                (MemoryReplica(f"r{i}", bytes_max=world.plan.bytes_max), delay_s)
                for i, delay_s in enumerate(world.plan.delays_s)
            ]
            self.replicas = [replica for replica, _ in held]
            clock = world.loop.time
            with mock.patch("groundswell.node.Telemetry", lambda: TELEMETRY):
                node = Node(store, KINDS, held, world.plan.tuning, standby=standby, clock=clock)
            started = self.process.spawn(node.start())
            await asyncio.wait((started,))
            if not started.cancelled() and started.exception() is None:
                self.node = node
                return
            if not started.cancelled() and not isinstance(started.exception(), StoreUnavailable):
                started.result()
            self.process.kill()
            await asyncio.sleep(RESTART_S)

    def crash(self) -> None:
        """End it where it is; its replicas are gone."""
        self.node = None
        self.process.kill()


class Remote:
    """The interface of a node as a client far away has it."""

    def __init__(self, machine: Machine, rng: Random, mean_s: float) -> None:
        self._machine = machine
        self._rng = rng
        self._mean_s = mean_s

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            await self._pause()
            node, process = self._machine.node, self._machine.process
            if node is None:
                raise NodeUnreachable("The node is down; nothing was changed.")
            answering = process.spawn(getattr(node, verb)(*args, **kwargs))
            await asyncio.wait((answering,))
            error = None if answering.cancelled() else answering.exception()
            await self._pause()
            if answering.cancelled() or (not process.alive and self._rng.random() < 0.5):
                raise NodeUnreachable("The node went away; nobody knows what happened.")
            if error is not None:
                raise error
            return answering.result()

        return call

    async def _pause(self) -> None:
        await asyncio.sleep(self._rng.expovariate(1 / self._mean_s))


class World:
    """All of it."""

    def __init__(self, plan: Plan, rng: Random, loop: SimulatedLoop) -> None:
        self.plan = plan
        self.loop = loop
        self.rng = rng
        self.primary = Primary(
            KINDS,
            rng,
            plan.pace,
            now_ms=lambda: int(loop.time() * 1000),
            rollups_kept=plan.rollups_kept,
        )
        self.standby = Standby(self.primary, rng) if plan.standby else None
        if self.standby is not None:
            self.standby.lag_s = rng.choice((0.001, 0.01, 0.03))
        self.machines = [Machine(number, self) for number in range(plan.nodes)]
        self.starting: list[asyncio.Task[None]] = []  # nodes that come back
        self.lost_notices = plan.lost_notices
        self.primary.rolled.append(self._notify)

    def way(self) -> Way:
        """From a node to a server."""
        way = Way(self.rng)
        way.mean_s = self.plan.way_s
        return way

    def handles(self) -> list[Groundswell]:
        """The nodes as clients have them."""
        mean_s = self.plan.way_s / 4
        return [
            Groundswell(cast(Api, Remote(machine, self.rng, mean_s))) for machine in self.machines
        ]

    async def start(self) -> None:
        """All nodes."""
        await asyncio.gather(*(machine.run() for machine in self.machines))

    async def fail_over(self) -> None:
        """Lose the primary, and with it what its successor has not got."""
        if self.primary.up:
            self.primary.crash()
        await asyncio.sleep(self.rng.expovariate(1 / RESTART_S))
        self.primary.fail_over(self.plan.lost)
        if self.standby is not None:
            self.standby.begin_anew()

    async def settled(self, patience_s: float) -> None:
        """Wait until every replica has everything, up to so long."""
        until_s = self.loop.time() + patience_s
        replicas = [replica for machine in self.machines for replica in machine.replicas]
        while self.loop.time() < until_s:
            image, epoch = self.primary.image, self.primary.epoch
            latest = image.latest.rollup.number
            if not image.queue and all(
                replica.standing.rollup == latest and replica.standing.epoch == epoch
                for replica in replicas
            ):
                return
            await asyncio.sleep(0.01)

    def _notify(self, number: int) -> None:
        for machine in self.machines:
            if machine.node is not None and self.rng.random() >= self.lost_notices:
                delay_s = self.rng.expovariate(1 / self.plan.way_s)
                self.loop.call_later(delay_s, machine.node.rolled)
