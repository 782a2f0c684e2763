"""A node behind HTTP, with the same interface as one in this process."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
from yarl import URL

from groundswell import wire
from groundswell.api import Reply
from groundswell.errors import BadSettings, GroundswellError, NodeUnreachable, NotFound, by_code
from groundswell.model import Id, Key, Write
from groundswell.store import Changed, Outcome, Refused, Stored

TIMEOUT_S: Final = 30.0
CONNECTIONS_MAX: Final = 256
CONFLICT: Final = 409

T = TypeVar("T")


class Answer(msgspec.Struct, frozen=True):
    """A response, whatever carried it."""

    status: int
    body: bytes
    token: str | None


class Transport(Protocol):
    """The two things an HTTP library has to do for the client."""

    async def send(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        """One request; raises NodeUnreachable if no answer came."""

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

    async def send(  # noqa: D102
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        # The path is encoded already; yarl would undo and redo it its own way.
        url = URL(self._url + path, encoded=True)
        try:
            async with self._session.request(method, url, headers=headers, data=body) as response:
                token = response.headers.get(wire.SESSION_HEADER)
                return Answer(response.status, await response.read(), token)
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

    async def close(self) -> None:  # noqa: D102
        await self._session.close()


class HttpApi:
    """Implements `groundswell.api.Api` over a transport."""

    def __init__(self, transport: Transport, key: str | None = None) -> None:
        self._transport = transport
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}

    async def write(  # noqa: D102
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

    async def count(  # noqa: D102
        self, kind: str, target: Id, options: wire.ReadOptions, tokens: str | None = None
    ) -> Reply[wire.CountAnswer]:
        path = _path("counts", kind, target)
        return await self._call("GET", path, wire.CountAnswer, tokens, query=options)

    async def counts(  # noqa: D102
        self, keys: Sequence[Key], options: wire.ReadOptions, tokens: str | None = None
    ) -> Reply[wire.CountsAnswer]:
        body = wire.KeysRequest(list(keys))
        return await self._call(
            "POST", "/v1/counts", wire.CountsAnswer, tokens, query=options, body=body
        )

    async def page(  # noqa: D102
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

    async def edge(  # noqa: D102
        self,
        kind: str,
        target: Id,
        source: Id,
        options: wire.ReadOptions,
        tokens: str | None = None,
    ) -> Reply[wire.EdgeAnswer]:
        path = _path("edges", kind, target, source)
        return await self._call("GET", path, wire.EdgeAnswer, tokens, query=options)

    async def edges(  # noqa: D102
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

    async def object(  # noqa: D102
        self, id_: str, options: wire.ReadOptions, tokens: str | None = None
    ) -> Reply[wire.ObjectAnswer]:
        path = _path("objects", id_)
        return await self._call("GET", path, wire.ObjectAnswer, tokens, query=options)

    async def status(self) -> wire.StatusAnswer:  # noqa: D102
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
        try:
            return Reply(msgspec.json.decode(answer.body, type=shape), answer.token)
        except msgspec.DecodeError as error:
            raise GroundswellError(f"The node's answer cannot be read: {error}.") from error


class _Refusal(Exception):
    """An atomic batch was refused because of one of its writes."""

    def __init__(self, index: int, outcome: Refused, token: str | None) -> None:
        super().__init__(outcome.detail)
        self.index = index
        self.outcome = outcome
        self.token = token


def _error(answer: Answer) -> Exception:
    try:
        problem = msgspec.json.decode(answer.body, type=wire.Problem)
    except msgspec.DecodeError:
        return NodeUnreachable(f"Something that is no node answered with status {answer.status}.")
    if problem.index is not None and answer.status == CONFLICT:
        refused = Refused(problem.code, problem.detail, problem.version)
        return _Refusal(problem.index, refused, answer.token)
    error = by_code(problem.code, problem.detail, version=problem.version)
    error.token, error.index = answer.token, problem.index
    if isinstance(error, NotFound):
        error.read = problem.read
    return error


def _outcome(item: wire.OutcomeItem) -> Outcome:
    if item.code is not None:
        return Refused(item.code, item.detail or "", item.version)
    return Changed(item.changed) if item.version is None else Stored(item.version, item.changed)


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
