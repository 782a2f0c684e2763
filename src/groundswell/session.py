"""Sessions: the verbs of the Python interface, the same in process and over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, Literal, TypeVar

import msgspec

from groundswell.api import Api, Reply
from groundswell.errors import GroundswellError, by_code
from groundswell.model import Add, Delete, Edge, Id, Key, Level, Put, Remove, Tally, Write
from groundswell.revision import SessionToken
from groundswell.store import Outcome, Refused, Stored
from groundswell.wire import (
    CountAnswer,
    CountItem,
    ListQuery,
    PageItem,
    ReadInfo,
    ReadOptions,
    StatusAnswer,
)

Fallback = Literal["primary", "none"]
T = TypeVar("T")


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """A count, and how it was read."""

    kind: str
    target: Id
    value: int
    sum: int | None  # of the edges' values, for kinds that have them
    pending: int  # how much of it is the session's own writes that the replica had not seen
    level: Level  # the level that was met
    served_by: str
    age_ms: float | None  # everything acknowledged longer ago is in it; None: not known


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One (kind, target) of a page, and how it was read."""

    kind: str
    target: Id
    value: int
    sum: int | None  # of the edges' values, for kinds that have them
    viewer: bool | None  # whether the viewer's edge exists; None: nobody asked, or it is a tally
    newest: list[Edge]  # newest first
    level: Level
    served_by: str
    age_ms: float | None


class Object(msgspec.Struct, frozen=True, kw_only=True):
    """An object, and how it was read."""

    id: str
    type: str
    version: int
    data: dict[str, Any]
    level: Level
    served_by: str
    age_ms: float | None


class EdgePage(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a list, newest first."""

    edges: list[Edge]
    next: str | None  # cursor to the older ones; None at the end
    prev: str | None  # cursor to the newer ones, also those still to come


class Session:
    """One user's view: carries the token of all it has written and seen.

    Not for use by several tasks at once: a session is one line of thought. Errors are those of
    `groundswell.errors`; a refused write raises (`SeatTaken`, `VersionConflict`).
    """

    def __init__(self, api: Api, token: str | None = None) -> None:
        self._api = api
        #: The session token; hand it to another session with `observe`, or keep it between requests.
        self.token = token

    def observe(self, token: str | None) -> None:
        """Let this session know what another one has written and seen (for causal reads)."""
        if token is not None:
            seen = SessionToken.decode(token)
            mine = seen if self.token is None else SessionToken.decode(self.token).merge(seen)
            self.token = mine.encode()

    # --- writes ---------------------------------------------------------------------------------

    async def add(
        self,
        kind: str,
        target: Id,
        source: Id,
        *,
        value: int | None = None,
        data: dict[str, Any] | None = None,
    ) -> bool:
        """Let the edge exist, with this value and data; whether that changed anything."""
        return await self._changed(Add(kind, target, source, value, _raw(data)))

    async def remove(self, kind: str, target: Id, source: Id) -> bool:
        """Let the edge not exist; whether that changed anything."""
        return await self._changed(Remove(kind, target, source))

    async def tally(self, kind: str, target: Id, *, by: int = 1, id: str | None = None) -> bool:
        """Count an event of a kind without edges; False if this `id` has counted already."""
        return await self._changed(Tally(kind, target, by, id))

    async def put(
        self, id: str, type: str, data: dict[str, Any], *, if_version: int | None = None
    ) -> int:
        """Store an object; its version. With `if_version` only over that one (0: only if new)."""
        outcome = await self._one(Put(id, type, msgspec.Raw(msgspec.json.encode(data)), if_version))
        assert isinstance(outcome, Stored)
        return outcome.version

    async def delete(self, id: str, *, if_version: int | None = None) -> bool:
        """Let the object not exist; whether that changed anything."""
        return await self._changed(Delete(id, if_version))

    async def write(self, writes: Sequence[Write], *, atomic: bool = False) -> list[Outcome]:
        """Up to 10,000 writes, each with its outcome; with `atomic` all of them, or the error of one."""
        outcomes = await self._call(self._api.write(writes, atomic=atomic, tokens=self.token))
        for outcome in outcomes if atomic else ():
            if isinstance(outcome, Refused) and outcome.code != "not-applied":
                raise by_code(outcome.code, outcome.detail, version=outcome.version)
        return outcomes

    async def _changed(self, write: Write) -> bool:
        outcome = await self._one(write)
        assert not isinstance(outcome, Refused)
        return outcome.changed

    async def _one(self, write: Write) -> Outcome:
        outcome = (await self._call(self._api.write((write,), atomic=True, tokens=self.token)))[0]
        if isinstance(outcome, Refused):
            raise by_code(outcome.code, outcome.detail, version=outcome.version)
        return outcome

    # --- reads ----------------------------------------------------------------------------------

    async def count(
        self,
        kind: str,
        target: Id,
        *,
        level: Level | str | None = None,
        max_age_ms: int | None = None,
        wait_ms: int | None = None,
        fallback: Fallback = "primary",
    ) -> Count:
        """One count."""
        options = _options(level, max_age_ms, wait_ms, fallback)
        answer = await self._call(self._api.count(kind, target, options, self.token))
        return _count(kind, target, answer, answer.read)

    async def counts(
        self,
        keys: Sequence[Key],
        *,
        level: Level | str | None = None,
        max_age_ms: int | None = None,
        wait_ms: int | None = None,
        fallback: Fallback = "primary",
    ) -> list[Count]:
        """Up to 1,000 counts, all at one revision."""
        options = _options(level, max_age_ms, wait_ms, fallback)
        answer = await self._call(self._api.counts(keys, options, self.token))
        return [_count(item.kind, item.target, item, answer.read) for item in answer.counts]

    async def page(
        self,
        keys: Sequence[Key],
        *,
        viewer: Id | None = None,
        newest: int = 3,
        level: Level | str | None = None,
        max_age_ms: int | None = None,
        wait_ms: int | None = None,
        fallback: Fallback = "primary",
    ) -> list[Item]:
        """Up to 200 counts, each with up to 50 newest edges and whether `viewer` has one: one state."""
        options = _options(level, max_age_ms, wait_ms, fallback)
        answer = await self._call(
            self._api.page(keys, options, self.token, viewer=viewer, newest=newest)
        )
        return [_item(item, answer.read) for item in answer.items]

    async def edge(
        self, kind: str, target: Id, source: Id, *, level: Level | str | None = None
    ) -> Edge:
        """One edge, or EdgeNotFound."""
        options = _options(level, None, None, "primary")
        found = await self._call(self._api.edge(kind, target, source, options, self.token))
        return Edge(
            kind=kind,
            target=found.target,
            source=found.source,
            created_ms=found.created_ms,
            value=found.value,
            data=found.data,
        )

    async def edges(
        self,
        kind: str,
        *,
        target: Id | None = None,
        source: Id | None = None,
        limit: int = 50,
        cursor: str | None = None,
        since: int | None = None,
        until: int | None = None,
        level: Level | str | None = None,
    ) -> EdgePage:
        """Who did it to `target`, or what `source` did, newest first; times in Unix milliseconds."""
        query = ListQuery(
            consistency=_level(level), limit=limit, cursor=cursor, since=since, until=until
        )
        found = await self._call(
            self._api.edges(kind, target=target, source=source, query=query, tokens=self.token)
        )
        edges = [
            Edge(
                kind=kind,
                target=item.target,
                source=item.source,
                created_ms=item.created_ms,
                value=item.value,
                data=item.data,
            )
            for item in found.edges
        ]
        return EdgePage(edges=edges, next=found.next, prev=found.prev)

    async def get(
        self,
        id: str,
        *,
        level: Level | str | None = None,
        max_age_ms: int | None = None,
        wait_ms: int | None = None,
        fallback: Fallback = "primary",
    ) -> Object:
        """One object, or ObjectNotFound."""
        options = _options(level, max_age_ms, wait_ms, fallback)
        found = await self._call(self._api.object(id, options, self.token))
        return Object(
            id=found.id,
            type=found.type,
            version=found.version,
            data=msgspec.json.decode(found.data),
            level=found.read.consistency,
            served_by=found.read.served_by,
            age_ms=found.read.age_ms,
        )

    async def _call(self, call: Awaitable[Reply[T]]) -> T:
        try:
            reply = await call
        except GroundswellError as error:
            if error.token is not None:
                self.token = error.token
            raise
        if reply.token is not None:
            self.token = reply.token
        return reply.answer


class Groundswell:
    """A node, in this process or behind HTTP."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def session(self, token: str | None = None) -> Session:
        """A new session, or one that goes on from a token."""
        return Session(self._api, token)

    async def status(self) -> StatusAnswer:
        """Where the node, its store and its replicas stand."""
        return await self._api.status()


def _raw(data: dict[str, Any] | None) -> msgspec.Raw | None:
    return None if data is None else msgspec.Raw(msgspec.json.encode(data))


def _level(level: Level | str | None) -> Level | None:
    if level is None:
        return None
    try:
        return Level(level)
    except ValueError:
        raise by_code(
            "bad-request", f"Unknown level {level!r}; there are: {', '.join(Level)}."
        ) from None


def _options(
    level: Level | str | None, max_age_ms: int | None, wait_ms: int | None, fallback: Fallback
) -> ReadOptions:
    return ReadOptions(
        consistency=_level(level), max_age_ms=max_age_ms, wait_ms=wait_ms, fallback=fallback
    )


def _count(kind: str, target: Id, found: CountAnswer | CountItem, read: ReadInfo) -> Count:
    return Count(
        kind=kind,
        target=target,
        value=found.count,
        sum=found.sum,
        pending=found.pending,
        level=read.consistency,
        served_by=read.served_by,
        age_ms=read.age_ms,
    )


def _item(found: PageItem, read: ReadInfo) -> Item:
    return Item(
        kind=found.kind,
        target=found.target,
        value=found.count,
        sum=found.sum,
        viewer=found.viewer,
        newest=[
            Edge(
                kind=found.kind,
                target=found.target,
                source=edge.source,
                created_ms=edge.created_ms,
                value=edge.value,
                data=edge.data,
            )
            for edge in found.newest
        ],
        level=read.consistency,
        served_by=read.served_by,
        age_ms=read.age_ms,
    )
