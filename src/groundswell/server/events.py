"""Responses that go on, as server-sent events: the counts of a stream, and the pulse of a node."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final, Protocol

import msgspec

from groundswell import sse
from groundswell.node import Node
from groundswell.pulse import Watcher
from groundswell.server.http import Receive, Response, Send
from groundswell.stream import Stream

HEARTBEAT_S: Final = 15.0  # between two signs of life, where there is nothing to tell
SEND_S: Final = 60.0  # a client that takes nothing for so long is let go
LAST_S: Final = 1.0  # to take the last bytes, once the node stops

_HEADERS: Final = (
    (b"content-type", sse.CONTENT_TYPE.encode()),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # a proxy that collected events would hold them back
)
_encode: Final = msgspec.json.Encoder().encode


class Feed(Protocol):
    """What goes on until it is closed."""

    closed: asyncio.Event

    async def next(self) -> bytes | None:
        """The next event as it is sent; None at the end. May be cancelled and called again."""

    def close(self) -> None:
        """Let go."""


class Counts:
    """The news of a stream of counts."""

    def __init__(self, node: Node, stream: Stream) -> None:
        self._node = node
        self._stream = stream
        self.closed = stream.closed
        self.close = stream.close

    async def next(self) -> bytes | None:
        """See `Feed`."""
        news = await self._stream.next()
        if news is None:
            return None
        told = _encode(self._node.told(self._stream, news))
        return sse.encode(news.place.encode(), "counts", told)


class Beats:
    """What a watcher of the node's pulse is told. Not resumed, so without ids."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self.closed = watcher.closed
        self.close = watcher.close

    async def next(self) -> bytes | None:
        """See `Feed`."""
        beat = await self._watcher.next()
        return None if beat is None else sse.encode("", "pulse", beat)


class Events(Response, frozen=True, kw_only=True):
    """What a feed tells until the client goes away or the node stops; closes the feed."""

    body: bytes = sse.ALIVE  # sent at once: the client learns that it is connected
    headers: tuple[tuple[bytes, bytes], ...] = _HEADERS
    feed: Feed
    receive: Receive

    async def send(self, send: Send) -> None:
        """Hand it to the server, event by event."""
        writing = asyncio.ensure_future(self._write(send))
        gone = asyncio.ensure_future(self._gone())
        stopped = asyncio.ensure_future(self.feed.closed.wait())
        try:
            await asyncio.wait((writing, gone, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not gone.done():
                await asyncio.wait((writing, gone), timeout=LAST_S)
        finally:
            self.feed.close()
            for task in (writing, gone, stopped):
                task.cancel()
            await asyncio.gather(writing, gone, stopped, return_exceptions=True)
        if not writing.cancelled() and (error := writing.exception()):
            raise error

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        with contextlib.suppress(TimeoutError):
            await _sent(send, self.body)
            while (text := await self._next()) is not None:
                await _sent(send, text)
        await send({"type": "http.response.body", "body": b""})

    async def _next(self) -> bytes | None:
        """The next event or sign of life; None at the end."""
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                return await self.feed.next()
        except TimeoutError:
            return sse.ALIVE

    async def _gone(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass


async def _sent(send: Send, text: bytes) -> None:
    """Hand on a part; waits while the client is slow. TimeoutError where it takes nothing."""
    message = {"type": "http.response.body", "body": text, "more_body": True}
    async with asyncio.timeout(SEND_S):
        await send(message)
