"""A streaming standby: replays the log as it is durable on the primary, some time later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

from groundswell.errors import StoreUnavailable
from groundswell.model import Edge, Id, Key
from groundswell.revision import Revision
from groundswell.store import Counters, Documents, Feed, Page, Window
from groundswell.verify.simulation.image import Image
from groundswell.verify.simulation.primary import FIRST_XID, Primary
from groundswell.verify.simulation.store import SimulatedStore, Way, counters, documents

T = TypeVar("T")


class Standby:
    """The server. Its order of visibility is that of the log, not that of the primary."""

    def __init__(self, primary: Primary, rng: Random) -> None:
        self.image = Image(primary.kinds, primary.epoch, Revision.upto(FIRST_XID - 1))
        self.lag_s = 0.0
        self.paused = False
        self.up = True
        self._rng = rng
        self._primary = primary
        self._replayed = 0
        primary.flushed.append(self.hear)

    def hear(self) -> None:
        """There is more to replay; that takes a while."""
        asyncio.get_running_loop().call_later(
            self._rng.expovariate(1 / self.lag_s) if self.lag_s else 0.0,
            self.replay,
            self._primary.durable,
        )

    def replay(self, until: int) -> None:
        """Show the log up to there."""
        if self.paused:
            return
        until = min(until, self._primary.durable)
        for record in self._primary.log[self._replayed : until]:
            self.image.apply(record)
        self._replayed = max(self._replayed, until)

    def begin_anew(self) -> None:
        """Follow a new primary, whose log may be shorter."""
        self.image = Image(self._primary.kinds, 1, Revision.upto(FIRST_XID - 1))
        self._replayed = 0
        self.replay(self._primary.durable)

    def go_on(self) -> None:
        """After a pause."""
        self.paused = False
        self.hear()


class SimulatedStandby:
    """A node's way to a standby, and around it; as `stores.postgres.standby`."""

    def __init__(self, server: Standby, store: SimulatedStore, way: Way) -> None:
        self._server = server
        self._store = store
        self._way = way

    async def close(self) -> None:
        """There is nothing to let go of."""

    async def _ask(self, verb: str, answer: Callable[[Image, Revision], T]) -> T:
        """What it shows, and the newest rollup's revision: all that a standby knows of where it stands."""
        await self._way.there()
        if not self._server.up:
            raise StoreUnavailable("The standby is down.")
        image = self._server.image
        found = answer(image, image.latest.rollup.revision)
        await self._way.back(verb)
        return found

    async def feed(self, after: int, changes_max: int) -> Feed:  # noqa: D102
        async def head() -> Revision | None:
            try:
                return await self._store.standing()
            except StoreUnavailable:
                return None

        def answer(image: Image, at: Revision) -> Feed:
            rollups, behind = image.after(after, changes_max)
            return Feed(image.latest.epoch, at, image.latest.rollup, rollups, behind)

        asked = asyncio.ensure_future(head())
        try:
            feed = await self._ask("feed", answer)
        except StoreUnavailable:
            return await self._store.feed(after, changes_max)
        finally:
            now = await asked
        behind = feed.behind and (after < feed.latest.number or feed.epoch != self._store.epoch)
        return Feed(feed.epoch, now, feed.latest, feed.rollups, behind)

    async def counters(self, keys: Sequence[Key]) -> Counters:  # noqa: D102
        try:
            return await self._ask(
                "counters", lambda image, _: counters(image, image.latest.epoch, keys)
            )
        except StoreUnavailable:
            return await self._store.counters(keys)

    async def documents(self, ids: Sequence[str]) -> Documents:  # noqa: D102
        try:
            return await self._ask(
                "documents", lambda image, at: documents(image, image.latest.epoch, ids, at)
            )
        except StoreUnavailable:
            return await self._store.documents(ids)

    async def edge(self, kind: str, target: Id, source: Id) -> tuple[Edge | None, Revision]:  # noqa: D102
        return await self._ask("edge", lambda image, at: (image.edge((kind, target, source)), at))

    async def edges(self, kind: str, target: Id, window: Window) -> Page:  # noqa: D102
        return await self._ask(
            "edges",
            lambda image, at: image.page(
                lambda key: key[:2] == (kind, target), window, at, inverse=False
            ),
        )

    async def inverse(self, kind: str, source: Id, window: Window) -> Page:  # noqa: D102
        return await self._ask(
            "inverse",
            lambda image, at: image.page(
                lambda key: (key[0], key[2]) == (kind, source), window, at, inverse=True
            ),
        )
