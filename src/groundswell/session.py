"""Sessions: the verbs of the Python interface, the same in process and over HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing
from typing import Any, Literal, TypeVar

import msgspec

from groundswell.api import Api, Reply
from groundswell.errors import GroundswellError, by_code
from groundswell.model import (
    Add,
    Delete,
    Edge,
    Id,
    Key,
    Level,
    Open,
    Post,
    Put,
    Remove,
    Tally,
    Transfer,
    Void,
    Write,
)
from groundswell.revision import SessionToken
from groundswell.store import Moved, Outcome, Refused, Stored
from groundswell.wire import (
    CountAnswer,
    CountItem,
    HistoryQuery,
    ListQuery,
    MovementItem,
    PageItem,
    ReadInfo,
    ReadOptions,
    StatusAnswer,
    TrendingQuery,
    TrendItem,
)

Fallback = Literal["primary", "none"]
T = TypeVar("T")
Trend = TrendItem


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


class Rating(msgspec.Struct, frozen=True, kw_only=True):
    """What the values of a target's edges come to, and how it was read."""

    kind: str
    target: Id
    count: int
    sum: int
    average: float | None  # None: there are none
    histogram: dict[int, int] | None  # how many edges have each value; None: the kind counts none
    pending: int  # how much of the count is the session's own writes that the replica had not seen
    level: Level
    served_by: str
    age_ms: float | None


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


class AccountState(msgspec.Struct, frozen=True, kw_only=True):
    """An account in minor units, and how it was read."""

    id: str
    balance: int
    held: int  # of it, kept for pending transfers out of here
    expected: int  # kept free below the ceiling for pending transfers to here
    available: int | None  # what may go out; None: there is no floor
    floor: int | None
    ceiling: int | None
    level: Level
    served_by: str
    age_ms: float | None


class TransferPage(msgspec.Struct, frozen=True, kw_only=True):
    """Part of an account's history, newest first."""

    transfers: list[MovementItem]
    next: str | None  # cursor to the older ones; None at the end


class EdgePage(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a list, newest first."""

    edges: list[Edge]
    next: str | None  # cursor to the older ones; None at the end
    prev: str | None  # cursor to the newer ones, also those still to come


class Trending(msgspec.Struct, frozen=True, kw_only=True):
    """What grew most, and what that is based on."""

    kind: str
    trends: list[Trend]  # by growth, then by target
    window_s: int
    since_s: float  # how long the node has watched
    exact: bool  # whether no growth in the window is unknown or was forgotten
    level: Level
    served_by: str
    age_ms: float | None


class Session:
    """One user's view: carries the token of all it has written and seen.

    Not for use by several tasks at once: a session is one line of thought. Errors are those of
    `groundswell.errors`; a refused write raises (`SeatTaken`, `VersionConflict`, `InsufficientFunds`, ..).
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
        expires_in_s: float | None = None,
    ) -> bool:
        """Let the edge exist, with this value and data; whether that changed anything.

        With `expires_in_s` a claim on a target of an exclusive kind, free again after that time.
        """
        return await self._changed(Add(kind, target, source, value, _raw(data), expires_in_s))

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

    async def open_account(
        self, id: str, *, floor: int | None = 0, ceiling: int | None = None
    ) -> bool:
        """Let the account exist, with these bounds; whether that changed anything."""
        return await self._changed(Open(id, floor, ceiling))

    async def transfer(
        self,
        id: str,
        *,
        debit: str,
        credit: str,
        amount: int,
        pending: bool = False,
        expires_in_s: float | None = None,
    ) -> Moved:
        """Move an amount between two accounts, once however often it is called with this id.

        With `pending` it is only held, until `post`, `void`, or the end of `expires_in_s`.
        """
        return await self._moved(Transfer(id, debit, credit, amount, pending, expires_in_s))

    async def post(self, id: str, amount: int | None = None) -> Moved:
        """Let a pending transfer happen, whole or with a smaller amount."""
        return await self._moved(Post(id, amount))

    async def void(self, id: str) -> Moved:
        """Let a pending transfer not happen."""
        return await self._moved(Void(id))

    async def _moved(self, write: Transfer | Post | Void) -> Moved:
        outcome = await self._one(write)
        assert isinstance(outcome, Moved)
        return outcome

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

    async def rating(
        self,
        kind: str,
        target: Id,
        *,
        level: Level | str | None = None,
        max_age_ms: int | None = None,
        wait_ms: int | None = None,
        fallback: Fallback = "primary",
    ) -> Rating:
        """Count, sum, average and histogram of a kind whose edges carry a value, in one state."""
        options = _options(level, max_age_ms, wait_ms, fallback)
        found = await self._call(self._api.rating(kind, target, options, self.token))
        return Rating(
            kind=kind,
            target=target,
            count=found.count,
            sum=found.sum,
            average=found.average,
            histogram=found.histogram,
            pending=found.pending,
            level=found.read.consistency,
            served_by=found.read.served_by,
            age_ms=found.read.age_ms,
        )

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
            expires_ms=found.expires_ms,
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
                expires_ms=item.expires_ms,
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

    async def account(
        self,
        id: str,
        *,
        level: Level | str | None = None,
        max_age_ms: int | None = None,
        wait_ms: int | None = None,
        fallback: Fallback = "primary",
    ) -> AccountState:
        """One account, or AccountNotFound; linearizable if nothing else is asked for."""
        options = _options(level, max_age_ms, wait_ms, fallback)
        found = await self._call(self._api.account(id, options, self.token))
        return AccountState(
            id=found.id,
            balance=found.balance,
            held=found.held,
            expected=found.expected,
            available=found.available,
            floor=found.floor,
            ceiling=found.ceiling,
            level=found.read.consistency,
            served_by=found.read.served_by,
            age_ms=found.read.age_ms,
        )

    async def find_transfer(self, id: str) -> MovementItem:
        """A transfer as it stands, or TransferNotFound."""
        return await self._call(self._api.movement(id, self.token))

    async def transfers(
        self, account: str, *, limit: int = 50, cursor: str | None = None
    ) -> TransferPage:
        """The transfers from and to an account, newest first."""
        query = HistoryQuery(limit=limit, cursor=cursor)
        found = await self._call(self._api.movements(account, query, self.token))
        return TransferPage(transfers=found.transfers, next=found.next)

    async def trending(self, kind: str, *, window_s: int = 300, limit: int = 10) -> Trending:
        """The targets that grew most in the last `window_s` seconds (1 to 3600), up to 100 of them."""
        query = TrendingQuery(window_s=window_s, limit=limit)
        found = await self._call(self._api.trending(kind, query, self.token))
        return Trending(
            kind=kind,
            trends=found.trending,
            window_s=found.window_s,
            since_s=found.since_s,
            exact=found.exact,
            level=found.read.consistency,
            served_by=found.read.served_by,
            age_ms=found.read.age_ms,
        )

    async def stream(self, keys: Sequence[Key]) -> AsyncGenerator[list[Count], None]:
        """Up to 100 counts now, then those that change, as they change: at `eventual`.

        Never goes backwards. Whoever is slow to ask for more gets the newest states and not those in
        between. In process it ends with the node. Over HTTP it resumes by itself when the connection
        breaks, a few times, and then raises NodeUnreachable. End it early with
        `contextlib.aclosing`. Raises Overloaded where the node has too many.
        """
        async with aclosing(self._api.stream(keys)) as events:
            async for event in events:
                yield [
                    Count(
                        kind=item.kind,
                        target=item.target,
                        value=item.count,
                        sum=item.sum,
                        pending=0,
                        level=Level.EVENTUAL,
                        served_by=event.served_by,
                        age_ms=event.age_ms,
                    )
                    for item in event.counts
                ]

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

    async def trending(self, kind: str, *, window_s: int = 300, limit: int = 10) -> Trending:
        """As of a session."""
        return await self.session().trending(kind, window_s=window_s, limit=limit)

    def stream(self, keys: Sequence[Key]) -> AsyncGenerator[list[Count], None]:
        """As of a session."""
        return self.session().stream(keys)

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
