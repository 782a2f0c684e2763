"""Sessions that decide by what they read, and then act on it: a dollar spent twice, a seat sold twice.

Each does so in two ways. It reads, decides, and writes whatever the write finds. Sessions take turns at
that, so that nothing happens between the look and the act, and only what the read did not show is to
blame; in real life others act in between, and no level of a read makes this safe. The other way is a write
that decides by itself, a transfer with a floor or an exclusive claim: nothing gets through, turns or not.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import uuid
from functools import partial
from typing import Final

from groundswell.demo.tally import Tally
from groundswell.demo.writers import insist
from groundswell.errors import AccountNotFound, InsufficientFunds, SeatTaken, Unavailable
from groundswell.model import Level
from groundswell.results import AccountState, Count
from groundswell.session import Groundswell
from groundswell.store import Moved

BUYERS: Final = 2  # per level
THINK_S: Final = 0.01  # between two purchases of a session
PRICE: Final = 5
SEATS: Final = 4  # of one screening
LATE: Final = 3  # buyers who find a screening full before the next one is opened

_screenings = itertools.count(2_000_000)


class Shop:
    """What the sessions of one level spend from and buy, all at once."""

    def __init__(self, level: Level) -> None:
        self._id = f"{level}-{uuid.uuid4().hex[:8]}"  # a store may have seen demonstrations before
        self._numbers = itertools.count()
        self.turn = asyncio.Lock()
        self.wallet = f"wallet-{self._id}"  # may be overdrawn
        self.purse = f"purse-{self._id}"  # may not
        self.bank = f"bank-{self._id}"
        self.double_spent = 0
        self.oversold = 0
        self.guarded = 0  # times that a transfer or a claim let through what it must not
        self.next_screening()

    def next_screening(self) -> None:
        """Open one with all its seats free."""
        self.screening = next(_screenings)
        self.sold = self.late = 0
        self.holders: dict[str, int] = {}

    def number(self) -> int:
        """One that has not been given out."""
        return next(self._numbers)

    def name(self) -> str:
        """The id of a new transfer."""
        return f"{self._id}-{self.number()}"

    async def open(self, gs: Groundswell) -> None:
        """Make the accounts."""
        session = gs.session()
        for account in (self.bank, self.wallet):
            await insist(partial(session.open_account, account, floor=None))
        await insist(partial(session.open_account, self.purse))


class Buyer:
    """One session at one level."""

    def __init__(self, gs: Groundswell, level: Level, shop: Shop, tally: Tally) -> None:
        self._session = gs.session()
        self._level = level
        self._shop = shop
        self._tally = tally

    async def run(self) -> None:
        """Buy until cancelled."""
        while True:
            for story in (self.spend, self.book):
                with contextlib.suppress(Unavailable):  # a refusal lets nothing through
                    await story()
                await asyncio.sleep(THINK_S)

    async def spend(self) -> None:
        """Look at the balance; if there is enough, spend it. And look again."""
        shop = self._shop
        for _ in range(2):
            async with shop.turn:
                shop.double_spent += await self._spend_from(shop.wallet)
        shop.guarded += await self._spend_from(shop.purse)

    async def _spend_from(self, account: str) -> bool:
        """Whether that has overdrawn it."""
        shop = self._shop
        try:
            state: AccountState = await self._tally.timed(
                self._session.account(account, level=self._level)
            )
        except AccountNotFound:
            return False  # the replica has not come so far
        if state.balance < PRICE:
            await self._move(debit=shop.bank, credit=account)
            return False
        try:
            moved = await self._move(debit=account, credit=shop.bank)
        except InsufficientFunds:
            return False  # the transfer knew better than the read
        return moved.debit_balance < 0

    async def _move(self, *, debit: str, credit: str) -> Moved:
        id_ = self._shop.name()
        return await self._session.transfer(id_, debit=debit, credit=credit, amount=PRICE)

    async def book(self) -> None:
        """Look at how many seats are sold; if one is left, sell it. And look again."""
        for _ in range(2):
            async with self._shop.turn:
                await self._sell()
        await self._claim()

    async def _sell(self) -> None:
        shop = self._shop
        count: Count = await self._tally.timed(
            self._session.count("view", shop.screening, level=self._level)
        )
        if count.value < SEATS:
            await self._session.tally("view", shop.screening)
            shop.sold += 1
            shop.oversold += shop.sold > SEATS
        else:
            shop.late += 1
        if shop.late >= LATE:
            shop.next_screening()

    async def _claim(self) -> None:
        shop = self._shop
        me = shop.number()
        seat = f"{shop.screening}-{me % SEATS}"
        with contextlib.suppress(SeatTaken):
            await self._session.add("seat", seat, me)
            shop.guarded += shop.holders.setdefault(seat, me) != me
