"""One connection over HTTP/1.1: bytes in, requests out, answers back in their order."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from email.utils import formatdate
from typing import Any, Final, cast
from urllib.parse import unquote

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from groundswell.errors import Overloaded
from groundswell.server.exchange import Application, Exchange, refusal
from groundswell.server.http import Scope
from groundswell.server.problems import plain, problem

HEAD_BYTES_MAX: Final = 64 * 1024  # of a request's head, give or take what one read brings
HEADERS_MAX: Final = 100
AHEAD_BYTES_MAX: Final = 256 * 1024  # of bodies that nobody has asked for yet
AHEAD_MAX: Final = 16  # requests sent before the answers to others
OWED_BYTES_MAX: Final = 64 * 1024  # that wait for the end of a turn of the loop

HEAD_S: Final = 10.0  # for a head, once it has begun
BODY_S: Final = 30.0  # for the next part of a body
IDLE_S: Final = 75.0  # between requests
ANSWER_S: Final = 60.0  # for the client to take anything of what it is owed
LINGER_S: Final = 2.0  # for it to read an answer that came before it had sent everything

_VERSIONS: Final = frozenset(("1.1", "1.0"))
_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}


class Serving:
    """What the connections of one server share."""

    def __init__(self, application: Application, connections_max: int) -> None:
        self.application = application
        self.connections_max = connections_max
        self.connections: set[Connection] = set()
        self.stopping = False  # every answer is the last of its connection
        self.empty = asyncio.Event()  # nothing is open or under way, once it stops
        self.under_way = 0  # exchanges that are being answered
        self.now = 0.0  # the loop's time, as exact as the limits need it
        self.date = b""  # a header line
        self.look()

    def look(self) -> None:
        """See what time it is, and end what has taken too long."""
        self.now = asyncio.get_running_loop().time()
        self.date = b"date: %b\r\n" % formatdate(usegmt=True).encode()
        for connection in tuple(self.connections):
            connection.look()

    def leave(self, connection: Connection) -> None:
        """It is closed, and has nothing under way."""
        self.connections.discard(connection)
        if self.stopping and not self.connections:
            self.empty.set()


class Connection(asyncio.Protocol):
    """Reads with llhttp, the parser of Node.js, as it is strict, and answers one request at a time.

    Whatever a client sends or does not take is bounded in size and in time. Parsing in the event loop
    costs no hand-over between threads: see docs/decisions.md for what that is worth.
    """

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._parser = HttpRequestParser(self)
        self._client: tuple[str, int] | None = None
        self._server: tuple[str, int] | None = None
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._unseen = 0  # bytes that have made no head and no part of a body
        self._reading: Exchange | None = None  # whose body has not come whole
        self._answering: Exchange | None = None
        self._next: deque[Exchange] = deque()
        self._ahead = 0  # bytes of bodies
        self._last = False  # no further request is read
        self._refusal: bytes | None = None  # to be sent after the answers that are owed
        self._ended = False  # the client sends nothing more
        self._lingering = False
        self._lost = False
        self._paused = False  # nothing is read
        self._owed = b""  # to be sent at the end of this turn of the loop
        self._drained: asyncio.Future[None] | None = None  # while the client takes nothing
        self._since = self._serving.now  # of the last bytes, head begun, or pause

    # --- for the transport ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)
        self._client = _address(transport.get_extra_info("peername"))
        self._server = _address(transport.get_extra_info("sockname"))
        self._serving.connections.add(self)
        if len(self._serving.connections) > self._serving.connections_max:
            error = Overloaded("There are too many connections to this node. Try again later.")
            self.write(refusal(problem(error), self._serving.date))
            self._end()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._last and self._reading is None:
            return
        if not self._unseen:
            self._since = self._serving.now
        self._unseen += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._last = True  # answered as if it had not asked; what follows is no HTTP
        except HttpParserCallbackError:
            raise  # a bug of this class: the loop logs it, and closes the connection
        except HttpParserError as error:
            self._unreadable(400, f"This is not HTTP/1.1: {error}. Nothing was changed.")
        if self._unseen > HEAD_BYTES_MAX:
            self._unreadable(431, f"The head of a request may have {HEAD_BYTES_MAX} bytes.")
        if self._ahead or self._next:
            self._regulate()

    def eof_received(self) -> bool:
        """See `asyncio.Protocol`. What was asked for before is still answered."""
        self._last = self._ended = True
        self.send_owed()  # the loop may close the connection
        for exchange in (self._answering, *self._next):
            if exchange is not None:
                exchange.gone()
        return self._answering is not None

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._lost = True
        del self._parser  # which holds this in turn
        self._next.clear()
        self._owed = b""
        self.resume_writing()
        if self._answering is not None:
            self._answering.gone()
        else:
            self._serving.leave(self)

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._drained = self._loop.create_future()
        self._since = self._serving.now

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None

    # --- for the parser ---------------------------------------------------------------------------

    def on_url(self, url: bytes) -> None:
        """A part of its target has come."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header has come whole. Those after the body say nothing that is of use here."""
        if self._reading is None:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head has come whole."""
        url, self._url = self._url, b""
        headers, self._headers = self._headers, []
        self._unseen = 0
        if self._last:
            return
        if len(headers) > HEADERS_MAX:
            self._unreadable(431, f"A request may have {HEADERS_MAX} headers.")
            return
        version = self._parser.get_http_version()
        if version not in _VERSIONS:
            self._unreadable(400, f"This is HTTP/{version}, and not HTTP/1.1. Nothing was changed.")
            return
        keep = self._parser.should_keep_alive()
        self._last = not keep
        self._reading = exchange = Exchange(self, self._scope(version, url, headers), keep)
        if self._answering is None:
            self._begin(exchange)
        else:
            self._next.append(exchange)

    def on_body(self, part: bytes) -> None:
        """A part of the body has come."""
        self._unseen = 0
        if self._reading is not None:
            self._ahead += len(part)
            self._reading.feed(part)

    def on_message_complete(self) -> None:
        """The request has come whole."""
        self._unseen = 0
        if self._reading is not None:
            self._reading.end()
            self._reading = None

    def _scope(self, version: str, url: bytes, headers: list[tuple[bytes, bytes]]) -> Scope:
        target = url.partition(b"#")[0]
        if not target.startswith(b"/") and b"://" in target:  # as it is written for a proxy
            target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
        path, _, query = target.partition(b"?")
        text = path.decode("latin-1")
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "server": self._server,
            "client": self._client,
            "scheme": "http",
            "method": self._parser.get_method().decode(),
            "root_path": "",
            "path": unquote(text) if "%" in text else text,
            "raw_path": path,
            "query_string": query,
            "headers": headers,
        }

    # --- for exchanges ----------------------------------------------------------------------------

    @property
    def date(self) -> bytes:
        """See `Line`."""
        return self._serving.date

    @property
    def closing(self) -> bool:
        """See `Line`."""
        return self._serving.stopping or (self._last and not self._next and self._refusal is None)

    def write(self, data: bytes) -> None:
        """See `Line`."""
        if self._lost:
            raise ConnectionResetError("The client has gone.")
        if not self._owed:
            if self._serving.under_way <= 1:  # nobody else's answer can come in this turn
                self._transport.write(data)
                return
            self._loop.call_soon(self.send_owed)
        self._owed += data
        if len(self._owed) > OWED_BYTES_MAX:
            self.send_owed()

    @property
    def drained(self) -> asyncio.Future[None] | None:
        """See `Line`."""
        return self._drained

    def taken(self, size: int) -> None:
        """See `Line`."""
        self._ahead -= size
        if self._paused:
            self._regulate()

    def abort(self) -> None:
        """See `Line`."""
        self.send_owed()
        self._transport.abort()

    def done(self, exchange: Exchange) -> None:
        """See `Line`."""
        self._ahead -= sum(map(len, exchange.parts))
        self._answering = exchange.task = None
        self._serving.under_way -= 1
        self._since = self._serving.now
        if self._lost:
            self._serving.leave(self)
        elif not exchange.keep:
            self._end(linger=not exchange.complete)
        elif self._next:
            self._begin(self._next.popleft())
        elif self._refusal is not None:
            self.write(self._refusal)
            self._end(linger=True)
        elif self._last or self._serving.stopping:
            self._end()
        if self._paused:
            self._regulate()

    # --- itself -----------------------------------------------------------------------------------

    def send_owed(self) -> None:
        """Send what has waited until all have run who were to run in that turn of the loop.

        To send is to go through the kernel, and to wake the client: what is made next is made with cold
        caches. docs/decisions.md says what it is worth to make all answers of a turn first.
        """
        owed, self._owed = self._owed, b""
        if owed and not self._lost:
            self._transport.write(owed)

    def stop(self) -> None:
        """Close, once what is under way has been answered."""
        if self._answering is None:
            self._end()

    def look(self) -> None:
        """End what has taken too long. For the server, now and then."""
        silent = self._serving.now - self._since
        if self._lingering:
            if silent > LINGER_S:
                self._transport.abort()
        elif self._drained is not None:
            if silent > ANSWER_S:
                self._transport.abort()
        elif self._reading is not None:
            if silent > BODY_S and not self._paused:
                self._reading.gone()
        elif self._answering is not None:
            pass  # its time is the application's
        elif self._unseen and silent > HEAD_S:
            self._refuse(408, f"A request's head took more than {HEAD_S:.0f} s.")
        elif silent > IDLE_S or self._serving.stopping:
            self._end()

    def _begin(self, exchange: Exchange) -> None:
        self._answering = exchange
        self._serving.under_way += 1
        exchange.task = self._loop.create_task(exchange.run(self._serving.application))

    def _regulate(self) -> None:
        """Read on, or not, by how much waits here already."""
        full = self._ahead > AHEAD_BYTES_MAX or len(self._next) > AHEAD_MAX
        if full == self._paused or self._transport.is_closing():
            return
        self._paused = full
        if full:
            self._transport.pause_reading()
        else:
            self._since = self._serving.now
            self._transport.resume_reading()

    def _unreadable(self, status: int, detail: str) -> None:
        """What has come cannot be read on: say so after the answers that are owed."""
        if self._last and self._reading is None:
            return  # what comes after the last request is not for us
        if self._reading is not None:
            self._last = True
            self._reading.gone()  # in its body: the application says so
        else:
            self._refuse(status, detail)

    def _refuse(self, status: int, detail: str) -> None:
        self._last = True
        self._refusal = refusal(plain(status, "bad-request", detail), self._serving.date)
        if self._answering is None:
            self.write(self._refusal)
            self._end(linger=True)

    def _end(self, *, linger: bool = False) -> None:
        """Close after what was written; `linger` where the client may still be sending.

        A socket that is closed with bytes unread resets the connection, and the answer would be lost
        with it: RFC 9112, section 9.6.
        """
        self._last = True
        self._next.clear()
        self.send_owed()
        if not linger or self._ended or self._transport.is_closing():
            self._transport.close()
            return
        self._reading = None
        self._lingering = True
        self._since = self._serving.now
        with contextlib.suppress(OSError):  # the client has gone: it will be told below
            self._transport.write_eof()
        if self._paused:
            self._paused = False
            self._transport.resume_reading()


def _address(found: Any) -> tuple[str, int] | None:
    return (found[0], found[1]) if isinstance(found, tuple) else None
