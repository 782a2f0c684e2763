"""What the clients of a verification do: sessions at every level, on a few hot keys.

It uses the public interface alone, so that it runs against a deployment, nodes of its own, or a
simulation. Everything is drawn from one random number generator.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any, Final

from groundswell.errors import (
    GroundswellError,
    NodeUnreachable,
    ObjectNotFound,
    Overloaded,
    StoreUnavailable,
)
from groundswell.model import Add, Level
from groundswell.session import Groundswell, Session
from groundswell.verify.history import History, Op
from groundswell.verify.shape import (
    ACCOUNTS,
    BANK,
    BOUNDED,
    COUNTERS,
    LEVELS,
    MINE,
    OBJECTS,
    PAIR,
    TOGGLED,
    Shape,
)

FUNDS: Final = 100  # in every account to begin with
AMOUNT_MAX: Final = 60
RETRIES: Final = 3
RETRY_S: Final = 0.05


Send = Callable[[Session], Awaitable[list[int | None]]]


class Work:
    """The clients of one run."""

    def __init__(
        self, nodes: Sequence[Groundswell], history: History, shape: Shape, rng: Random
    ) -> None:
        self._nodes = nodes
        self._history = history
        self._shape = shape
        self._rng = rng
        self._sessions = 0
        self._given: list[tuple[int, str]] = []  # tokens that are handed over

    async def prepare(self) -> None:
        """Open the accounts and fund them; tries until it works. Part of the history."""
        client = self._client(Level.LINEARIZABLE)
        await client.open_account(BANK, floor=None)
        for name in ACCOUNTS:
            await client.open_account(name, floor=0)
            await client.fund(name)

    async def run(self, until: Callable[[], bool]) -> None:
        """Sessions at every level, `sessions` of each at a time, until it is time to end."""
        async with asyncio.TaskGroup() as group:
            for level in LEVELS:
                for _ in range(self._shape.sessions):
                    group.create_task(self._at(level, until))

    async def _at(self, level: str, until: Callable[[], bool]) -> None:
        while not until():
            client = self._client(level)
            for _ in range(self._shape.operations):
                if until():
                    return
                await client.step()
                await asyncio.sleep(self._rng.expovariate(1 / self._shape.pause_s))

    def _client(self, level: str) -> Client:
        self._sessions += 1
        return Client(
            self._sessions - 1,
            level,
            self._nodes,
            self._history,
            self._shape,
            self._rng,
            self._given,
        )


class Client:
    """One session, which asks a node at random each time, and notes what it asked and was told."""

    def __init__(
        self,
        number: int,
        level: str,
        nodes: Sequence[Groundswell],
        history: History,
        shape: Shape,
        rng: Random,
        given: list[tuple[int, str]],
    ) -> None:
        self._number = number
        self._mine = f"{MINE}{number}"
        self._level = level
        self._nodes = nodes
        self._history = history
        self._shape = shape
        self._rng = rng
        self._given = given
        self._token: str | None = None
        self._own: list[tuple[str, int]] = []  # edges that this session added and may remove

    async def step(self) -> None:
        """One operation, drawn at random."""
        draw = self._rng.choices(_STEPS, _WEIGHTS)[0]
        await draw(self)

    # --- writes ---------------------------------------------------------------------------------

    async def add(self) -> None:
        """Like a target that only grows, as a source that likes nothing else."""
        await self._add([self._rng.choice((*COUNTERS, self._mine))])

    async def add_pair(self) -> None:
        """Like both of a pair in one atomic write."""
        await self._add(list(PAIR))

    async def toggle(self) -> None:
        """Like a target, or take back a like of this session."""
        if self._own and self._rng.random() < 0.5:
            name, source = self._own.pop(self._rng.randrange(len(self._own)))
            op = self._invoke("remove", [name], [source])

            async def send(session: Session) -> list[int | None]:
                edge = *self._shape.target(name), self._shape.source(source)
                return [int(await session.remove(*edge))]

            await self._write(op, send)
        else:
            op = await self._add([self._rng.choice(TOGGLED)])
            if op.type == "ok" and op.tries == 1:  # else an earlier try may add it once more, later
                self._own.append((op.keys[0], op.values[0]))

    async def _add(self, names: list[str]) -> Op:
        op = self._invoke("add", names, [len(self._history.ops)] * len(names))
        writes = [
            Add(*self._shape.target(name), self._shape.source(source))
            for name, source in zip(names, op.values, strict=True)
        ]

        async def send(session: Session) -> list[int | None]:
            outcomes = await session.write(writes, atomic=True)
            return [int(getattr(outcome, "changed", False)) for outcome in outcomes]

        await self._write(op, send)
        return op

    async def put(self) -> None:
        """Write a value to an object that nobody else writes; never sent twice."""
        name = self._rng.choice(OBJECTS)
        op = self._invoke("put", [name], [len(self._history.ops) + 1])

        async def send(session: Session) -> list[int | None]:
            data = {"value": op.values[0]}
            op.versions = [await session.put(self._shape.name(name), "verify", data)]
            return []

        await self._write(op, send, tries=1)

    async def pay(self) -> None:
        """Move an amount between two accounts, which may be more than there is."""
        debit, credit = self._rng.sample(ACCOUNTS, 2)
        await self.transfer(debit, credit, self._rng.randint(1, AMOUNT_MAX))

    async def fund(self, name: str) -> None:
        """Give an account what it has to begin with; tries until that is known to have happened."""
        while True:
            if await self.transfer(BANK, name, FUNDS):
                return
            await asyncio.sleep(RETRY_S)

    async def transfer(self, debit: str, credit: str, amount: int) -> bool:
        """Move this amount; whether that is known to have happened."""
        op = self._invoke("transfer", [debit, credit], [amount])
        shape = self._shape

        async def send(session: Session) -> list[int | None]:
            moved = await session.transfer(
                shape.name(str(op.id)),
                debit=shape.name(debit),
                credit=shape.name(credit),
                amount=amount,
            )
            return [moved.debit_balance, moved.credit_balance]

        await self._write(op, send)
        return op.type == "ok"

    # --- reads ----------------------------------------------------------------------------------

    async def count(self) -> None:
        """One count."""
        await self._counts([self._rng.choice((*COUNTERS, self._mine, self._mine, *TOGGLED))])

    async def page(self) -> None:
        """Several counts at one revision."""
        await self._counts([*COUNTERS, *PAIR])

    async def _counts(self, names: list[str]) -> None:
        op = self._invoke_read("count", names)

        async def send(session: Session) -> list[int | None]:
            keys = [self._shape.target(name) for name in names]
            found = await session.counts(keys, level=op.level, max_age_ms=op.max_age_ms)
            op.pending = [one.pending for one in found]
            _served(op, found[0])
            return [one.value for one in found]

        await self._read(op, send)

    async def get(self) -> None:
        """The value of an object."""
        op = self._invoke_read("get", [self._rng.choice(OBJECTS)])

        async def send(session: Session) -> list[int | None]:
            try:
                found = await session.get(
                    self._shape.name(op.keys[0]), level=op.level, max_age_ms=op.max_age_ms
                )
            except ObjectNotFound as error:
                op.versions = [0]
                read = error.read or {}
                op.served_by, op.age_ms = read.get("served_by"), read.get("age_ms")
                return [None]
            op.versions = [found.version]
            _served(op, found)
            return [int(found.data["value"])]

        await self._read(op, send)

    async def balance(self) -> None:
        """The balance of an account, at the session's level."""
        op = self._invoke_read("balance", [self._rng.choice(ACCOUNTS)])

        async def send(session: Session) -> list[int | None]:
            found = await session.account(
                self._shape.name(op.keys[0]), level=op.level, max_age_ms=op.max_age_ms
            )
            _served(op, found)
            return [found.balance]

        await self._read(op, send)

    # --- tokens handed over ---------------------------------------------------------------------

    async def give(self) -> None:
        """Leave the session's token for another one."""
        if self._token is not None:
            op = self._invoke("give", [], [len(self._history.ops)])
            self._given.append((op.id, self._token))
            del self._given[:-8]
            self._history.complete(op, "ok")

    async def take(self) -> None:
        """Take over what another session has written and seen."""
        if self._given:
            id_, token = self._rng.choice(self._given)
            op = self._invoke("take", [], [id_])
            session = self._session()
            session.observe(token)
            self._token = session.token
            self._history.complete(op, "ok")

    # --- the way of one operation ---------------------------------------------------------------

    def _session(self) -> Session:
        self._node = self._rng.randrange(len(self._nodes))
        return self._nodes[self._node].session(self._token)

    def _invoke(self, f: Any, names: list[str], values: list[int]) -> Op:
        return self._history.invoke(self._number, f, names, values)

    def _invoke_read(self, f: Any, names: list[str]) -> Op:
        bounded = self._level == BOUNDED
        return self._history.invoke(
            self._number,
            f,
            names,
            level=Level.EVENTUAL if bounded else self._level,
            max_age_ms=self._shape.max_age_ms if bounded else None,
        )

    async def _write(self, op: Op, send: Send, *, tries: int = RETRIES) -> None:
        """Send it, and again under the same identity where no answer came."""
        unknown = False
        for attempt in range(1, tries + 1):
            op.tries = attempt
            try:
                found = await self._send(op, send)
            except (StoreUnavailable, NodeUnreachable) as error:
                unknown, op.error = True, error.code
                await asyncio.sleep(RETRY_S * self._rng.random())
            except GroundswellError as error:
                op.error = error.code
                # A refusal says nothing of an earlier try, which may be on its way still.
                self._history.complete(op, "info" if unknown else "fail")
                return
            else:
                op.found = found
                op.error = None
                self._history.complete(op, "ok")
                return
        self._history.complete(op, "info")

    async def _read(self, op: Op, send: Send) -> None:
        try:
            op.found = await self._send(op, send)
        except GroundswellError as error:
            op.error = error.code
            self._history.complete(op, "fail")
        else:
            self._history.complete(op, "ok")

    async def _send(self, op: Op, send: Send) -> list[int | None]:
        session = self._session()
        op.node = self._node
        try:
            return await send(session)
        finally:
            self._token = session.token

    async def open_account(self, name: str, *, floor: int | None) -> None:
        """Open an account; tries until that is known to have happened."""
        while True:
            try:
                await self._session().open_account(self._shape.name(name), floor=floor)
            except (StoreUnavailable, NodeUnreachable, Overloaded):
                await asyncio.sleep(RETRY_S)
            else:
                return


def _served(op: Op, found: Any) -> None:
    op.served_by, op.age_ms = found.served_by, found.age_ms


_MIX: Final[dict[Callable[[Client], Awaitable[None]], int]] = {
    Client.add: 20,
    Client.add_pair: 6,
    Client.toggle: 6,
    Client.put: 8,
    Client.pay: 5,
    Client.count: 22,
    Client.page: 10,
    Client.get: 14,
    Client.balance: 4,
    Client.give: 3,
    Client.take: 3,
}
_STEPS: Final = tuple(_MIX)
_WEIGHTS: Final = tuple(_MIX.values())
