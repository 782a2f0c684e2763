"""Streams and trending over HTTP, with real nodes: what is told, resumed, refused and let go."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http.client
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

import groundswell
import nodes
from groundswell import sse
from groundswell.errors import NodeUnreachable, Overloaded, UnknownKind
from groundswell.kinds import Kinds
from groundswell.node import Node
from groundswell.replicas.memory import MemoryReplica
from groundswell.server import events
from groundswell.server.app import App
from groundswell.server.auth import Keys
from groundswell.stores.memory import MemoryStore

WAIT_S = 10.0


class Client:
    """One open stream, read event by event."""

    def __init__(self, node: nodes.Node, query: str, headers: dict[str, str] | None = None) -> None:
        self._connection = http.client.HTTPConnection(node.host, node.port, timeout=WAIT_S)
        self._connection.connect()
        # Little is on the way, so that who does not read is noticed soon.
        self._connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self._connection.request("GET", f"/v1/stream?{query}", headers=headers or {})
        self.response = self._connection.getresponse()
        self._parser = sse.Parser()
        self._ready: list[sse.Message] = []

    def next(self) -> tuple[str, dict[str, Any]]:
        """The id and the data of the next event; EOFError at the end."""
        while not self._ready:
            part = self.response.read1(65536)
            if not part:
                raise EOFError
            self._ready += self._parser.feed(part)
        message = self._ready.pop(0)
        assert message.event == "counts"
        return message.id, msgspec.json.decode(message.data)

    def until(self, count: int) -> str:
        """Read on until the first count told is this one; the id of that event."""
        while True:
            id_, data = self.next()
            if data["counts"][0]["count"] == count:
                return id_

    def is_silent(self, seconds: float = 0.3) -> bool:
        """Whether no event comes for so long."""
        sock = self.response.fp.raw._sock  # type: ignore[attr-defined]
        sock.settimeout(seconds)
        try:
            self.next()
        except TimeoutError:
            return True
        finally:
            sock.settimeout(WAIT_S)
        return False

    def close(self) -> None:
        self.response.close()
        self._connection.close()


Opener = Callable[..., Client]


@pytest.fixture
def opens() -> Iterator[Opener]:
    """Opens streams, and closes them at the end."""
    with contextlib.ExitStack() as stack:

        def open_(node: nodes.Node, query: str, headers: dict[str, str] | None = None) -> Client:
            client = Client(node, query, headers)
            stack.callback(client.close)
            assert client.response.status == 200
            return client

        yield open_


@pytest.fixture
def opened(node: nodes.Node, opens: Opener) -> Opener:
    """Opens streams of the shared node."""
    return functools.partial(opens, node)


def like(node: nodes.Node, target: int, source: int) -> None:
    assert node.request("PUT", f"/v1/edges/like/{target}/{source}").json == {"changed": True}


def streams(node: nodes.Node) -> float:
    """How many are open, as the metrics tell."""
    text = node.request("GET", "/metrics").body.decode()
    return float(text.split("\ngroundswell_streams_open ")[1].split("\n")[0])


# --- the stream -----------------------------------------------------------------------------------


def test_a_stream_begins_with_all_counts_and_tells_each_change(
    node: nodes.Node, target: int, opened: Opener
) -> None:
    node.request("PUT", f"/v1/edges/review/{target}/7", {"value": 4})
    nodes.until(
        lambda: node.request("GET", f"/v1/counts/review/{target}").json["count"] == 1,
        "it",
    )
    client = opened(f"key=like:{target}&key=review:{target}")
    headers = {name.lower(): value for name, value in client.response.getheaders()}
    assert headers["content-type"] == "text/event-stream"
    assert headers["cache-control"] == "no-store"
    id_, first = client.next()
    assert first.keys() == {"counts", "rollup", "revision", "age_ms", "served_by"}
    assert first["counts"] == [
        {"kind": "like", "target": target, "count": 0},
        {"kind": "review", "target": target, "count": 1, "sum": 4},
    ]
    assert id_ == f"1-{first['rollup']}"
    like(node, target, 1)
    _, second = client.next()
    assert second["counts"] == [{"kind": "like", "target": target, "count": 1}]
    assert second["rollup"] > first["rollup"]
    like(node, target + 500_000, 1)
    assert client.is_silent()


def test_a_hundred_keys_fit_and_all_are_told(node: nodes.Node, target: int, opened: Opener) -> None:
    targets = [target * 1000 + number for number in range(100)]
    client = opened("&".join(f"key=like:{one}" for one in targets))
    assert [one["target"] for one in client.next()[1]["counts"]] == targets
    add = {"op": "add", "kind": "like", "source": 1}
    node.request("POST", "/v1/writes", {"writes": [add | {"target": one} for one in targets]})
    assert {one["target"] for one in client.next()[1]["counts"]} == set(targets)


def test_ids_are_decoded_and_split_at_the_first_colon(node: nodes.Node, opened: Opener) -> None:
    odd = "a:b/c&d=ü %"
    client = opened(f"key=tag:{nodes.quoted(odd)}")
    assert client.next()[1]["counts"] == [{"kind": "tag", "target": odd, "count": 0}]
    node.request("PUT", f"/v1/edges/tag/{nodes.quoted(odd)}/x")
    assert client.next()[1]["counts"] == [{"kind": "tag", "target": odd, "count": 1}]


def test_a_key_given_twice_is_told_once(node: nodes.Node, target: int, opened: Opener) -> None:
    assert len(opened(f"key=like:{target}&key=like:{target}").next()[1]["counts"]) == 1


def test_a_stream_goes_on_where_another_broke_off(
    node: nodes.Node, target: int, opened: Opener
) -> None:
    query = f"key=like:{target}&key=like:{target + 500_000}"
    first = opened(query)
    first.next()
    like(node, target, 1)
    id_ = first.until(1)
    first.close()
    again = opened(query, {"Last-Event-ID": id_})
    assert again.is_silent()
    again.close()
    like(node, target, 2)
    like(node, target, 3)
    nodes.until(
        lambda: node.request("GET", f"/v1/counts/like/{target}").json["count"] == 3,
        "all three",
    )
    missed = opened(query, {"Last-Event-ID": id_})
    assert missed.next()[1]["counts"] == [{"kind": "like", "target": target, "count": 3}]
    like(node, target, 4)
    assert missed.next()[1]["counts"] == [{"kind": "like", "target": target, "count": 4}]


def test_another_epoch_is_told_all_counts(node: nodes.Node, target: int, opened: Opener) -> None:
    client = opened(f"key=like:{target}", {"Last-Event-ID": "0-999999"})
    assert client.next()[1]["counts"] == [{"kind": "like", "target": target, "count": 0}]


def test_a_stream_goes_on_after_a_restart_of_the_node(tmp_path: Path, opens: Opener) -> None:
    with nodes.running(tmp_path) as node:
        client = opens(node, "key=like:1&key=like:2")
        client.next()
        like(node, 1, 1)
        id_ = client.until(1)
        assert node.terminate() == 0
        with pytest.raises(EOFError):
            client.next()
        node.start()
        like(node, 2, 1)
        again = opens(node, "key=like:1&key=like:2", {"Last-Event-ID": id_})
        assert again.next()[1]["counts"][-1] == {"kind": "like", "target": 2, "count": 1}


def test_a_slow_client_is_told_the_newest_and_costs_no_memory(
    tmp_path: Path, opens: Opener
) -> None:
    with nodes.running(tmp_path, "--store", "memory://", toml="rollups_kept = 10\n") as node:
        wide = [f"{number:04}" + "x" * 120 for number in range(100)]
        client = opens(node, "&".join(f"key=seat:{one}" for one in wide))
        fast = opens(node, "key=like:1")
        fast.next()

        def round_(number: int) -> None:
            op = "add" if number % 2 else "remove"
            writes = [{"op": op, "kind": "seat", "target": one, "source": 1} for one in wide]
            writes.append({"op": "add", "kind": "like", "target": 1, "source": number})
            answer = node.request("POST", "/v1/writes", {"writes": writes})
            assert answer.status == 200
            fast.until(number)

        for number in range(1, 100):
            round_(number)
        before = resident(node.pid)
        for number in range(100, 400):
            round_(number)
        assert resident(node.pid) - before < 2 * 2**20  # what it was not sent is 5 MB
        told = 0
        while True:
            told += 1
            _, data = client.next()
            if data["rollup"] >= 399:
                break
        assert told < 300
        assert [item["count"] for item in data["counts"]] == [1] * 100


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def test_a_client_that_goes_away_is_let_go(node: nodes.Node, target: int, opened: Opener) -> None:
    nodes.until(lambda: streams(node) == 0, "those of other tests have been let go")
    clients = [opened(f"key=like:{target}") for _ in range(5)]
    assert streams(node) == 5
    for client in clients:
        client.close()
    nodes.until(lambda: streams(node) == 0, "no stream is open")


def test_only_the_head_of_a_stream_ends_at_once(node: nodes.Node, target: int) -> None:
    nodes.until(lambda: streams(node) == 0, "those of other tests have been let go")
    answer = node.request("HEAD", f"/v1/stream?key=like:{target}")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-type"] == "text/event-stream"
    assert streams(node) == 0


def test_the_end_of_the_node_ends_streams(tmp_path: Path, opens: Opener) -> None:
    with nodes.running(tmp_path) as node:
        clients = [opens(node, "key=like:1") for _ in range(3)]
        for client in clients:
            client.next()
        began_s = time.monotonic()
        assert node.terminate() == 0
        assert time.monotonic() - began_s < 5
        for client in clients:
            with pytest.raises(EOFError):
                client.next()
        assert "Traceback" not in node.output()


def test_no_more_streams_than_allowed(tmp_path: Path, opens: Opener) -> None:
    with nodes.running(tmp_path, toml="streams_max = 2\n") as node:
        clients = [opens(node, "key=like:1") for _ in range(2)]
        refused = node.request("GET", "/v1/stream?key=like:1")
        nodes.problem(refused, 503, "overloaded")
        assert refused.headers["retry-after"] == "1"
        like(node, 1, 1)
        clients[0].close()
        nodes.until(lambda: streams(node) == 1, "one stream is open")
        opens(node, "key=like:1")


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 400, "bad-request"),
        ("key=", 400, "bad-request"),
        ("key=like", 400, "bad-request"),
        ("key=like:", 400, "bad-request"),
        ("key=like:x", 400, "bad-request"),
        ("key=like:07", 400, "bad-request"),
        ("key=like:1&keys=like:2", 400, "bad-request"),
        ("key=like:1&key=lik:2", 404, "unknown-kind"),
        ("key=:1", 404, "unknown-kind"),
        ("key=tag:" + "x" * 129, 413, "too-large"),
        ("&".join(f"key=like:{n}" for n in range(101)), 413, "too-large"),
        ("&".join(f"key=like:{n}" for n in range(1_001)), 400, "bad-request"),
    ],
)
def test_keys_that_do_not_fit_are_refused(
    node: nodes.Node, query: str, status: int, code: str
) -> None:
    nodes.problem(node.request("GET", f"/v1/stream?{query}"), status, code)


def test_a_bad_token_is_refused_as_anywhere(node: nodes.Node) -> None:
    for path in ("/v1/stream?key=like:1", "/v1/trending/like"):
        nodes.problem(node.request("GET", path, tokens="garbage"), 400, "bad-token")


@pytest.mark.parametrize("id_", ["x", "1", "1-x", "-", "1-2-3", "%31-1"])
def test_an_id_that_is_none_is_refused(node: nodes.Node, id_: str) -> None:
    headers = {"Last-Event-ID": id_}
    answer = node.request("GET", "/v1/stream?key=like:1", headers=headers)
    nodes.problem(answer, 400, "bad-request")


# --- trending -------------------------------------------------------------------------------------


def test_what_grew_is_listed(tmp_path: Path) -> None:
    with nodes.running(tmp_path) as node:
        writes = [
            {"op": "add", "kind": "like", "target": target, "source": source}
            for target in (1, 2, 3)
            for source in range(target * 2)
        ]
        node.request("POST", "/v1/writes", {"writes": writes})
        nodes.until(
            lambda: len(node.request("GET", "/v1/trending/like").json["trending"]) == 3,
            "three",
        )
        answer = node.request("GET", "/v1/trending/like?window_s=60&limit=2").json
        assert answer["trending"] == [
            {"target": 3, "growth": 6, "count": 6},
            {"target": 2, "growth": 4, "count": 4},
        ]
        assert (answer["window_s"], answer["exact"]) == (60, True)
        assert 0 < answer["since_s"] < 60
        assert answer["read"]["consistency"] == "eventual"
        assert answer["read"]["served_by"] == "replica-a"
        assert answer["read"]["age_ms"] >= 0
        assert node.request("GET", "/v1/trending/follow").json["trending"] == []
        assert node.terminate() == 0
        node.start()
        like(node, 3, 99)
        like(node, 3, 100)
        nodes.until(
            lambda: node.request("GET", "/v1/counts/like/3").json["count"] == 8,
            "eight",
        )
        young = node.request("GET", "/v1/trending/like").json
        assert all(one["growth"] <= 2 for one in young["trending"])
        assert young["since_s"] < 60


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("nope", 404, "unknown-kind"),
        ("like?window_s=0", 400, "bad-request"),
        ("like?window_s=3601", 400, "bad-request"),
        ("like?window_s=x", 400, "bad-request"),
        ("like?limit=0", 400, "bad-request"),
        ("like?limit=101", 400, "bad-request"),
        ("like?limit=1&limit=2", 400, "bad-request"),
        ("like?limits=1", 400, "bad-request"),
    ],
)
def test_trending_that_does_not_fit_is_refused(
    node: nodes.Node, path: str, status: int, code: str
) -> None:
    nodes.problem(node.request("GET", f"/v1/trending/{path}"), status, code)


# --- one connection, as the server sees it --------------------------------------------------------


class Connection:
    """An ASGI server's side of one request, which takes parts only when it is let."""

    def __init__(self, app: App) -> None:
        self.offered: list[MutableMapping[str, Any]] = []
        self.sent: list[MutableMapping[str, Any]] = []
        self.taking = asyncio.Event()
        self.taking.set()
        self.gone = asyncio.Event()
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/v1/stream",
            "raw_path": b"/v1/stream",
            "query_string": b"key=like:1",
            "headers": [],
        }
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    async def _receive(self) -> MutableMapping[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        self.offered.append(message)
        await self.taking.wait()
        self.sent.append(message)

    @property
    def bodies(self) -> list[bytes]:
        return [message.get("body", b"") for message in self.sent[1:]]


@pytest.fixture
async def made() -> AsyncIterator[Node]:
    node = Node(MemoryStore(Kinds()), Kinds(), [(MemoryReplica("a", bytes_max=2**20), 0.0)])
    await node.start()
    yield node
    await node.stop()


async def so(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@pytest.mark.anyio
async def test_a_silent_stream_gives_signs_of_life(
    made: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.02)
    connection = Connection(App(made, Keys()))
    await so(lambda: connection.bodies.count(sse.ALIVE) > 3)
    connection.gone.set()
    await connection.task
    assert len(made.streams) == 0


@pytest.mark.anyio
async def test_a_client_that_takes_nothing_is_let_go(
    made: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "SEND_S", 0.05)
    connection = Connection(App(made, Keys()))
    await so(lambda: len(connection.bodies) > 1)
    connection.taking.clear()
    await groundswell.Groundswell(made).session().add("like", 1, 1)
    end = {"type": "http.response.body", "body": b""}
    await so(lambda: connection.offered[-1] == end)
    connection.taking.set()
    await connection.task
    assert connection.sent[-1] == end
    assert len(made.streams) == 0


@pytest.mark.anyio
async def test_a_client_that_takes_nothing_does_not_hold_up_the_end(
    made: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "LAST_S", 0.05)
    app = App(made, Keys())
    connection = Connection(app)
    await so(lambda: len(connection.bodies) > 1)
    connection.taking.clear()
    app.stop()
    async with asyncio.timeout(2):
        await connection.task


# --- the Python client ----------------------------------------------------------------------------


@pytest.mark.anyio
async def test_the_client_goes_on_by_itself_over_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("groundswell.client.RECONNECTS", 9)  # 50 s: a busy machine starts slowly
    with nodes.running(tmp_path) as node:
        async with (
            groundswell.connect(node.url) as gs,
            contextlib.aclosing(gs.stream([("like", 1)])) as told,
        ):
            assert [count.value for count in await anext(told)] == [0]
            await asyncio.to_thread(node.terminate)
            restart = asyncio.create_task(asyncio.to_thread(node.start))
            following = asyncio.ensure_future(anext(told))
            await restart
            await asyncio.to_thread(like, node, 1, 1)
            async with asyncio.timeout(WAIT_S):
                assert [count.value for count in await following] == [1]


@pytest.mark.anyio
async def test_the_client_gives_up_on_a_node_that_stays_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("groundswell.client.RECONNECT_S", 0.01)
    with nodes.running(tmp_path) as node:
        async with groundswell.connect(node.url) as gs:
            told = gs.stream([("like", 1)])
            await anext(told)
            await asyncio.to_thread(node.terminate)
            with pytest.raises(NodeUnreachable, match="could not be resumed"):
                async with asyncio.timeout(WAIT_S):
                    await anext(told)
            with pytest.raises(NodeUnreachable, match="Cannot connect"):
                await anext(gs.stream([("like", 1)]))


@pytest.mark.anyio
async def test_the_client_raises_what_the_node_refuses(tmp_path: Path) -> None:
    with nodes.running(tmp_path, toml="streams_max = 1\n") as node:
        async with groundswell.connect(node.url) as gs:
            with pytest.raises(UnknownKind):
                await anext(gs.stream([("nope", 1)]))
            async with contextlib.aclosing(gs.stream([("like", 1)])) as told:
                await anext(told)
                with pytest.raises(Overloaded):
                    await anext(gs.stream([("like", 1)]))
            await asyncio.to_thread(nodes.until, lambda: streams(node) == 0, "no stream")
