"""A node behind HTTP, with the same interface as one in this process."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from groundswell import sse, wire
from groundswell.api import Reply
from groundswell.errors import (
    BadRequest,
    Conflict,
    GroundswellError,
    NodeUnreachable,
    NotFound,
    Unavailable,
    by_code,
)
from groundswell.model import Account, Add, Id, Key, Transfer, Write
from groundswell.store import Changed, Moved, Opened, Outcome, Refused, Stored
from groundswell.transport import Answer, Transport

RECONNECTS: Final = 5  # in a row, of a stream that broke off ..
RECONNECT_S: Final = 0.1  # .. after such a pause, and twice as long each time

T = TypeVar("T")


class HttpApi:
    """Implements `groundswell.api.Api` over a transport."""

    def __init__(self, transport: Transport, key: str | None = None) -> None:
        self._transport = transport
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}

    async def write(
        self, writes: Sequence[Write], *, atomic: bool = False, tokens: str | None = None
    ) -> Reply[list[Outcome]]:
        for write in writes:
            if isinstance(write, Add | Transfer) and not math.isfinite(write.expires_in_s or 0.0):
                # JSON would make null of it, which stands for never.
                raise BadRequest(f"`expires_in_s` must be a number, not {write.expires_in_s}.")
        body = wire.WritesRequest(list(writes), atomic)
        try:
            reply = await self._post(wire.WritesAnswer, "/v1/writes", tokens, body)
        except _Refusal as refusal:
            rest = Refused("not-applied", "Nothing of this atomic batch was applied.")
            outcomes: list[Outcome] = [rest] * len(writes)
            outcomes[refusal.index] = refusal.outcome
            return Reply(outcomes, refusal.token)
        return Reply([_outcome(item) for item in reply.answer.outcomes], reply.token)

    async def count(
        self, kind: str, target: Id, options: wire.ReadOptions, tokens: str | None = None
    ) -> Reply[wire.CountAnswer]:
        return await self._get(wire.CountAnswer, _path("counts", kind, target), tokens, options)

    async def counts(
        self, keys: Sequence[Key], options: wire.ReadOptions, tokens: str | None = None
    ) -> Reply[wire.CountsAnswer]:
        body = wire.KeysRequest(list(keys))
        return await self._post(wire.CountsAnswer, "/v1/counts", tokens, body, options)

    async def rating(
        self, kind: str, target: Id, options: wire.ReadOptions, tokens: str | None = None
    ) -> Reply[wire.RatingAnswer]:
        return await self._get(wire.RatingAnswer, _path("ratings", kind, target), tokens, options)

    async def page(
        self,
        keys: Sequence[Key],
        options: wire.ReadOptions,
        tokens: str | None = None,
        *,
        viewer: Id | None = None,
        newest: int = 3,
    ) -> Reply[wire.PageAnswer]:
        body = wire.PageRequest(list(keys), viewer, newest)
        return await self._post(wire.PageAnswer, "/v1/page", tokens, body, options)

    async def edge(
        self,
        kind: str,
        target: Id,
        source: Id,
        options: wire.ReadOptions,
        tokens: str | None = None,
    ) -> Reply[wire.EdgeAnswer]:
        return await self._get(
            wire.EdgeAnswer, _path("edges", kind, target, source), tokens, options
        )

    async def edges(
        self,
        kind: str,
        *,
        target: Id | None = None,
        source: Id | None = None,
        query: wire.ListQuery,
        tokens: str | None = None,
    ) -> Reply[wire.EdgesAnswer]:
        if (target is None) is (source is None):
            raise BadRequest("Name the target or the source of the list, and not both.")
        if target is not None:
            return await self._get(wire.EdgesAnswer, _path("edges", kind, target), tokens, query)
        inverse = wire.InverseQuery(source=str(source), **msgspec.structs.asdict(query))
        return await self._get(wire.EdgesAnswer, _path("edges", kind), tokens, inverse)

    async def object(
        self, id_: str, options: wire.ReadOptions, tokens: str | None = None
    ) -> Reply[wire.ObjectAnswer]:
        return await self._get(wire.ObjectAnswer, _path("objects", id_), tokens, options)

    async def account(
        self, id_: str, options: wire.ReadOptions, tokens: str | None = None
    ) -> Reply[wire.AccountAnswer]:
        return await self._get(wire.AccountAnswer, _path("accounts", id_), tokens, options)

    async def movement(self, id_: str, tokens: str | None = None) -> Reply[wire.MovementAnswer]:
        return await self._get(wire.MovementAnswer, _path("transfers", id_), tokens)

    async def movements(
        self, account: str, query: wire.HistoryQuery, tokens: str | None = None
    ) -> Reply[wire.MovementsAnswer]:
        return await self._get(
            wire.MovementsAnswer, _path("accounts", account) + "/transfers", tokens, query
        )

    async def trending(
        self, kind: str, query: wire.TrendingQuery, tokens: str | None = None
    ) -> Reply[wire.TrendingAnswer]:
        return await self._get(wire.TrendingAnswer, _path("trending", kind), tokens, query)

    async def stream(self, keys: Sequence[Key]) -> AsyncGenerator[wire.StreamEvent, None]:
        texts = [f"{kind}:{target}" for kind, target in keys]
        path = "/v1/stream?" + urlencode([("key", text) for text in texts])
        last, broken = "", 0
        while True:
            failed: Unavailable | None = None
            try:
                async with contextlib.aclosing(self._events(path, last)) as events:
                    async for message in events:
                        broken = 0
                        if message is not None:
                            yield _decoded(message.data, wire.StreamEvent)
                            last = message.id
            except Unavailable as error:
                if not last:
                    raise  # it never began
                failed = error
            if broken == RECONNECTS:
                why = failed.detail if failed else "it ended at once."
                raise NodeUnreachable(
                    f"The stream broke off, and could not be resumed: {why}"
                ) from failed
            await asyncio.sleep(RECONNECT_S * 2**broken)
            broken += 1

    async def _events(self, path: str, last: str) -> AsyncGenerator[sse.Message | None, None]:
        """The events of one connection, None for every sign of life; what it is refused with."""
        headers = self._headers | {"Accept": sse.CONTENT_TYPE}
        if last:
            headers[sse.LAST_EVENT_ID] = last
        parser = sse.Parser()
        async with contextlib.aclosing(self._transport.stream(path, headers)) as parts:
            async for part in parts:
                if isinstance(part, Answer):
                    raise _error(part)
                yield None
                try:
                    messages = list(parser.feed(part))
                except ValueError as error:
                    raise GroundswellError(f"The node's answer cannot be read: {error}.") from error
                for message in messages:
                    yield message

    async def status(self) -> wire.StatusAnswer:
        return (await self._get(wire.StatusAnswer, "/v1/status", None)).answer

    async def _get(
        self, shape: type[T], path: str, tokens: str | None, query: msgspec.Struct | None = None
    ) -> Reply[T]:
        return await self._call("GET", path + _query(query), shape, tokens)

    async def _post(
        self,
        shape: type[T],
        path: str,
        tokens: str | None,
        body: msgspec.Struct,
        query: msgspec.Struct | None = None,
    ) -> Reply[T]:
        try:
            content = msgspec.json.encode(body)
        except (OverflowError, UnicodeEncodeError) as error:
            raise BadRequest(f"This has no form in JSON: {error}.") from error
        return await self._call("POST", path + _query(query), shape, tokens, content)

    async def _call(
        self, method: str, path: str, shape: type[T], tokens: str | None, body: bytes | None = None
    ) -> Reply[T]:
        headers = dict(self._headers)
        if tokens:
            headers[wire.SESSION_HEADER] = tokens
        if body is not None:
            headers["Content-Type"] = "application/json"
        answer = await self._transport.send(method, path, headers, body)
        if answer.status != 200:
            raise _error(answer)
        return Reply(_decoded(answer.body, shape), answer.token)


class _Refusal(Exception):
    """An atomic batch was refused because of one of its writes."""

    def __init__(self, index: int, outcome: Refused, token: str | None) -> None:
        super().__init__(outcome.detail)
        self.index = index
        self.outcome = outcome
        self.token = token


def _decoded(body: bytes, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.DecodeError as error:
        raise GroundswellError(f"The node's answer cannot be read: {error}.") from error


def _error(answer: Answer) -> Exception:
    try:
        problem = msgspec.json.decode(answer.body, type=wire.Problem)
    except msgspec.DecodeError:
        return NodeUnreachable(f"Something that is no node answered with status {answer.status}.")
    error = by_code(problem.code, problem.detail, version=problem.version)
    if problem.index is not None and isinstance(error, Conflict | NotFound):
        refused = Refused(problem.code, problem.detail, problem.version)
        return _Refusal(problem.index, refused, answer.token)
    error.token, error.index = answer.token, problem.index
    if isinstance(error, NotFound):
        error.read = problem.read
    return error


def _outcome(item: wire.OutcomeItem) -> Outcome:
    if item.code is not None:
        return Refused(item.code, item.detail or "", item.version)
    if item.transfer is not None:
        return _moved(item.transfer, changed=item.changed)
    if item.account is not None:
        return Opened(_account(item.account), item.changed)
    return Changed(item.changed) if item.version is None else Stored(item.version, item.changed)


def _moved(answer: wire.TransferAnswer, *, changed: bool) -> Moved:
    return Moved(
        answer.id,
        answer.state,
        answer.amount,
        answer.debit.id,
        answer.debit.balance,
        answer.credit.id,
        answer.credit.balance,
        answer.expires_ms,
        changed,
    )


def _account(item: wire.AccountItem) -> Account:
    return Account(
        id=item.id,
        balance=item.balance,
        held=item.held,
        expected=item.expected,
        floor=item.floor,
        ceiling=item.ceiling,
    )


def _path(noun: str, *ids: Id) -> str:
    # What is no UTF-8 is for the node to refuse.
    segments = [quote(str(id_), safe="", errors="surrogatepass") for id_ in ids]
    return "/".join(["/v1", noun, *segments])


def _query(query: msgspec.Struct | None) -> str:
    if query is None:
        return ""
    given: dict[str, Any] = {
        field.encode_name: value
        for field in msgspec.structs.fields(query)
        if (value := getattr(query, field.name)) is not None and value != field.default
    }
    return "?" + urlencode(given) if given else ""
