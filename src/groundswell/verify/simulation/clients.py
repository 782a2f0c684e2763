"""The clients of the workload, in a hurry: several steps without a pause, where guarantees are at stake."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Final

from groundswell.model import NEWEST_MAX, Level
from groundswell.session import Session
from groundswell.verify.shape import ACCOUNTS, BANK, COUNTERS, PAIR
from groundswell.verify.workload import Client, Work

FRESH: Final = 3  # tokens that are handed over: the newest


class HurriedClient(Client):
    """Draws sequences."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._draw: Random = args[5]
        self.contradictions: list[str] = []  # of pages within themselves

    async def step(self) -> None:
        """The steps of a sequence, one after the other."""
        [steps] = self._draw.choices(list(_STEPS), list(_STEPS.values()))
        for step in steps:
            await step(self)
        del self._given[:-FRESH]

    async def feed(self) -> None:
        """The same counts as `page`, with the edges behind them: those of one state too."""
        names = [*COUNTERS, *PAIR]
        op = self._invoke_read("count", names)
        added = self._draw.choice(
            [one.values[0] for one in self._history.ops if one.f == "add"] or [0]
        )

        async def send(session: Session) -> list[int | None]:
            items = await session.page(
                [self._shape.target(name) for name in names],
                viewer=self._shape.source(added),
                newest=NEWEST_MAX,
                level=op.level,
                max_age_ms=op.max_age_ms,
            )
            op.pending = [0] * len(items)
            op.served_by, op.age_ms = items[0].served_by, items[0].age_ms
            for name, item in zip(names, items, strict=True):
                listed = [edge.source for edge in item.newest]
                if len(listed) != min(item.value, NEWEST_MAX):
                    self.contradictions.append(f"{op.id}: {item.value} of {name}, {listed}")
                if len(listed) < NEWEST_MAX and item.viewer != (
                    self._shape.source(added) in listed
                ):
                    self.contradictions.append(f"{op.id}: {added} of {name}, {listed}")
            return [item.value for item in items]

        await self._read(op, send)


_STEPS: Final[dict[tuple[Callable[[HurriedClient], Awaitable[Any]], ...], int]] = {
    (Client.add,): 4,
    (Client.add_pair,): 3,
    (Client.toggle,): 4,
    (Client.put,): 3,
    (Client.pay,): 3,
    (Client.balance,): 2,
    (Client.count,): 2,
    (Client.get,): 2,
    (Client.add, Client.page): 6,
    (Client.add, Client.take, Client.page): 4,
    (Client.add_pair, Client.page): 2,
    (Client.put, Client.get): 7,
    (Client.page, Client.page): 6,
    (Client.get, Client.get): 9,
    (Client.add, Client.give): 4,
    (Client.put, Client.give): 4,
    (Client.page, Client.give): 4,
    (Client.take, Client.page): 5,
    (Client.take, Client.get): 6,
    (HurriedClient.feed,): 4,
    (Client.add, HurriedClient.feed): 3,
    (Client.add_pair, HurriedClient.feed, HurriedClient.feed): 3,
    (HurriedClient.feed, HurriedClient.feed): 4,
    (Client.take, HurriedClient.feed): 3,
}


class HurriedWork(Work):
    """All of them in a hurry."""

    async def prepare(self) -> None:
        """The same, all accounts at once."""
        client = self._client(Level.LINEARIZABLE)
        await asyncio.gather(
            client.open_account(BANK, floor=None),
            *(client.open_account(name, floor=0) for name in ACCOUNTS),
        )
        await asyncio.gather(*(self._client(Level.LINEARIZABLE).fund(name) for name in ACCOUNTS))

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.tokens: list[str] = []  # that sessions begin with, some of them
        self.clients: list[HurriedClient] = []

    def _client(self, level: str) -> Client:
        plain = super()._client(level)
        client = HurriedClient(
            plain._number,
            level,
            self._nodes,
            self._history,
            self._shape,
            self._rng,
            self._given,
        )
        if self.tokens:
            client._token = self._rng.choice(self.tokens)
        self.clients.append(client)
        return client

    @property
    def left(self) -> list[str]:
        """The tokens that its sessions ended with."""
        return [client._token for client in self.clients if client._token is not None]
