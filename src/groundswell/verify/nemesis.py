"""Faults, one after the other and two at a time, drawn from a seed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Final, NamedTuple

import msgspec

HELD_S: Final = (0.3, 3.0)  # how long a fault lasts
BETWEEN_S: Final = (0.2, 2.0)
STEP_S: Final = 0.05
TWO_AT_ONCE: Final = 0.3  # of the times

Act = Callable[[], Awaitable[None] | None]


class Fault(NamedTuple):
    """Something that goes wrong, and how it is put right again; of one place one at a time.

    What is `alone` goes together with nothing else.
    """

    name: str
    place: str
    inject: Act
    heal: Act
    alone: bool = False


class Injected(msgspec.Struct, frozen=True):
    """A fault that there was."""

    name: str
    place: str
    at_s: float  # after the beginning
    lasted_s: float


class Nemesis:
    """Injects faults while it runs; at its end all of them are healed."""

    def __init__(self, faults: Sequence[Fault], rng: Random) -> None:
        self.injected: list[Injected] = []
        self._faults = faults
        self._due: list[Fault] = []  # each comes once before any comes again
        self._rng = rng
        self._began_s = time.monotonic()

    async def run(self, until: Callable[[], bool]) -> None:
        """Go on until it is time to end, and everything is healed."""
        while not until():
            await asyncio.sleep(self._rng.uniform(*BETWEEN_S))
            async with asyncio.TaskGroup() as group:
                for fault in self._draw():
                    group.create_task(self._one(fault, self._rng.uniform(*HELD_S), until))

    def _draw(self) -> list[Fault]:
        self._due = self._due or self._rng.sample(self._faults, len(self._faults))
        one = self._due.pop()
        if one.alone or self._rng.random() > TWO_AT_ONCE:
            return [one]
        others = [f for f in self._faults if f.place != one.place and not f.alone]
        return [one, *self._rng.sample(others, min(1, len(others)))]

    async def _one(self, fault: Fault, held_s: float, until: Callable[[], bool]) -> None:
        began_s = time.monotonic()
        try:
            await _do(fault.inject)
            for _ in range(round(held_s / STEP_S)):
                if until():
                    break
                await asyncio.sleep(STEP_S)
        finally:
            await _do(fault.heal)
            lasted_s = time.monotonic() - began_s
            at_s = began_s - self._began_s
            self.injected.append(Injected(fault.name, fault.place, at_s, lasted_s))


async def _do(act: Act) -> None:
    """To its end, also when the verification is cancelled: half a fault cannot be healed."""
    if (done := act()) is not None:
        task = asyncio.ensure_future(done)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait((task,))
            raise
