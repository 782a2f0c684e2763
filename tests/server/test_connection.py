"""HTTP/1.1 as it is spoken on the wire: framing, order, limits, and clients that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundswell.server import connection
from groundswell.server.connection import Connection, Serving
from groundswell.server.run import free_port, listening

pytestmark = pytest.mark.anyio

HOST: Final = "127.0.0.1"
GET: Final = b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n"
POST: Final = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b"
SOON_S: Final = 20.0  # for what comes at once where the machine is not busy


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


class Application:
    """Answers by the path."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.gone = asyncio.Event()
        self.waiting = 0  # requests for /wait that have come
        self.received = 0  # bytes of bodies
        self.sent = 0  # parts of streams

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        name = scope["path"].split("/")[1]
        await getattr(self, f"_{name}")(scope, receive, send)

    async def _echo(self, scope: Any, receive: Any, send: Any) -> None:
        size = await self._read(receive)
        told = {
            "method": scope["method"],
            "path": scope["path"],
            "raw": scope["raw_path"].decode(),
            "query": scope["query_string"].decode(),
            "headers": [[name.decode(), value.decode()] for name, value in scope["headers"]],
            "body": size,
        }
        await answer(send, json.dumps(told).encode())

    async def _early(self, scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"no", status=413)

    async def _wait(self, scope: Any, receive: Any, send: Any) -> None:
        self.waiting += 1
        await self.released.wait()
        await answer(send, scope["raw_path"])

    async def _hold(self, scope: Any, receive: Any, send: Any) -> None:
        """Takes the body only once it may."""
        await self.released.wait()
        await answer(send, b"%d" % await self._read(receive))

    async def _stream(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"b")]})
        for part in (b"one", b"", b"two"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})

    async def _endless(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        part = {"type": "http.response.body", "body": b"x" * 65536, "more_body": True}
        try:
            while True:
                await send(part)
                self.sent += 1
        except ConnectionResetError:
            self.gone.set()
            raise

    async def _watch(self, scope: Any, receive: Any, send: Any) -> None:
        """Goes on until the client has gone."""
        self.waiting += 1
        while (await receive())["type"] != "http.disconnect":
            pass
        self.gone.set()
        await answer(send, b"bye")

    async def _unchanged(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 304, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def _boom(self, scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("on purpose")

    async def _half(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("on purpose")

    async def _silent(self, scope: Any, receive: Any, send: Any) -> None:
        """Forgets to answer."""

    async def _read(self, receive: Any) -> int:
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return -1
            size += len(message["body"])
            self.received += len(message["body"])
            more = message["more_body"]
        return size


async def answer(send: Any, body: bytes, status: int = 200) -> None:
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def told(self) -> Any:
        return json.loads(self.body)


class Client:
    """A client that writes bytes, and reads answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, *, head: bool = False) -> Answer:
        async with asyncio.timeout(SOON_S):
            status, headers = await self.head()
            if head or status in (100, 204, 304):
                return Answer(status, headers, b"")
            if headers.get("transfer-encoding") == "chunked":
                return Answer(status, headers, await self._chunks())
            if "content-length" not in headers:
                return Answer(status, headers, await self.reader.read())
            return Answer(
                status, headers, await self.reader.readexactly(int(headers["content-length"]))
            )

    async def head(self) -> tuple[int, dict[str, str]]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
        pairs = [line.split(": ", 1) for line in lines[1:]]
        assert len({name for name, _ in pairs}) == len(pairs), lines
        version, status, _ = lines[0].split(" ", 2)
        assert version == "HTTP/1.1"
        return int(status), dict(pairs)

    async def _chunks(self) -> bytes:
        parts = []
        while size := int(await self.reader.readline(), 16):
            parts.append(await self.reader.readexactly(size))
            assert await self.reader.readexactly(2) == b"\r\n"
        assert await self.reader.readexactly(2) == b"\r\n"
        return b"".join(parts)

    async def closed(self) -> bytes:
        """What comes until the server closes."""
        async with asyncio.timeout(SOON_S):
            with contextlib.suppress(ConnectionResetError):
                return await self.reader.read()
            return b""


class Server:
    """An application that is served, and its clients."""

    def __init__(self) -> None:
        self.application = Application()
        self.port = free_port(HOST, 0)
        self._writers: list[asyncio.StreamWriter] = []

    async def connect(self) -> Client:
        reader, writer = await asyncio.open_connection(HOST, self.port)
        self._writers.append(writer)
        return Client(reader, writer)

    @contextlib.asynccontextmanager
    async def serving(self, **options: int) -> AsyncIterator[None]:
        async with listening(self.application, HOST, self.port, **options):
            yield

    async def close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@pytest.fixture
async def stopped() -> AsyncIterator[Server]:
    """One that has yet to be started."""
    made = Server()
    yield made
    await made.close()


@pytest.fixture
async def server(stopped: Server) -> AsyncIterator[Server]:
    async with stopped.serving():
        yield stopped
        stopped.application.released.set()
        stopped.application.gone.set()


async def eventually(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON_S):
        while not true():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


# --- requests and answers -------------------------------------------------------------------------


async def test_one_connection_answers_many_requests(server: Server) -> None:
    client = await server.connect()
    for path in (b"/echo", b"/echo/a%2Fb?x=1&y=", b"/echo#part"):
        client.send(GET % path)
        found = await client.answer()
        assert found.status == 200
        assert found.headers["content-type"] == "text/plain"
        assert found.headers["date"].endswith(" GMT")
        assert "connection" not in found.headers
    client.send(GET % b"/echo/a%2Fb?x=1&y=")
    told = (await client.answer()).told
    assert told["method"] == "GET"
    assert (told["path"], told["raw"], told["query"]) == ("/echo/a/b", "/echo/a%2Fb", "x=1&y=")
    assert told["headers"] == [["host", "a"]]
    assert told["body"] == 0


async def test_requests_sent_ahead_are_answered_in_order(server: Server) -> None:
    client = await server.connect()
    paths = [b"/wait/%d" % number for number in range(3 * connection.AHEAD_MAX)]
    client.send(b"".join(GET % path for path in paths) + POST % (3, b"abc"))
    await eventually(lambda: server.application.waiting == 1)
    server.application.released.set()
    for path in paths:
        assert (await client.answer()).body == path
    assert (await client.answer()).told["body"] == 3


async def test_wherever_a_request_is_cut_it_is_the_same(server: Server) -> None:
    client = await server.connect()
    whole = POST % (4, b"abcd")
    client.send(whole)
    expected = (await client.answer()).body
    for cut in range(1, len(whole)):
        client.send(whole[:cut])
        await client.writer.drain()
        await asyncio.sleep(0.001)
        client.send(whole[cut:])
        assert (await client.answer()).body == expected


@pytest.mark.parametrize("size", [1, 1_000, 3_000_000])
async def test_bodies_of_any_size(server: Server, size: int) -> None:
    client = await server.connect()
    client.send(POST % (size, b"x" * size))
    assert (await client.answer()).told["body"] == size
    chunks = b"".join(b"%x\r\n%b\r\n" % (part, b"x" * part) for part in [size] * 2)
    client.send(
        b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n%b0\r\nX-After: y\r\n\r\n"
        % chunks
    )
    told = (await client.answer()).told
    assert told["body"] == 2 * size
    assert told["headers"] == [["transfer-encoding", "chunked"]]
    client.send(GET % b"/echo")
    assert (await client.answer()).told["headers"] == [["host", "a"]]


async def test_answers_without_a_length_are_chunked(server: Server) -> None:
    client = await server.connect()
    client.send(GET % b"/stream")
    found = await client.answer()
    assert (found.body, found.headers["x-a"]) == (b"onetwo", "b")
    client.send(b"GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    found = await client.answer()  # whose end is that of the connection
    assert (found.body, found.headers["connection"]) == (b"onetwo", "close")
    assert "transfer-encoding" not in found.headers


async def test_head_and_not_modified_have_no_body(server: Server) -> None:
    client = await server.connect()
    client.send(b"HEAD /stream HTTP/1.1\r\n\r\nHEAD /echo HTTP/1.1\r\n\r\n" + GET % b"/unchanged")
    assert (await client.answer(head=True)).headers["transfer-encoding"] == "chunked"
    assert int((await client.answer(head=True)).headers["content-length"]) > 0
    found = await client.answer()
    assert found.status == 304
    assert "content-length" not in found.headers
    client.send(GET % b"/echo")
    assert (await client.answer()).status == 200


@pytest.mark.parametrize(
    ("request_line", "connection_header", "keeps"),
    [
        (b"GET /echo HTTP/1.1", b"", True),
        (b"GET /echo HTTP/1.1", b"Connection: close\r\n", False),
        (b"GET /echo HTTP/1.0", b"", False),
        (b"GET /echo HTTP/1.0", b"Connection: keep-alive\r\n", True),
    ],
)
async def test_who_closes(
    server: Server, request_line: bytes, connection_header: bytes, keeps: bool
) -> None:
    client = await server.connect()
    client.send(request_line + b"\r\n" + connection_header + b"\r\n")
    found = await client.answer()
    if keeps:
        expected = "keep-alive" if b"1.0" in request_line else None
        assert found.headers.get("connection") == expected
        client.send(GET % b"/echo")
        assert (await client.answer()).status == 200
    else:
        assert found.headers["connection"] == "close"
        assert await client.closed() == b""


async def test_what_follows_the_last_request_is_not_read(server: Server) -> None:
    client = await server.connect()
    client.send(b"GET /echo HTTP/1.1\r\nConnection: close\r\n\r\n" + GET % b"/echo" + b"\x00")
    assert (await client.answer()).status == 200
    assert await client.closed() == b""


async def test_a_client_that_waits_for_a_100_is_told_to_go_on(server: Server) -> None:
    client = await server.connect()
    client.send(b"POST /echo HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert (await client.answer()).status == 100
    client.send(b"ab")
    assert (await client.answer()).told["body"] == 2
    client.send(b"POST /early HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    found = await client.answer()  # without its body
    assert (found.status, found.headers["connection"]) == (413, "close")


async def test_an_answer_before_the_body_is_read_by_the_client_that_sends_on(
    server: Server,
) -> None:
    client = await server.connect()
    size = 8_000_000
    client.send(b"POST /early HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size)
    for _ in range(80):
        client.send(b"x" * (size // 100))
        with contextlib.suppress(ConnectionResetError):
            await client.writer.drain()
    found = await client.answer()
    assert (found.status, found.body) == (413, b"no")
    assert await client.closed() == b""


async def test_an_upgrade_is_not_made(server: Server) -> None:
    client = await server.connect()
    client.send(b"GET /echo HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nPRI * HTTP/2.0")
    found = await client.answer()
    assert (found.status, found.headers["connection"]) == (200, "close")
    assert await client.closed() == b""


async def test_the_form_for_proxies(server: Server) -> None:
    client = await server.connect()
    client.send(GET % b"http://a.example:80/echo/b?c")
    told = (await client.answer()).told
    assert (told["raw"], told["query"]) == ("/echo/b", "c")


async def test_what_the_application_does_wrong(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    for path in (b"/boom", b"/silent"):
        client = await server.connect()
        client.send(GET % path)
        found = await client.answer()
        assert (found.status, found.told["code"]) == (500, "internal")
        assert await client.closed() == b""
        assert path.decode() in caplog.text
    client = await server.connect()
    client.send(GET % b"/half")
    assert not (await client.closed()).endswith(b"0\r\n\r\n")  # it is not taken for whole


# --- what cannot be read --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"nonsense\r\n\r\n",
        b"BREW /echo HTTP/1.1\r\n\r\n",  # no method that the parser knows
        b"GET /echo\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"GET /echo HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",
        b"GET /echo HTTP/1.1\r\nBad name: b\r\n\r\n",
        b"GET /echo HTTP/1.1\nHost: a\n\n",
        b"POST /echo HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nContent-Length: +3\r\n\r\nabc",
        b"GET /echo HTTP/2.0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_told_so_after_the_answers_that_are_owed(
    server: Server, sent: bytes
) -> None:
    client = await server.connect()
    client.send(GET % b"/wait/1" + GET % b"/wait/2" + sent)
    await eventually(lambda: server.application.waiting == 1)
    server.application.released.set()
    assert (await client.answer()).body == b"/wait/1"
    assert (await client.answer()).body == b"/wait/2"
    found = await client.answer()
    assert (found.status, found.told["code"]) == (400, "bad-request")
    assert "Nothing was changed" in found.told["detail"]
    assert found.headers["connection"] == "close"
    assert await client.closed() == b""


@pytest.mark.parametrize(
    "body", [b"zz\r\n", b"3\r\nabcd\r\n0\r\n\r\n", b"1;" + b"e" * connection.HEAD_BYTES_MAX * 16]
)
async def test_a_body_that_cannot_be_read_is_a_body_that_ends(server: Server, body: bytes) -> None:
    client = await server.connect()
    client.send(b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    found = await client.answer()
    assert found.told["body"] == -1
    assert found.headers["connection"] == "close"
    assert await client.closed() == b""


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /echo HTTP/1.1\r\nA: " + b"a" * 4 * connection.HEAD_BYTES_MAX,
        b"GET /" + b"a" * 4 * connection.HEAD_BYTES_MAX,
        b"GET /echo HTTP/1.1\r\n" + b"A: b\r\n" * (connection.HEADERS_MAX + 1) + b"\r\n",
    ],
)
async def test_a_head_is_limited(server: Server, sent: bytes) -> None:
    client = await server.connect()
    client.send(sent)
    found = await client.answer()
    assert (found.status, found.told["code"]) == (431, "bad-request")
    assert await client.closed() == b""


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from(
                [
                    GET % b"/echo",
                    POST % (3, b"abc"),
                    b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
                    b"3\r\nabc\r\n",
                    b"0\r\n\r\n",
                    b"\r\n",
                    b"Connection: close\r\n",
                ]
            ),
        ),
        max_size=8,
    )
)
def test_no_bytes_break_it(parts: list[bytes]) -> None:
    """Every sequence of bytes is answered, or refused, and the connection is done in the end."""

    async def run() -> None:
        serving = Serving(Application(), connections_max=10)
        transport = Recorded()
        made = Connection(serving)
        transport.protocol = made
        made.connection_made(transport)
        for part in parts:
            if not transport.closing:
                made.data_received(part)
            await asyncio.sleep(0)
        if not transport.closing and not made.eof_received():
            transport.close()
        async with asyncio.timeout(SOON_S):
            while serving.connections:  # noqa: ASYNC110 - it tells only when it stops
                await asyncio.sleep(0)
        assert transport.written.count(b"HTTP/1.1 500") == 0
        assert transport.written.count(b"HTTP/1.1 4") <= 1 + transport.written.count(b"-1")

    asyncio.run(run())


class Recorded(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.protocol: Connection
        self.written = b""
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    abort = close
    write_eof = close

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


# --- clients that go, stall, or are too many --------------------------------------------------------


async def test_a_client_that_has_gone_is_noticed(server: Server) -> None:
    client = await server.connect()
    client.send(GET % b"/watch")
    await eventually(lambda: server.application.waiting == 1)
    client.writer.transport.abort()
    async with asyncio.timeout(SOON_S):
        await server.application.gone.wait()


async def test_a_client_that_sends_nothing_more_is_answered(server: Server) -> None:
    client = await server.connect()
    client.send(GET % b"/wait/1" + GET % b"/wait/2" + b"GET /wait/3 HTT")
    client.writer.write_eof()
    await eventually(lambda: server.application.waiting == 1)
    server.application.released.set()
    assert (await client.answer()).body == b"/wait/1"
    assert (await client.answer()).body == b"/wait/2"
    assert await client.closed() == b""
    client = await server.connect()
    client.send(POST % (10, b"half"))
    client.writer.write_eof()
    assert (await client.answer()).told["body"] == -1
    assert await client.closed() == b""


@pytest.mark.parametrize("busy", [False, True])
async def test_a_client_that_reads_nothing_holds_nobody_up(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    busy: bool,
) -> None:
    if busy:  # so that answers wait for the end of a turn
        (await server.connect()).send(GET % b"/wait/1")
        await eventually(lambda: server.application.waiting == 1)
    deaf = await server.connect()
    deaf.writer.transport.pause_reading()  # type: ignore[attr-defined]
    deaf.send(GET % b"/endless")
    sent = -1
    while sent < server.application.sent:  # until the buffers are full
        sent = server.application.sent
        await asyncio.sleep(0.2)
    client = await server.connect()
    client.send(GET % b"/echo")
    assert (await client.answer()).status == 200
    assert not server.application.gone.is_set()
    monkeypatch.setattr(connection, "ANSWER_S", 0.1)
    async with asyncio.timeout(SOON_S):
        await server.application.gone.wait()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_body_that_nobody_reads_is_not_taken_in(server: Server) -> None:
    client = await server.connect()
    size = 64 * 1024 * 1024
    client.send(b"POST /hold HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size)
    client.writer.transport.set_write_buffer_limits(high=1)
    gone = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1.0):
            while gone < size:
                client.send(b"x" * 65536)
                gone += 65536
                await client.writer.drain()
    assert gone < size
    server.application.released.set()
    while gone < size:
        client.send(b"x" * 65536)
        gone += 65536
        await client.writer.drain()
    assert int((await client.answer()).body) == size


async def test_a_body_that_is_never_read_does_not_stop_the_connection(server: Server) -> None:
    client = await server.connect()
    size = connection.AHEAD_BYTES_MAX + 1_000
    client.send(GET % b"/wait/1")
    await eventually(lambda: server.application.waiting == 1)
    client.send(b"POST /wait/2 HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size)
    client.send(b"x" * (size - 2_000))
    await asyncio.sleep(0.3)
    client.send(b"x" * 2_000)  # which are more than are taken in, and the last ones
    await asyncio.sleep(0.3)
    server.application.released.set()
    assert (await client.answer()).body == b"/wait/1"
    found = await client.answer()
    assert found.body == b"/wait/2"
    if "connection" not in found.headers:  # its body had come whole
        client.send(GET % b"/echo")
        assert (await client.answer()).status == 200


@pytest.mark.parametrize(
    ("sent", "limit", "status"),
    [
        (b"GET /echo HTTP/1.1\r\nA: ", "HEAD_S", 408),
        (b"", "IDLE_S", None),
        (GET % b"/echo", "IDLE_S", 200),
    ],
)
async def test_a_client_that_stalls_is_let_go(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    sent: bytes,
    limit: str,
    status: int | None,
) -> None:
    monkeypatch.setattr(connection, limit, 0.1)
    client = await server.connect()
    client.send(sent)
    if status is not None:
        assert (await client.answer()).status == status
    assert await client.closed() == b""


async def test_a_body_that_does_not_come_ends(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BODY_S", 0.1)
    client = await server.connect()
    client.send(POST % (10, b"half"))
    assert (await client.answer()).told["body"] == -1
    assert await client.closed() == b""


async def test_too_many_connections_are_told_so(stopped: Server) -> None:
    async with stopped.serving(connections_max=2):
        clients = [await stopped.connect() for _ in range(2)]
        for client in clients:
            client.send(GET % b"/echo")
            assert (await client.answer()).status == 200
        found = await (await stopped.connect()).answer()
        assert (found.status, found.told["code"]) == (503, "overloaded")
        assert int(found.headers["retry-after"]) > 0
        clients[0].writer.close()
        async with asyncio.timeout(SOON_S):
            while True:
                client = await stopped.connect()
                client.send(GET % b"/echo")
                if (await client.answer()).status == 200:
                    break


# --- the end --------------------------------------------------------------------------------------


async def test_a_stop_answers_what_was_accepted_and_closes_the_rest(stopped: Server) -> None:
    async with stopped.serving():
        idle, busy = await stopped.connect(), await stopped.connect()
        idle.send(GET % b"/echo")
        await idle.answer()
        busy.send(GET % b"/wait/1")
        await eventually(lambda: stopped.application.waiting == 1)
        asyncio.get_running_loop().call_later(0.3, stopped.application.released.set)
    found = await busy.answer()
    assert (found.body, found.headers["connection"]) == (b"/wait/1", "close")
    assert await busy.closed() == b""
    assert await idle.closed() == b""
    with pytest.raises(OSError, match=r"."):
        await stopped.connect()


async def test_an_answer_that_is_not_made_does_not_hold_up_a_stop(
    stopped: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("groundswell.server.run.STOP_S", 0.5)
    async with stopped.serving():
        client = await stopped.connect()
        client.send(GET % b"/wait/1")
        await eventually(lambda: stopped.application.waiting == 1)
    assert "took too long" in caplog.text
    stopped.application.released.set()
    assert await client.closed() == b""


async def test_connections_leave_no_cycles_behind(server: Server) -> None:
    async def once() -> None:
        client = await server.connect()
        for _ in range(3):
            client.send(POST % (3, b"abc"))
            await client.answer()
        client.writer.close()
        await client.writer.wait_closed()

    await once()
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            await once()
        await asyncio.sleep(0.1)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        assert not [found for found in gc.garbage if isinstance(found, Connection)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
