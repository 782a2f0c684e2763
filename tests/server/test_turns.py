"""When answers are sent: those of one turn of the loop together, none of them late, and none lost."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from groundswell.server.connection import OWED_BYTES_MAX, Connection, Serving

pytestmark = pytest.mark.anyio

GET: Final = b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n"
LAST: Final = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
TURNS: Final = 5  # of the loop, more than an answer takes


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


class Wire(asyncio.Transport):
    """Keeps what is written, and says in `events` when."""

    def __init__(self, name: str, events: list[str]) -> None:
        super().__init__()
        self.name = name
        self.events = events
        self.written = b""
        self.ends: list[str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.ends, "written to after its end"
        self.written += data
        self.events.append(f"{self.name} sent")

    def is_closing(self) -> bool:
        return bool(self.ends)

    def close(self) -> None:
        self.ends.append("close")

    def abort(self) -> None:
        self.ends.append("abort")

    def write_eof(self) -> None:
        pass


class Served:
    """Connections to an application that answers with its path, at once, except to /wait."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.release = asyncio.Event()
        self.serving = Serving(self._application, connections_max=10)

    async def _application(self, scope: Any, receive: Any, send: Any) -> None:
        name = scope["path"][1:]
        if name == "wait":
            await self.release.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if name == "half":
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
            raise RuntimeError("on purpose")
        if name == "long":
            part = {"type": "http.response.body", "body": b"x" * OWED_BYTES_MAX, "more_body": True}
            for _ in range(3):
                await send(part)
            self.events.append(f"sent before the end: {'long sent' in self.events}")
        await send({"type": "http.response.body", "body": name.encode()})
        self.events.append(f"{name} answered")

    def connect(self, name: str) -> tuple[Connection, Wire]:
        made, wire = Connection(self.serving), Wire(name, self.events)
        made.connection_made(wire)
        return made, wire

    def busy(self) -> None:
        """Let somebody wait for an answer all through the test."""
        self.connect("waiting")[0].data_received(GET % b"wait")


@pytest.fixture
async def served() -> Served:
    return Served()


async def turns(count: int = TURNS) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_answers_of_one_turn_are_sent_after_all_of_them_are_made(served: Served) -> None:
    names = [b"a", b"b", b"c"]
    made = [served.connect(name.decode()) for name in names]
    for (connection, _), name in zip(made, names, strict=True):
        connection.data_received(GET % name)
    await turns(1)
    # The last one is alone by then, and no reason to wait.
    assert served.events == ["a answered", "b answered", "c sent", "c answered"]
    await turns(1)
    assert served.events[4:] == ["a sent", "b sent"]
    assert all(wire.written.endswith(name) for (_, wire), name in zip(made, names, strict=True))


async def test_the_answer_to_a_lone_request_is_sent_at_once(served: Served) -> None:
    connection, _ = served.connect("a")
    connection.data_received(GET % b"a")
    await turns(1)
    assert served.events == ["a sent", "a answered"]


async def test_requests_of_one_connection_are_answered_in_their_order(served: Served) -> None:
    served.busy()
    connection, wire = served.connect("a")
    connection.data_received(GET % b"first" + GET % b"second" + GET % b"third")
    await turns(3 * TURNS)
    heads = wire.written.split(b"HTTP/1.1 200 OK")[1:]
    assert [head.split(b"\r\n\r\n")[1] for head in heads] == [b"first", b"second", b"third"]


@pytest.mark.parametrize("by", ["answer", "client", "stop"])
async def test_what_is_owed_is_sent_before_the_connection_ends(served: Served, by: str) -> None:
    served.busy()
    connection, wire = served.connect("a")
    connection.data_received(LAST if by == "answer" else GET % b"last")
    await turns(1)
    assert "last answered" in served.events
    if by == "client":  # nothing is under way: the loop closes the connection
        assert not connection.eof_received()
    elif by == "stop":
        connection.stop()
    assert wire.written.endswith(b"\r\n\r\nlast")
    assert wire.ends == ([] if by == "client" else ["close"])
    await turns()
    assert served.events.count("a sent") == 1


async def test_a_client_that_is_cut_off_has_what_was_sent(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    served.busy()
    connection, wire = served.connect("a")
    connection.data_received(GET % b"half")
    await turns()
    assert b"half" in wire.written
    assert wire.ends == ["abort"]
    assert "on purpose" in caplog.text


async def test_what_is_owed_to_a_client_that_has_gone_is_dropped(served: Served) -> None:
    served.busy()
    connection, wire = served.connect("a")
    connection.data_received(GET % b"a")
    await turns(1)
    connection.connection_lost(None)
    await turns()
    assert served.events == ["a answered"]
    assert wire.written == b""


async def test_little_waits_for_the_end_of_a_turn(served: Served) -> None:
    """A long answer is sent as it is made, so that a slow client can hold its maker up."""
    served.busy()
    connection, wire = served.connect("long")
    connection.data_received(GET % b"long")
    await turns()
    assert "sent before the end: True" in served.events
    assert wire.written.count(b"x") == 3 * OWED_BYTES_MAX
