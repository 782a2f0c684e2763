"""One request and its answer: what an ASGI application is called with."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any, Final, Protocol

from groundswell.server.http import Receive, Response, Scope, Send
from groundswell.server.problems import plain

log = logging.getLogger(__name__)

Headers = Iterable[tuple[bytes, bytes]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_BODILESS: Final = frozenset((HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED))


class Line(Protocol):
    """What an exchange needs of its connection."""

    @property
    def date(self) -> bytes:
        """The header line with the time."""

    @property
    def closing(self) -> bool:
        """Whether nothing more is answered here after this exchange."""

    @property
    def drained(self) -> asyncio.Future[None] | None:
        """What to wait for while the client takes nothing."""

    def write(self, data: bytes) -> None:
        """Send; ConnectionResetError once the client has gone."""

    def taken(self, size: int) -> None:
        """So many bytes of a body that waited here wait no longer."""

    def done(self, exchange: Exchange) -> None:
        """The application has returned: go on with the next request."""

    def abort(self) -> None:
        """Cut the client off, who then knows that the answer is not whole."""


class Exchange:
    """A request whose head has been read. The body may still come, or wait to be asked for.

    `receive` and `send` are those of ASGI 3: https://asgi.readthedocs.io/en/latest/specs/www.html.
    `send` raises ConnectionResetError once the client has gone: nobody waits for the answer.
    """

    __slots__ = (
        "_answered",
        "_begun",
        "_chunked",
        "_continued",
        "_gone",
        "_headers",
        "_line",
        "_status",
        "_told",
        "_waiter",
        "complete",
        "keep",
        "parts",
        "scope",
        "task",
    )

    def __init__(self, line: Line, scope: Scope, keep: bool) -> None:
        """`keep`: the client would go on with this connection."""
        self.scope = scope
        self.keep = keep
        self.complete = False  # its body has come whole
        self.task: asyncio.Task[None] | None = None
        self._line = line
        self.parts: list[bytes] = []  # of the body, not asked for yet
        self._continued = False
        self._told = False  # the application has had the whole body
        self._gone = False
        self._waiter: asyncio.Future[None] | None = None
        self._status = 0
        self._headers: Headers = ()
        self._begun = False  # the head of the answer is sent
        self._chunked = False
        self._answered = False

    async def run(self, application: Application) -> None:
        """Have it answered."""
        try:
            await application(self.scope, self.receive, self.send)
            if not self._answered:
                log.error("%s %s was not answered", self.scope["method"], self.scope["path"])
        except ConnectionResetError:
            log.debug("%s %s: the client has gone", self.scope["method"], self.scope["path"])
        except Exception:
            log.exception("%s %s", self.scope["method"], self.scope["path"])
        finally:
            if not self._answered:
                self._give_up()
            self._line.done(self)

    def _give_up(self) -> None:
        if self._begun or self._gone:
            self._line.abort()
        else:
            detail = "This is a bug; the node's log has the details."
            self._line.write(refusal(plain(500, "internal", detail), self._line.date))
            self.keep = False

    # --- the request ------------------------------------------------------------------------------

    def feed(self, part: bytes) -> None:
        """A part of the body has come."""
        self.parts.append(part)
        self._wake()

    def end(self) -> None:
        """The body has come whole."""
        self.complete = True
        self._wake()

    def gone(self) -> None:
        """Nothing more will come: the client has gone, or has sent what nobody can read."""
        self._gone = True
        self._wake()

    async def receive(self) -> MutableMapping[str, Any]:
        """The next part of the body; `http.disconnect` where nothing more will come."""
        while True:
            if self.parts or (self.complete and not self._told):
                body = b"".join(self.parts)
                self.parts.clear()
                self._line.taken(len(body))
                self._told = self.complete
                return {"type": "http.request", "body": body, "more_body": not self._told}
            if self._gone or self._answered:
                return {"type": "http.disconnect"}
            if not self._continued and (b"expect", b"100-continue") in self.scope["headers"]:
                self._line.write(_CONTINUE)
            self._continued = True
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- the answer -------------------------------------------------------------------------------

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """The head of the answer, or the next part of its body; waits while the client is slow."""
        if message["type"] == "http.response.start":
            self._status, self._headers = message["status"], message.get("headers", ())
            return
        body = message.get("body", b"")
        more = message.get("more_body", False)
        head = b"" if self._begun else self._begin(None if more else len(body))
        if self.scope["method"] == "HEAD":
            body = b""
        elif self._chunked:
            body = _chunk(body) if more else _chunk(body) + b"0\r\n\r\n"
        self._line.write(head + body)
        if not more:
            self._answered = True
            self._wake()
        if (drained := self._line.drained) is not None:
            await asyncio.shield(drained)

    def _begin(self, length: int | None) -> bytes:
        """The head of the answer; `length` is that of the body, where it is known.

        A body that has not been read would be taken for the next request: the connection ends with it.
        """
        self._begun = True
        lines = _lines(self._status, self._line.date, self._headers)
        if length is not None:
            if self._status not in _BODILESS:
                lines.append(b"content-length: %d\r\n" % length)
        elif self.scope["http_version"] == "1.1":
            self._chunked = True
            lines.append(b"transfer-encoding: chunked\r\n")
        else:
            self.keep = False  # the end of the body is that of the connection
        self.keep = self.keep and self.complete and not self._line.closing
        if not self.keep:
            lines.append(b"connection: close\r\n")
        elif self.scope["http_version"] != "1.1":
            lines.append(b"connection: keep-alive\r\n")
        lines.append(b"\r\n")
        return b"".join(lines)


def _lines(status: int, date: bytes, headers: Headers) -> list[bytes]:
    lines = [_STATUS_LINES[status], date]
    for name, value in headers:
        lines += (name, b": ", value, b"\r\n")
    return lines


def _chunk(part: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(part), part) if part else b""


def refusal(response: Response, date: bytes) -> bytes:
    """The whole answer to what is not answered by the application; the connection ends with it."""
    lines = _lines(response.status, date, response.headers)
    lines.append(b"content-length: %d\r\nconnection: close\r\n\r\n" % len(response.body))
    return b"".join((*lines, response.body))
