"""A node behind HTTP, with the same interface as one in this process."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
from yarl import URL

from groundswell import sse, wire
from groundswell.api import Reply
from groundswell.errors import (
    BadSettings,
    Conflict,
    GroundswellError,
    NodeUnreachable,
    NotFound,
    Unavailable,
    by_code,
)
from groundswell.model import Account, Id, Key, Write
from groundswell.store import Changed, Moved, Opened, Outcome, Refused, Stored

TIMEOUT_S: Final = 30.0
CONNECTIONS_MAX: Final = 256
SILENCE_S: Final = 45.0  # of a stream: three signs of life that did not come
RECONNECTS: Final = 5  # in a row, of a stream that broke off ..
RECONNECT_S: Final = 0.1  # .. after such a pause, and twice as long each time

T = TypeVar("T")


class Answer(msgspec.Struct, frozen=True):
    """A response, whatever carried it."""

    status: int
    body: bytes
    token: str | None


class Transport(Protocol):
    """The few things an HTTP library has to do for the client."""

    async def send(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        """One request; raises NodeUnreachable if no answer came."""

    def stream(self, path: str, headers: Mapping[str, str]) -> AsyncGenerator[bytes | Answer, None]:
        """One answer that goes on, in parts as they come, or whole where its status is not 200.

        Raises NodeUnreachable if no answer came or nothing more comes.
        """

    async def close(self) -> None:
        """Let go of the connections."""


class AiohttpTransport:
    """A transport on aiohttp, with connections kept open."""

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        if not url.startswith(("http://", "https://")):
            raise BadSettings(f"{url!r} is no address of a node: write http://host:port.")
        self._url = url.rstrip("/")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX),
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
        )

    async def send(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        # The path is encoded already; yarl would undo and redo it its own way.
        url = URL(self._url + path, encoded=True)
        with self._unreachable():
            async with self._session.request(method, url, headers=headers, data=body) as response:
                answer = await _answer(response)
        return answer

    async def stream(
        self, path: str, headers: Mapping[str, str]
    ) -> AsyncGenerator[bytes | Answer, None]:
        url = URL(self._url + path, encoded=True)
        with self._unreachable():
            async with self._session.get(url, headers=headers, timeout=_UNENDING) as response:
                if response.status != 200:
                    yield await _answer(response)
                    return
                async for part in response.content.iter_any():
                    yield part

    @contextlib.contextmanager
    def _unreachable(self) -> Iterator[None]:
        """Raise NodeUnreachable, and say what that means, instead of what the library raises."""
        try:
            yield
        except aiohttp.ClientConnectorError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise NodeUnreachable(
                f"Cannot connect to {self._url}: {reason}. Nothing was sent. Is the node running?"
            ) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise NodeUnreachable(
                f"No answer from {self._url}: {reason}. A write that was sent may or may not have "
                "happened; sending it again is safe (a tally or a put needs its id or if_version)."
            ) from error

    async def close(self) -> None:
        await self._session.close()


_UNENDING: Final = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT_S, sock_read=SILENCE_S)


async def _answer(response: aiohttp.ClientResponse) -> Answer:
    token = response.headers.get(wire.SESSION_HEADER)
    return Answer(response.status, await response.read(), token)


class HttpApi:
    """Implements `groundswell.api.Api` over a transport."""

    def __init__(self, transport: Transport, key: str | None = None) -> None:
        self._transport = transport
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}

    async def write(
        self, writes: Sequence[Write], *, atomic: bool = False, tokens: str | None = None
    ) -> Reply[list[Outcome]]:
        body = wire.WritesRequest(list(writes), atomic)
        try:
            reply = await self._call("POST", "/v1/writes", wire.WritesAnswer, tokens, body=body)
        except _Refusal as refusal:
            rest = Refused("not-applied", "Nothing of this atomic batch was applied.")
            outcomes: list[Outcome] = [rest] * len(writes)
            outcomes[refusal.index] = refusal.outcome
            return Reply(outcomes, refusal.token)
        return Reply([_outcome(item) for item in reply.answer.outcomes], reply.token)

    async def count(
        self, kind: str, target: Id, options: wire.ReadOptions, tokens: str | None = None
    ) -> Reply[wire.CountAnswer]:
        path = _path("counts", kind, target)
        return await self._call("GET", path, wire.CountAnswer, tokens, query=options)

    async def counts(
        self, keys: Sequence[Key], options: wire.ReadOptions, tokens: str | None = None
    ) -> Reply[wire.CountsAnswer]:
        body = wire.KeysRequest(list(keys))
        return await self._call(
            "POST", "/v1/counts", wire.CountsAnswer, tokens, query=options, body=body
        )

    async def rating(
        self, kind: str, target: Id, options: wire.ReadOptions, tokens: str | None = None
    ) -> Reply[wire.RatingAnswer]:
        path = _path("ratings", kind, target)
        return await self._call("GET", path, wire.RatingAnswer, tokens, query=options)

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
        return await self._call(
            "POST", "/v1/page", wire.PageAnswer, tokens, query=options, body=body
        )

    async def edge(
        self,
        kind: str,
        target: Id,
        source: Id,
        options: wire.ReadOptions,
        tokens: str | None = None,
    ) -> Reply[wire.EdgeAnswer]:
        path = _path("edges", kind, target, source)
        return await self._call("GET", path, wire.EdgeAnswer, tokens, query=options)

    async def edges(
        self,
        kind: str,
        *,
        target: Id | None = None,
        source: Id | None = None,
        query: wire.ListQuery,
        tokens: str | None = None,
    ) -> Reply[wire.EdgesAnswer]:
        if target is not None:
            path = _path("edges", kind, target)
            return await self._call("GET", path, wire.EdgesAnswer, tokens, query=query)
        inverse = wire.InverseQuery(source=str(source), **msgspec.structs.asdict(query))
        path = _path("edges", kind)
        return await self._call("GET", path, wire.EdgesAnswer, tokens, query=inverse)

    async def object(
        self, id_: str, options: wire.ReadOptions, tokens: str | None = None
    ) -> Reply[wire.ObjectAnswer]:
        path = _path("objects", id_)
        return await self._call("GET", path, wire.ObjectAnswer, tokens, query=options)

    async def account(
        self, id_: str, options: wire.ReadOptions, tokens: str | None = None
    ) -> Reply[wire.AccountAnswer]:
        path = _path("accounts", id_)
        return await self._call("GET", path, wire.AccountAnswer, tokens, query=options)

    async def movement(self, id_: str, tokens: str | None = None) -> Reply[wire.MovementAnswer]:
        return await self._call("GET", _path("transfers", id_), wire.MovementAnswer, tokens)

    async def movements(
        self, account: str, query: wire.HistoryQuery, tokens: str | None = None
    ) -> Reply[wire.MovementsAnswer]:
        path = _path("accounts", account) + "/transfers"
        return await self._call("GET", path, wire.MovementsAnswer, tokens, query=query)

    async def trending(
        self, kind: str, query: wire.TrendingQuery, tokens: str | None = None
    ) -> Reply[wire.TrendingAnswer]:
        path = _path("trending", kind)
        return await self._call("GET", path, wire.TrendingAnswer, tokens, query=query)

    async def stream(self, keys: Sequence[Key]) -> AsyncGenerator[wire.StreamEvent, None]:
        texts = [f"{kind}:{target}" for kind, target in keys]
        path = "/v1/stream?" + urlencode([("key", text) for text in texts])
        last, broken = "", 0
        while True:
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
                if broken == RECONNECTS:
                    raise NodeUnreachable(
                        f"The stream broke off, and could not be resumed: {error.detail}"
                    ) from error
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
        return (await self._call("GET", "/v1/status", wire.StatusAnswer, None)).answer

    async def _call(
        self,
        method: str,
        path: str,
        shape: type[T],
        tokens: str | None,
        *,
        query: msgspec.Struct | None = None,
        body: msgspec.Struct | None = None,
    ) -> Reply[T]:
        headers = dict(self._headers)
        if tokens:
            headers[wire.SESSION_HEADER] = tokens
        content = None
        if body is not None:
            content = msgspec.json.encode(body)
            headers["Content-Type"] = "application/json"
        answer = await self._transport.send(method, path + _query(query), headers, content)
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
    return "/v1/" + noun + "".join("/" + quote(str(id_), safe="") for id_ in ids)


def _query(query: msgspec.Struct | None) -> str:
    if query is None:
        return ""
    given: dict[str, Any] = {
        field.encode_name: value
        for field in msgspec.structs.fields(query)
        if (value := getattr(query, field.name)) is not None and value != field.default
    }
    return "?" + urlencode(given) if given else ""
