"""A TCP proxy that breaks what goes through it, on purpose."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Final

CHUNK: Final = 65_536
_AT_ONCE: Final = struct.pack("ii", 1, 0)  # linger, for no time


class Proxy:
    """Forwards connections from a port of its own on loopback to a fixed place.

    What is stalled is kept, not lost, as when a network comes back before TCP has given up.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._host = host
        self._port = port
        self._server: asyncio.Server | None = None
        self._open = asyncio.Event()
        self._open.set()
        self._delay_s = 0.0
        self._deaf = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0  # to connect to, once it is started

    async def start(self) -> None:
        """Listen, from then on at `port`."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Cut everything, and stop listening."""
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def aim(self, port: int) -> None:
        """Let new connections go to another port."""
        self._port = port

    def stall(self) -> None:
        """Nothing goes through any more, in either direction; new connections get no answer."""
        self._open.clear()

    def delay(self, seconds: float) -> None:
        """Hold back everything for so long, in either direction."""
        self._delay_s = seconds

    def deafen(self) -> None:
        """Let requests through, and cut the connection as soon as something is answered."""
        self._deaf = True

    def heal(self) -> None:
        """Let everything through again."""
        self._delay_s, self._deaf = 0.0, False
        self._open.set()

    def cut(self) -> None:
        """Reset all connections."""
        for writer in self._writers:
            _reset(writer)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        onward: asyncio.StreamWriter | None = None
        try:
            await self._open.wait()
            back, onward = await asyncio.open_connection(self._host, self._port)
            self._writers.add(onward)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, onward))
                group.create_task(self._pump(back, writer, answers=True))
        except* OSError:
            pass  # one of them is gone, or was never there: so is the other one then
        finally:
            for end in (writer, onward):
                if end is not None:
                    self._writers.discard(end)
                    _reset(end)

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, answers: bool = False
    ) -> None:
        while data := await source.read(CHUNK):
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            await self._open.wait()
            if answers and self._deaf:
                raise ConnectionAbortedError
            if sink.is_closing():  # cut meanwhile: to write then is no OSError on every loop
                raise ConnectionResetError
            sink.write(data)
            await sink.drain()
        with contextlib.suppress(OSError, RuntimeError):
            sink.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close it with RST, as whoever has crashed does; not with FIN, as if all had been said."""
    if not writer.transport.is_closing():
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        writer.transport.abort()
