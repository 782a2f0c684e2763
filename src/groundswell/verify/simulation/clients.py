"""The clients of the workload, in a hurry: several steps without a pause, where guarantees are at stake."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Final

from groundswell.model import Level
from groundswell.verify.workload import ACCOUNTS, BANK, Client, Work

FRESH: Final = 3  # tokens that are handed over: the newest

Step = Callable[[Client], Awaitable[Any]]

_STEPS: Final[dict[tuple[Step, ...], int]] = {
    (Client.add,): 4,
    (Client.add_pair,): 3,
    (Client.toggle,): 4,
    (Client.put,): 3,
    (Client.pay,): 4,
    (Client.balance,): 2,
    (Client.count,): 2,
    (Client.get,): 2,
    (Client.add, Client.page): 6,
    (Client.add, Client.take, Client.page): 4,
    (Client.add_pair, Client.page): 2,
    (Client.put, Client.get): 5,
    (Client.page, Client.page): 6,
    (Client.get, Client.get): 5,
    (Client.add, Client.give): 4,
    (Client.put, Client.give): 4,
    (Client.page, Client.give): 4,
    (Client.take, Client.page): 5,
    (Client.take, Client.get): 5,
}


class HurriedClient(Client):
    """Draws sequences."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._draw: Random = args[5]

    async def step(self) -> None:
        """The steps of a sequence, one after the other."""
        [steps] = self._draw.choices(list(_STEPS), list(_STEPS.values()))
        for step in steps:
            await step(self)
        del self._given[:-FRESH]


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
