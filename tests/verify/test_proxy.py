"""The proxy breaks connections in the ways it says, and mends them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import ClassVar

import pytest

from groundswell.verify.proxy import Proxy

pytestmark = pytest.mark.anyio

SOON_S = 0.2
WAIT_S = 20.0  # generous: the machine may be busy


class Echo:
    """A server that answers what it is told, and remembers it."""

    def __init__(self) -> None:
        self.heard = b""
        self.serving = 0  # connections

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving += 1
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1000):
                self.heard += data
                writer.write(data)
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        self.serving -= 1


@pytest.fixture
async def echo() -> AsyncIterator[tuple[Echo, int]]:
    made = Echo()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    yield made, server.sockets[0].getsockname()[1]
    server.close()
    await asyncio.sleep(0.01)  # for what was aborted to be gone
    async with asyncio.timeout(WAIT_S):
        while made.serving:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.fixture
async def proxy(echo: tuple[Echo, int]) -> AsyncIterator[Proxy]:
    made = Proxy(echo[1])
    await made.start()
    yield made
    while Client.made:
        Client.made.pop().close()
    await made.close()


class Client:
    made: ClassVar[list[Client]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.made.append(self)

    def close(self) -> None:
        self._writer.transport.abort()

    @classmethod
    async def of(cls, proxy: Proxy) -> Client:
        return cls(*await asyncio.open_connection("127.0.0.1", proxy.port))

    async def ask(self, text: bytes, within_s: float = WAIT_S) -> bytes:
        self._writer.write(text)
        return await self.answer(within_s)

    async def answer(self, within_s: float = WAIT_S) -> bytes:
        async with asyncio.timeout(within_s):
            return await self._reader.read(1000)


async def test_it_lets_everything_through(proxy: Proxy) -> None:
    one, two = await Client.of(proxy), await Client.of(proxy)
    assert await one.ask(b"a") == b"a"
    assert await two.ask(b"b") == b"b"


async def test_what_is_stalled_comes_when_it_is_healed(
    proxy: Proxy, echo: tuple[Echo, int]
) -> None:
    client = await Client.of(proxy)
    assert await client.ask(b"a") == b"a"
    proxy.stall()
    with pytest.raises(TimeoutError):
        await client.ask(b"b", SOON_S)
    new = await Client.of(proxy)
    with pytest.raises(TimeoutError):
        await new.ask(b"c", SOON_S)
    assert echo[0].heard == b"a"
    proxy.heal()
    assert (await client.answer(), await new.answer()) == (b"b", b"c")


async def test_what_is_held_back_comes_later(proxy: Proxy) -> None:
    client = await Client.of(proxy)
    proxy.delay(0.05)
    began_s = time.monotonic()
    assert await client.ask(b"a") == b"a"
    assert time.monotonic() - began_s >= 0.1
    proxy.heal()


async def test_a_cut_resets_what_there_is_and_lets_in_what_comes(proxy: Proxy) -> None:
    client = await Client.of(proxy)
    assert await client.ask(b"a") == b"a"
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        await client.answer()
    assert await (await Client.of(proxy)).ask(b"b") == b"b"


async def test_a_request_arrives_and_its_answer_does_not(
    proxy: Proxy, echo: tuple[Echo, int]
) -> None:
    client = await Client.of(proxy)
    proxy.deafen()
    with pytest.raises(ConnectionResetError):
        await client.ask(b"a")
    assert echo[0].heard == b"a"
    proxy.heal()
    assert await (await Client.of(proxy)).ask(b"b") == b"b"


async def test_new_connections_go_where_it_is_aimed(proxy: Proxy) -> None:
    other = Echo()
    server = await asyncio.start_server(other.serve, "127.0.0.1", 0)
    proxy.aim(server.sockets[0].getsockname()[1])
    assert await (await Client.of(proxy)).ask(b"a") == b"a"
    assert other.heard == b"a"
    server.close()


async def test_nobody_there_is_a_reset(proxy: Proxy) -> None:
    proxy.aim(1)
    client = await Client.of(proxy)
    with pytest.raises(ConnectionResetError):
        await client.ask(b"a")
