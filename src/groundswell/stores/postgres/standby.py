"""A streaming standby: feeds followers, fills replicas, and shows lists to those who ask for no more.

What a standby shows is a prefix of the primary's log, and a rollup's row travels in that log: whoever
sees it sees all of its revision. So a standby stands at the newest rollup that it shows. A snapshot taken
there says nothing: PostgreSQL leaves the transactions in progress out of it (seen on 15.18 and 18.6), and
its order of visibility may differ from the primary's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Self

from groundswell.errors import StoreUnavailable, StoreUnusable
from groundswell.kinds import Kinds
from groundswell.model import Edge, Id, Key
from groundswell.revision import Revision
from groundswell.store import Counters, Documents, Feed, Page, Window
from groundswell.stores.postgres import read
from groundswell.stores.postgres.edges import Edges
from groundswell.stores.postgres.schema import check
from groundswell.stores.postgres.server import Connection, Server
from groundswell.stores.postgres.store import PostgresStore

log = logging.getLogger(__name__)

DOING = "Reading from the standby failed"


class PostgresStandby:
    """See `groundswell.store.Source` for what the methods promise.

    While the standby is away, the primary takes its place in what concerns replicas.
    """

    def __init__(self, server: Server, kinds: Kinds, store: PostgresStore) -> None:
        self._server = server
        self._kinds = kinds
        self._store = store
        self._edges = Edges(kinds, partial(server.run, DOING), standby=True)

    @classmethod
    async def open(cls, url: str, kinds: Kinds, store: PostgresStore, *, connections: int) -> Self:
        """Connect to a standby of the open `store`. It may be away: then it is used once it is there.

        Raises StoreUnusable for one that belongs to another store, and where `store` is distributed.
        """

        async def verify(connection: Connection) -> None:
            if (await check(connection, kinds)).identity != store.identity:
                raise StoreUnusable("`standby` belongs to another store than `store`.")

        if store.distributed:
            raise StoreUnusable(
                "`standby` does not go with a store that Citus distributes; leave it out."
            )
        server = Server(url, connections=connections, standby=True)
        try:
            await server.open(verify)
        except StoreUnusable:
            await server.close()
            raise
        except StoreUnavailable as error:
            log.warning("%s", error)
        return cls(server, kinds, store)

    async def close(self) -> None:  # noqa: D102
        await self._server.close()

    async def feed(self, after: int, changes_max: int) -> Feed:  # noqa: D102
        async def head() -> Revision | None:
            try:  # how far the standby is behind, only the primary can tell
                return await self._store.standing()
            except StoreUnavailable:
                return None

        asked = asyncio.ensure_future(head())
        try:
            feed = await self._server.run(
                DOING, lambda connection: read.feed(connection, None, after, changes_max)
            )
        except StoreUnavailable:
            return await self._store.feed(after, changes_max)
        finally:
            now = await asked
        # It may be behind what the primary has told meanwhile.
        behind = feed.behind and (after < feed.latest.number or feed.epoch != self._store.epoch)
        return Feed(feed.epoch, now, feed.latest, feed.rollups, behind)

    async def counters(self, keys: Sequence[Key]) -> Counters:  # noqa: D102
        try:
            return await self._server.run(DOING, lambda c: read.counters(c, None, keys))
        except StoreUnavailable:
            return await self._store.counters(keys)

    async def documents(self, ids: Sequence[str]) -> Documents:  # noqa: D102
        try:
            return await self._server.run(DOING, lambda c: read.documents(c, None, ids))
        except StoreUnavailable:
            return await self._store.documents(ids)

    async def edge(self, kind: str, target: Id, source: Id) -> tuple[Edge | None, Revision]:  # noqa: D102
        return await self._edges.edge(kind, target, source)

    async def edges(self, kind: str, target: Id, window: Window) -> Page:  # noqa: D102
        return await self._edges.part(self._kinds[kind], target, window, inverse=False)

    async def inverse(self, kind: str, source: Id, window: Window) -> Page:  # noqa: D102
        return await self._edges.part(self._kinds[kind], source, window, inverse=True)
