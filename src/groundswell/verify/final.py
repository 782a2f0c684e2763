"""How it all ended: the truth when nothing more happens, and what every replica shows of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

import msgspec

from groundswell.errors import ObjectNotFound, Unavailable
from groundswell.model import Level
from groundswell.session import Fallback, Groundswell, Session
from groundswell.verify.shape import ACCOUNTS, BANK, COUNTERS, OBJECTS, PAIR, TOGGLED, Shape

TARGETS: Final = (*COUNTERS, *PAIR, *TOGGLED)
PAUSE_S: Final = 0.05
PAGE: Final = 1000
TURNS: Final = 10  # a replica has one in as many

Shown = dict[str, int | None]  # by the short name of a target or an object


class Movement(msgspec.Struct, frozen=True, array_like=True):
    """A transfer as an account's history tells it."""

    op: int  # that made it
    debit: str
    credit: str
    amount: int


class Ending(msgspec.Struct, frozen=True):
    """The state of everything that was touched, read after the last write."""

    shown: Shown  # by the primary
    sources: dict[str, list[int]]  # of each target, as listed
    balances: dict[str, int]
    histories: dict[str, list[Movement]]  # of each account, oldest first
    replicas: dict[str, Shown]  # by node and name: what it showed last
    converged_s: float | None  # until all of them showed the truth; None: they did not in time


async def ending(
    nodes: Sequence[Groundswell],
    shape: Shape,
    *,
    patience_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> Ending:
    """Read it all, waiting up to `patience_s` for replicas to come to the truth.

    Raises Unavailable where a node does not answer.
    """
    reader = _Reader(shape)
    session = nodes[0].session()
    shown = await reader.primary(session)
    balances = {name: await reader.balance(session, name) for name in (BANK, *ACCOUNTS)}
    began_s = clock()
    replicas: dict[str, Shown] = {}
    converged_s = None
    while clock() < began_s + patience_s:
        for number, node in enumerate(nodes):
            replicas |= await reader.replicas(node, f"node {number}")
        if all(replica == shown for replica in replicas.values()):
            converged_s = clock() - began_s
            break
        await asyncio.sleep(PAUSE_S)
    return Ending(
        shown=shown,
        sources={name: [one async for one in reader.sources(session, name)] for name in TARGETS},
        balances=balances,
        histories={
            name: [one async for one in reader.history(session, name)][::-1] for name in balances
        },
        replicas=replicas,
        converged_s=converged_s,
    )


class _Reader:
    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._targets = [shape.target(name) for name in TARGETS]

    async def primary(self, session: Session) -> Shown:
        shown = (await self._counts(session, Level.LINEARIZABLE, "primary"))[1]
        for name in OBJECTS:
            shown[name] = (await self._value(session, name, Level.LINEARIZABLE, "primary"))[1]
        return shown

    async def replicas(self, node: Groundswell, label: str) -> dict[str, Shown]:
        """What each replica of a node shows; one that never answers shows nothing.

        They take turns, so each thing is asked for until each of them has had its turn.
        """
        names = [replica.name for replica in (await node.status()).replicas]
        found: dict[str, Shown] = {name: {} for name in names}
        for asked in (None, *OBJECTS):
            left = set(names)
            for _ in range(TURNS * len(names)):
                try:
                    served_by, shown = await self._asked(node.session(), asked)
                except Unavailable:  # it has no replica that could answer, at the moment
                    await asyncio.sleep(PAUSE_S)
                    continue
                found.setdefault(served_by, {}).update(shown)
                left.discard(served_by)
                if not left:
                    break
        return {f"{label} {name}": shown for name, shown in found.items()}

    async def _asked(self, session: Session, name: str | None) -> tuple[str, Shown]:
        """An object, or all counts, as a replica shows it."""
        if name is None:
            return await self._counts(session, Level.EVENTUAL, "none")
        served_by, value = await self._value(session, name, Level.EVENTUAL, "none")
        return served_by, {name: value}

    async def _counts(
        self, session: Session, level: Level, fallback: Fallback
    ) -> tuple[str, Shown]:
        counts = await session.counts(self._targets, level=level, fallback=fallback)
        values = (count.value for count in counts)
        return counts[0].served_by, dict(zip(TARGETS, values, strict=True))

    async def _value(
        self, session: Session, name: str, level: Level, fallback: Fallback
    ) -> tuple[str, int | None]:
        try:
            found = await session.get(self._shape.name(name), level=level, fallback=fallback)
        except ObjectNotFound as error:
            return str((error.read or {}).get("served_by")), None
        return found.served_by, int(found.data["value"])

    async def balance(self, session: Session, name: str) -> int:
        return (await session.account(self._shape.name(name))).balance

    async def sources(self, session: Session, name: str) -> AsyncIterator[int]:
        kind, target = self._shape.target(name)
        cursor = None
        while True:
            page = await session.edges(kind, target=target, limit=PAGE, cursor=cursor)
            for edge in page.edges:
                yield int(edge.source) - self._shape.run
            if (cursor := page.next) is None:
                return

    async def history(self, session: Session, name: str) -> AsyncIterator[Movement]:
        prefix = len(self._shape.name(""))
        cursor = None
        while True:
            page = await session.transfers(self._shape.name(name), limit=PAGE, cursor=cursor)
            for one in page.transfers:
                debit, credit = one.debit[prefix:], one.credit[prefix:]
                yield Movement(int(one.id[prefix:]), debit, credit, one.amount)
            if (cursor := page.next) is None:
                return
