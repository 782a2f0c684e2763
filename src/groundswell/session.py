"""Sessions: the verbs of the Python interface, the same in process and over HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing
from typing import Any, Final, Literal, TypedDict, TypeVar, Unpack, get_args

import msgspec

from groundswell import results
from groundswell.api import Api, Reply
from groundswell.errors import BadRequest, GroundswellError, by_code
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
from groundswell.results import (
    AccountState,
    Count,
    EdgePage,
    Item,
    Object,
    Rating,
    TransferPage,
    Trending,
)
from groundswell.revision import SessionToken
from groundswell.store import Moved, Outcome, Refused, Stored
from groundswell.wire import (
    HistoryQuery,
    ListQuery,
    MovementItem,
    ReadOptions,
    StatusAnswer,
    TrendingQuery,
)

Fallback = Literal["primary", "none"]
T = TypeVar("T")

_FALLBACKS: Final = get_args(Fallback)


class ReadHow(TypedDict, total=False):
    """How a read is to be served. BadRequest for a level or a number that does not fit.

    - `level`: a `Level` or its name; left out or None: that of the kind.
    - `max_age_ms`: only a replica known to be at most that old may answer.
    - `wait_ms`: how long to wait for a replica that qualifies, up to 60,000; left out or None: as the
      node is configured.
    - `fallback`: where to go when none qualified in time: `"primary"`, or `"none"` to raise ReplicaLate.
    """

    level: Level | str | None
    max_age_ms: int | None
    wait_ms: int | None
    fallback: Fallback


class _Watching:
    """What is asked of a node as it goes on: always at `eventual`, so that no session is needed."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def trending(self, kind: str, *, window_s: int = 300, limit: int = 10) -> Trending:
        """The targets that grew most in the last `window_s` seconds (1 to 3600), up to 100 of them."""
        query = TrendingQuery(window_s=window_s, limit=limit)
        return results.trending(kind, (await self._api.trending(kind, query)).answer)

    async def stream(self, keys: Sequence[Key]) -> AsyncGenerator[list[Count], None]:
        """Up to 100 counts now, then those that change, as they change: at `eventual`.

        Never goes backwards. Whoever is slow to ask for more gets the newest states and not those in
        between. In process it ends with the node. Over HTTP it resumes by itself when the connection
        breaks, a few times, and then raises NodeUnreachable. End it early with
        `contextlib.aclosing`. Raises Overloaded where the node has too many.
        """
        async with aclosing(self._api.stream(keys)) as events:
            async for event in events:
                yield results.told(event)


class Session(_Watching):
    """One user's view: carries the token of all it has written and seen.

    Not for use by several tasks at once: a session is one line of thought. Errors are those of
    `groundswell.errors`; a refused write raises (`SeatTaken`, `VersionConflict`, `InsufficientFunds`, ..).
    """

    def __init__(self, api: Api, token: str | None = None) -> None:
        super().__init__(api)
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
        for index, outcome in enumerate(outcomes if atomic else ()):
            if isinstance(outcome, Refused) and outcome.code != "not-applied":
                raise self._refusal(outcome, index)
        return outcomes

    async def _changed(self, write: Write) -> bool:
        outcome = await self._one(write)
        assert not isinstance(outcome, Refused)
        return outcome.changed

    async def _one(self, write: Write) -> Outcome:
        outcome = (await self._call(self._api.write((write,), atomic=True, tokens=self.token)))[0]
        if isinstance(outcome, Refused):
            raise self._refusal(outcome)
        return outcome

    def _refusal(self, outcome: Refused, index: int | None = None) -> GroundswellError:
        error = by_code(outcome.code, outcome.detail, version=outcome.version)
        error.token, error.index = self.token, index
        return error

    # --- reads ----------------------------------------------------------------------------------

    async def count(self, kind: str, target: Id, **how: Unpack[ReadHow]) -> Count:
        """One count."""
        answer = await self._call(self._api.count(kind, target, _options(**how), self.token))
        return results.count(kind, target, answer, answer.read)

    async def counts(self, keys: Sequence[Key], **how: Unpack[ReadHow]) -> list[Count]:
        """Up to 1,000 counts, all at one revision."""
        answer = await self._call(self._api.counts(keys, _options(**how), self.token))
        return [results.count(item.kind, item.target, item, answer.read) for item in answer.counts]

    async def rating(self, kind: str, target: Id, **how: Unpack[ReadHow]) -> Rating:
        """Count, sum, average and histogram of a kind whose edges carry a value, in one state."""
        call = self._api.rating(kind, target, _options(**how), self.token)
        return results.rating(kind, target, await self._call(call))

    async def page(
        self,
        keys: Sequence[Key],
        *,
        viewer: Id | None = None,
        newest: int = 3,
        **how: Unpack[ReadHow],
    ) -> list[Item]:
        """Up to 200 counts, each with up to 50 newest edges and whether `viewer` has one: one state."""
        options = _options(**how)
        call = self._api.page(keys, options, self.token, viewer=viewer, newest=newest)
        answer = await self._call(call)
        return [results.item(item, answer.read) for item in answer.items]

    async def edge(
        self, kind: str, target: Id, source: Id, *, level: Level | str | None = None
    ) -> Edge:
        """One edge, or EdgeNotFound."""
        options = _options(level=level)
        found = await self._call(self._api.edge(kind, target, source, options, self.token))
        return results.edge(kind, found)

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
        call = self._api.edges(kind, target=target, source=source, query=query, tokens=self.token)
        return results.edge_page(kind, await self._call(call))

    async def get(self, id: str, **how: Unpack[ReadHow]) -> Object:
        """One object, or ObjectNotFound; causal if nothing else is asked for."""
        return results.object_(await self._call(self._api.object(id, _options(**how), self.token)))

    async def account(self, id: str, **how: Unpack[ReadHow]) -> AccountState:
        """One account, or AccountNotFound; linearizable if nothing else is asked for."""
        call = self._api.account(id, _options(**how), self.token)
        return results.account_state(await self._call(call))

    async def find_transfer(self, id: str) -> MovementItem:
        """A transfer as it stands, or TransferNotFound."""
        return await self._call(self._api.movement(id, self.token))

    async def transfers(
        self, account: str, *, limit: int = 50, cursor: str | None = None
    ) -> TransferPage:
        """The transfers from and to an account, newest first."""
        query = HistoryQuery(limit=limit, cursor=cursor)
        call = self._api.movements(account, query, self.token)
        return results.transfer_page(await self._call(call))

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


class Groundswell(_Watching):
    """A node, in this process or behind HTTP."""

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
        raise BadRequest(f"Unknown level {level!r}; there are: {', '.join(Level)}.") from None


def _options(
    *,
    level: Level | str | None = None,
    max_age_ms: int | None = None,
    wait_ms: int | None = None,
    fallback: Fallback = "primary",
) -> ReadOptions:
    if fallback not in _FALLBACKS:
        raise BadRequest(f"Unknown fallback {fallback!r}; there are: {', '.join(_FALLBACKS)}.")
    return ReadOptions(
        consistency=_level(level), max_age_ms=max_age_ms, wait_ms=wait_ms, fallback=fallback
    )
