"""Responses that go on: the events of a stream, as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import msgspec

from groundswell import sse
from groundswell.node import Node
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


class Events(Response, frozen=True, kw_only=True):
    """The news of a stream until the client goes away or the node stops; closes the stream."""

    body: bytes = sse.ALIVE  # sent at once: the client learns that it is connected
    headers: tuple[tuple[bytes, bytes], ...] = _HEADERS
    node: Node
    stream: Stream
    receive: Receive

    async def send(self, send: Send) -> None:
        """Hand it to the server, event by event."""
        writing = asyncio.ensure_future(self._write(send))
        gone = asyncio.ensure_future(self._gone())
        stopped = asyncio.ensure_future(self.stream.closed.wait())
        try:
            await asyncio.wait((writing, gone, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not gone.done():
                await asyncio.wait((writing, gone), timeout=LAST_S)
        finally:
            self.stream.close()
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
                news = await self.stream.next()
        except TimeoutError:
            return sse.ALIVE
        if news is None:
            return None
        return sse.encode(news.place.encode(), "counts", _encode(self.node.told(self.stream, news)))

    async def _gone(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass


async def _sent(send: Send, text: bytes) -> None:
    """Hand on a part; waits while the client is slow. TimeoutError where it takes nothing."""
    message = {"type": "http.response.body", "body": text, "more_body": True}
    async with asyncio.timeout(SEND_S):
        await send(message)
