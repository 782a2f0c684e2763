"""Requests and responses of the ASGI interface, as thin as they can be: reads are counted in millions."""

from __future__ import annotations

import difflib
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from typing import Any, Final, TypeVar, get_origin
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec

from groundswell.errors import BadRequest, TooLarge
from groundswell.wire import SESSION_HEADER

BODY_BYTES_MAX: Final = 4 * 1024 * 1024
QUERY_CACHED_MAX: Final = 1024  # bytes: what is remembered is not to be much, whoever asks

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_SESSION: Final = SESSION_HEADER.lower().encode()
Headers = tuple[tuple[bytes, bytes], ...]

_JSON: Final = (b"content-type", b"application/json")
_encode: Final = msgspec.json.Encoder().encode

T = TypeVar("T")
Q = TypeVar("Q", bound=msgspec.Struct)


class Request(msgspec.Struct, frozen=True):
    """One request: its path parameters decoded, everything else on demand."""

    scope: Scope
    receive: Receive
    params: list[str]  # of the path, decoded

    def header(self, wanted: bytes) -> bytes | None:
        """The header with this lower-case name; of one that is repeated, the last."""
        found: bytes | None = None
        for name, value in self.scope["headers"]:
            if name == wanted:
                found = value
        return found

    @property
    def tokens(self) -> str | None:
        """The session tokens, of one header or of several, separated by commas."""
        found = [value for name, value in self.scope["headers"] if name == _SESSION]
        return b",".join(found).decode("latin-1") if found else None

    def query(self, shape: type[Q], default: Q | None = None) -> Q:
        """The query string as a struct; `default` where there is none."""
        text = self.scope["query_string"]
        if not text and default is not None:
            return default
        if len(text) > QUERY_CACHED_MAX:
            return _parsed(text, shape)
        found: Q = parse_query(text, shape)
        return found

    async def body(self, shape: type[T], default: T | None = None) -> T:
        """The body as a struct; `default` where it is empty."""
        length = self.header(b"content-length")
        if length in (None, b"0") and self.header(b"transfer-encoding") is None:
            raw = b""
        else:
            raw = await self._bytes(length or b"")
        if not raw and default is not None:
            return default
        try:
            return msgspec.json.decode(raw, type=shape)
        except msgspec.ValidationError as error:
            raise BadRequest(f"The body does not fit: {error}.") from error
        except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
            raise BadRequest(f"The body is not valid JSON: {error}.") from error

    async def _bytes(self, length: bytes) -> bytes:
        if length.isdigit() and int(length) > BODY_BYTES_MAX:
            raise _oversized(int(length))
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise BadRequest("The body ended too early; nothing was changed.")
            part = message.get("body", b"")
            size += len(part)
            if size > BODY_BYTES_MAX:
                raise _oversized(size)
            parts.append(part)
            if not message.get("more_body"):
                return b"".join(parts)


def decoded(segments: list[str]) -> list[str]:
    """Segments of a raw path, percent-decoded one by one, so that an id may contain a slash."""
    try:
        return [unquote_to_bytes(segment.encode("latin-1")).decode("utf-8") for segment in segments]
    except UnicodeDecodeError as error:
        raise BadRequest("The path is not UTF-8.") from error


def _oversized(size: int) -> TooLarge:
    return TooLarge(
        f"The body has {size} bytes or more; the limit is {BODY_BYTES_MAX}. Nothing was changed; "
        "send it in parts."
    )


@lru_cache(maxsize=1024)  # clients send the same few over and over
def parse_query(text: bytes, shape: type[Q]) -> Q:
    """A query string as a struct; unknown, repeated and ill-typed parameters are a BadRequest.

    A parameter whose type is a list may be repeated.
    """
    return _parsed(text, shape)


def _parsed(text: bytes, shape: type[Q]) -> Q:
    fields = {field.encode_name: field for field in msgspec.structs.fields(shape)}
    lists = {name for name, field in fields.items() if get_origin(field.type) is list}
    try:
        pairs = parse_qsl(
            text.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(text),
            errors="strict",
            max_num_fields=1_000 if lists else 20,
        )
    except ValueError as error:
        raise BadRequest(f"The query string cannot be read: {error}.") from error
    found: dict[str, str | list[str]] = {}
    for name, value in pairs:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, 1)
            hint = f" Did you mean {near[0]!r}?" if near else f" Known are: {', '.join(fields)}."
            raise BadRequest(f"Unknown query parameter {name!r:.60}.{hint}")
        if name in lists:
            found[name] = [*found.get(name, ()), value]
        elif name in found:
            raise BadRequest(f"The query parameter {name!r} is given twice.")
        else:
            found[name] = value
    try:
        return msgspec.convert(found, shape, strict=False)
    except msgspec.ValidationError as error:
        raise BadRequest(f"The query string does not fit: {error}.") from error


class Response(msgspec.Struct, frozen=True):
    """A response with a body that is complete."""

    body: bytes
    status: int = 200
    headers: Headers = (_JSON,)

    async def send(self, send: Send) -> None:
        """Hand it to the server."""
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


def answered(
    answer: object, token: str | None = None, status: int = 200, headers: Headers = (_JSON,)
) -> Response:
    """The response that holds `answer` as JSON, and the session's token where there is one."""
    if token is not None:
        headers = (*headers, (_SESSION, token.encode("ascii")))
    return Response(_encode(answer), status, headers)
