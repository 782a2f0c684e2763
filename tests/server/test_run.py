"""What serving changes in the process, and what that relies on."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import pytest

from groundswell.kinds import Kinds
from groundswell.node import Node
from groundswell.replicas.memory import MemoryReplica
from groundswell.server.app import App
from groundswell.server.auth import Keys
from groundswell.server.run import collecting_rarely
from groundswell.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio

REQUESTS = 200
BODY = b'{"writes":[{"op":"add","kind":"like","target":1,"source":2},{"op":"delete","id":""}]}'


def test_garbage_is_looked_for_rarely_while_it_serves() -> None:
    before = gc.get_threshold(), gc.get_freeze_count()
    with pytest.raises(KeyError), collecting_rarely():
        assert gc.get_threshold()[0] > before[0][0]
        assert gc.get_freeze_count() > before[1]
        assert gc.isenabled()
        raise KeyError
    assert (gc.get_threshold(), gc.get_freeze_count()) == before


@pytest.fixture
async def app() -> AsyncIterator[App]:
    node = Node(MemoryStore(Kinds()), Kinds(), [(MemoryReplica("a", bytes_max=2**20), 0.0)])
    await node.start()
    yield App(node, Keys())
    await node.stop()


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "/v1/edges/like/1/{}", b"", 200),
        ("GET", "/v1/counts/like/1", b"", 200),
        ("POST", "/v1/writes", BODY, 200),
        ("PUT", "/v1/edges/like/1/x", b"", 400),
    ],
)
async def test_requests_leave_no_cycles_behind(
    app: App, method: str, path: str, body: bytes, status: int
) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: MutableMapping[str, Any]) -> None:
        assert message.get("status", status) == status, message

    async def request(number: int) -> None:
        scope = {
            "type": "http",
            "method": method,
            "raw_path": path.format(number).encode(),
            "query_string": b"",
            "headers": [(b"content-length", str(len(body)).encode())],
        }
        await app(scope, receive, send)

    await request(0)
    gc.collect()
    gc.disable()
    try:
        for number in range(REQUESTS):
            await asyncio.create_task(request(number))
        assert gc.collect() < REQUESTS / 4  # a few may be of what goes on in the background
    finally:
        gc.enable()
