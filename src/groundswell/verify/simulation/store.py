"""The store as each node has it: the way to the primary and back, and what can go wrong on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from typing import Any, Final, TypeVar

from groundswell.errors import StoreUnavailable
from groundswell.model import (
    Account,
    Counter,
    Edge,
    Id,
    Key,
    Movement,
    Settle,
    SettleAccount,
    SettleClaim,
)
from groundswell.revision import Revision
from groundswell.store import (
    GROUP_MAX,
    Batch,
    Before,
    Committed,
    Counters,
    Documents,
    Feed,
    Head,
    Items,
    Movements,
    Page,
    Rolled,
    Sight,
    Window,
    movements,
)
from groundswell.stores.ledger import shown
from groundswell.verify.simulation.image import ABSENT, Image
from groundswell.verify.simulation.primary import Primary

T = TypeVar("T")

SLOW_SHARE: Final = 0.05  # of the ways
SLOWER: Final = 10


class Way:
    """From one node to a server: how long it takes, and how often it fails."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self.mean_s = 0.0  # each way
        self.late: dict[str, float] = {}  # by verb, of the way back, on top
        self.lost_share = 0.0  # of the calls, half of them on the way back
        self.clear: asyncio.Event | None = None  # while it is stalled: set when that is over

    async def there(self) -> None:
        """Raise StoreUnavailable where the call is lost before anything has happened."""
        if self.clear is not None:
            await self.clear.wait()
        await self._pause(self.mean_s)
        if self.lost_share and self._rng.random() < self.lost_share / 2:
            raise StoreUnavailable("The connection broke; nothing was changed.")

    async def back(self, verb: str) -> None:
        """Raise StoreUnavailable where the answer is lost."""
        if self.clear is not None:
            await self.clear.wait()
        await self._pause(self.mean_s + self.late.get(verb, 0.0))
        if self.lost_share and self._rng.random() < self.lost_share / 2:
            raise StoreUnavailable("The connection broke; nobody knows what happened.")

    async def _pause(self, mean_s: float) -> None:
        if mean_s:
            if self._rng.random() < SLOW_SHARE:
                mean_s *= SLOWER
            await asyncio.sleep(self._rng.expovariate(1 / mean_s))


class SimulatedStore:
    """See `groundswell.store.Store` for what the methods promise."""

    label = "simulated"
    group_max = GROUP_MAX
    commits_max = 1

    def __init__(self, primary: Primary, way: Way, *, current_max: int = 10_000) -> None:
        self.primary = primary
        self.way = way
        self._current_max = current_max  # events that `current` looks through
        self._floor_ms = 0
        self._closed = False

    @property
    def identity(self) -> str:
        """Of the primary."""
        return self.primary.identity

    @property
    def epoch(self) -> int:
        """Of the primary."""
        return self.primary.epoch

    async def close(self) -> None:
        """Refuse everything from now on."""
        self._closed = True

    # --- the way of one call --------------------------------------------------------------------

    async def _ask(self, verb: str, answer: Callable[[Image], T]) -> T:
        """What one statement finds: `answer` runs at one moment between its way there and back."""
        starts = await self._begin()
        found = answer(self.primary.image)
        await self._end(verb, starts)
        return found

    async def _work(self, verb: str, work: Coroutine[Any, Any, T]) -> T:
        """The result of what runs at the server, whatever becomes of whoever asked for it."""
        try:
            starts = await self._begin()
        except BaseException:
            work.close()
            raise
        running = self.primary.spawn(work)
        try:
            await asyncio.wait((running,))
        except asyncio.CancelledError:
            self.primary.abandoned(running)
            raise
        if running.cancelled():
            raise StoreUnavailable("The server went away; nobody knows what happened.")
        found: T = running.result()
        await self._end(verb, starts)
        return found

    async def _begin(self) -> int:
        self._check_open()
        await self.way.there()
        self._check_open()
        return self.primary.starts

    async def _end(self, verb: str, starts: int) -> None:
        await self.way.back(verb)
        if not self.primary.up or self.primary.starts != starts:
            raise StoreUnavailable("The server went away; nobody knows what happened.")

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("The store has been closed; nothing was changed.")
        if not self.primary.up:
            raise StoreUnavailable("The server is down; nothing was changed.")

    # --- writes ---------------------------------------------------------------------------------

    async def commit(self, batches: Sequence[Batch]) -> list[Committed]:  # noqa: D102
        if not any(batch.writes for batch in batches):
            seen = await self.standing()
            return [Committed((), None, slot, (), seen) for slot in range(len(batches))]
        work = self.primary.commit(batches, self._floor_ms)
        committed, at_ms = await self._work("commit", work)
        self._floor_ms = max(self._floor_ms, at_ms)
        return committed

    async def rollup(self, events_max: int) -> Rolled | None:  # noqa: D102
        return await self._work("rollup", self.primary.roll_up(events_max))

    # --- reads ----------------------------------------------------------------------------------

    async def standing(self) -> Revision:
        """What is committed now, or a state that shows the same."""
        return await self._ask("standing", lambda _: self.primary.standing())

    async def head(self) -> Head:  # noqa: D102
        return await self._ask(
            "head",
            lambda image: Head(self.epoch, self.primary.snapshot(), image.latest.rollup.number),
        )

    async def backlog(self) -> int:  # noqa: D102
        return await self._ask("backlog", _waiting)

    async def feed(self, after: int, changes_max: int) -> Feed:  # noqa: D102
        def answer(image: Image) -> Feed:
            rollups, behind = image.after(after, changes_max)
            return Feed(self.epoch, self.primary.standing(), image.latest.rollup, rollups, behind)

        return await self._ask("feed", answer)

    async def counters(self, keys: Sequence[Key]) -> Counters:  # noqa: D102
        return await self._ask("counters", lambda image: counters(image, self.epoch, keys))

    async def current(self, keys: Sequence[Key]) -> tuple[tuple[Counter, ...], Revision] | None:  # noqa: D102
        def answer(image: Image) -> tuple[tuple[Counter, ...], Revision] | None:
            if _waiting(image) > self._current_max:
                return None
            return image.current(keys), self.primary.standing()

        return await self._ask("current", answer)

    async def items(self, sights: Sequence[Sight]) -> Items | None:  # noqa: D102
        def answer(image: Image) -> Items | None:
            if _waiting(image) > self._current_max:
                return None
            rows = tuple(map(image.item, sights))
            return Items(rows, self.epoch, image.latest.rollup.number, self.primary.standing())

        return await self._ask("items", answer)

    async def documents(self, ids: Sequence[str]) -> Documents:  # noqa: D102
        return await self._ask(
            "documents", lambda image: documents(image, self.epoch, ids, self.primary.standing())
        )

    async def edge(self, kind: str, target: Id, source: Id) -> tuple[Edge | None, Revision]:  # noqa: D102
        return await self._ask(
            "edge", lambda image: (image.edge((kind, target, source)), self.primary.standing())
        )

    async def edges(self, kind: str, target: Id, window: Window) -> Page:  # noqa: D102
        def answer(image: Image) -> Page:
            at = self.primary.standing()
            return image.page(lambda key: key[:2] == (kind, target), window, at, inverse=False)

        return await self._ask("edges", answer)

    async def inverse(self, kind: str, source: Id, window: Window) -> Page:  # noqa: D102
        def answer(image: Image) -> Page:
            at = self.primary.standing()
            mine = (kind, source)
            return image.page(lambda key: (key[0], key[2]) == mine, window, at, inverse=True)

        return await self._ask("inverse", answer)

    async def account(self, id_: str) -> tuple[Account | None, Revision]:  # noqa: D102
        def answer(image: Image) -> tuple[Account | None, Revision]:
            found = image.account(id_, self.primary.moment(self._floor_ms))
            return found, self.primary.standing()

        return await self._ask("account", answer)

    async def movement(self, id_: str) -> tuple[Movement | None, Revision]:  # noqa: D102
        def answer(image: Image) -> tuple[Movement | None, Revision]:
            found, now_ms = image.movements.get(id_), self.primary.moment(self._floor_ms)
            return None if found is None else shown(found, now_ms), self.primary.standing()

        return await self._ask("movement", answer)

    async def movements(self, account: str, limit: int, before: Before | None = None) -> Movements:  # noqa: D102
        def answer(image: Image) -> Movements:
            now_ms = self.primary.moment(self._floor_ms)
            found = [m for m in image.movements.values() if account in (m.debit, m.credit)]
            found.sort(key=lambda m: m.place, reverse=True)
            if before is not None:
                found = [m for m in found if m.place < before.place]
            listed = [shown(m, now_ms) for m in found[: limit + 1]]
            return movements(listed, limit, self.primary.standing())

        return await self._ask("movements", answer)

    async def expired(self, at_most: int) -> list[Settle]:  # noqa: D102
        def answer(image: Image) -> list[Settle]:
            now_ms = self.primary.moment(self._floor_ms)
            names: dict[str, None] = {}
            for hold in image.over(now_ms):
                names |= dict.fromkeys([hold.debit] * hold.debit_open)
                names |= dict.fromkeys([hold.credit] * hold.credit_open)
            found: list[Settle] = [SettleAccount(name) for name in names]
            for (kind, target, _), row in image.edges.items():
                if row.expires_ms is not None and row.expires_ms <= now_ms:
                    found.append(SettleClaim(kind, target))
            return found[:at_most]

        return await self._ask("expired", answer)

    async def recount(self, kind: str, target: Id) -> Counter:  # noqa: D102
        return await self._ask("recount", lambda image: image.recount(kind, target))


def _waiting(image: Image) -> int:
    return sum(one.events for one in image.queue.values())


def counters(image: Image, epoch: int, keys: Sequence[Key]) -> Counters:
    """Counters as of the newest rollup."""
    rows = tuple(image.counters.get(key, ABSENT) for key in keys)
    latest = image.latest.rollup
    return Counters(rows, epoch, latest.number, latest.revision)


def documents(image: Image, epoch: int, ids: Sequence[str], at: Revision) -> Documents:
    """Objects as they are now, in the state `at`."""
    return Documents(tuple(map(image.object, ids)), epoch, image.latest.rollup.number, at)
