from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping

import pytest

from groundswell import sse
from groundswell.client import RECONNECTS, HttpApi
from groundswell.errors import NodeUnreachable
from groundswell.transport import Answer

pytestmark = pytest.mark.anyio

EVENT = b'{"counts":[],"rollup":1,"revision":"1:1:","age_ms":0.0,"served_by":"replica-a"}'


class Scripted:
    """A transport whose streams bring what they are told to, and end."""

    def __init__(self, *streams: list[bytes]) -> None:
        self.streams = list(streams)
        self.asked: list[str | None] = []

    async def send(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        raise AssertionError("nothing is sent")

    async def stream(
        self, path: str, headers: Mapping[str, str]
    ) -> AsyncGenerator[bytes | Answer, None]:
        self.asked.append(headers.get(sse.LAST_EVENT_ID))
        for part in self.streams.pop(0) if self.streams else []:
            yield part

    async def close(self) -> None:
        pass


async def test_a_stream_that_only_ever_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("groundswell.client.RECONNECT_S", 0.0)
    transport = Scripted([sse.ALIVE, sse.encode("1-1", "counts", EVENT)])
    told = HttpApi(transport).stream([("like", 1)])
    assert (await anext(told)).rollup == 1
    with pytest.raises(NodeUnreachable, match="could not be resumed"):
        await anext(told)
    assert transport.asked == [None, *["1-1"] * RECONNECTS]


async def test_a_stream_that_never_begins_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("groundswell.client.RECONNECT_S", 0.0)
    transport = Scripted()
    with pytest.raises(NodeUnreachable):
        await anext(HttpApi(transport).stream([("like", 1)]))
    assert transport.asked == [None] * (RECONNECTS + 1)


async def test_signs_of_life_are_a_fresh_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("groundswell.client.RECONNECT_S", 0.0)
    event = sse.encode("1-1", "counts", EVENT)
    transport = Scripted([event], *[[]] * 4, [sse.ALIVE], *[[]] * 4, [event])
    told = HttpApi(transport).stream([("like", 1)])
    assert [(await anext(told)).rollup for _ in range(2)] == [1, 1]
