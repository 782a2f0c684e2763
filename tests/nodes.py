"""Real nodes for tests: `groundswell serve` as a child process that never outlives its test."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from groundswell.processes import end_with_parent

START_S = 60.0  # generous: the machine may be busy
STOP_S = 30.0

# Two text ids, so that ids may hold anything; and a level of its own.
KINDS = """
[kinds.tag]
source = "text"
target = "text"
inverse = true

[kinds.poll]
unique = false
target = "text"

[kinds.friend]
source = "uuid"
target = "uuid"
consistency = "eventual"
"""

T = TypeVar("T")
Body = bytes | Mapping[str, Any] | list[Any] | None


class Answer:
    """A response, read whole."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def token(self) -> str:
        return self.headers["groundswell-session"]

    def __repr__(self) -> str:
        return f"{self.status} {self.headers} {self.body[:500]!r}"


class Node:
    """One node on one store file; may be stopped, killed and started again."""

    def __init__(
        self,
        folder: Path,
        *flags: str,
        toml: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.store = folder / "groundswell.db"
        self.log = folder / "node.log"
        self.host = "127.0.0.1"
        self.port = 0
        self._flags = flags
        self._environment = clean_environment() | dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        if toml:
            (folder / "groundswell.toml").write_text(toml, "utf-8")

    @property
    def url(self) -> str:
        return (
            f"http://[{self.host}]:{self.port}"
            if ":" in self.host
            else f"http://{self.host}:{self.port}"
        )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, on the port it had before if there is one, and wait until it is ready."""
        assert self._process is None
        began = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*COMMAND, "serve", "--port", str(self.port), *self._flags],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=end_with_parent,
            )
        deadline_s = time.monotonic() + START_S
        while not self._is_ready(began):
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                said = self.log.read_text("utf-8", "replace")
                self.reap()
                raise AssertionError(f"the node did not start: {said}")
            time.sleep(0.02)

    def _is_ready(self, began: int) -> bool:
        said = self.log.read_bytes()[began:].decode("utf-8", "replace")
        found = re.search(r"listens on http://(\S+):(\d+)", said)
        if found is None:
            return False
        self.host = found[1].strip("[]").replace("0.0.0.0", "127.0.0.1")
        self.port = int(found[2])
        try:
            return self.request("GET", "/readyz").status == 200
        except OSError:
            return False

    def terminate(self) -> int:
        """SIGTERM, and its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end; the exit code."""
        assert self._process is not None
        try:
            return self._process.wait(STOP_S)
        finally:
            self.reap()

    def signal_terminate(self) -> None:
        """SIGTERM, without waiting."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: no chance to finish anything."""
        self.reap()

    def reap(self) -> None:
        """Make sure that it is gone."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def output(self) -> str:
        """All it has printed and logged so far."""
        return self.log.read_text("utf-8", "replace")

    # --- requests -------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        body: Body = None,
        *,
        tokens: str | list[str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request on a connection of its own; `body` as JSON unless it is bytes."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for token in [tokens] if isinstance(tokens, str) else tokens or []:
                connection.putheader("Groundswell-Session", token)
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            content = body if body is None or isinstance(body, bytes) else msgspec.json.encode(body)
            if content is not None:
                connection.putheader("Content-Length", str(len(content)))
            connection.endheaders(content)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def raw(self, sent: bytes, *, finish: bool = False) -> Answer | None:
        """Bytes as they are; `finish` says that no more will come. None if no response came."""
        with socket.create_connection((self.host, self.port), timeout=30) as connection:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(sent)
                if finish:
                    connection.shutdown(socket.SHUT_WR)
            response = http.client.HTTPResponse(connection)
            try:
                response.begin()
                return Answer(response)
            except (http.client.HTTPException, ConnectionError):
                return None
            finally:
                response.close()

    def count(self, kind: str, target: object) -> int:
        """The linearizable count."""
        answer = self.request("GET", f"/v1/counts/{kind}/{target}?consistency=linearizable")
        assert answer.status == 200, answer
        found = answer.json["count"]
        assert isinstance(found, int)
        return found

    def sources(self, kind: str, target: object) -> list[Any]:
        """The sources of the whole list, page by page."""
        found: list[Any] = []
        path = f"/v1/edges/{kind}/{target}?limit=1000"
        cursor: str | None = ""
        while cursor is not None:
            answer = self.request("GET", path + (f"&cursor={cursor}" if cursor else ""))
            assert answer.status == 200, answer
            found += [edge["source"] for edge in answer.json["edges"]]
            cursor = answer.json["next"]
        return found


COMMAND = (sys.executable, "-m", "groundswell")


def clean_environment() -> dict[str, str]:
    """This process's environment without settings of ours, so that tests mean the same everywhere."""
    own = {n: v for n, v in os.environ.items() if not n.startswith(("GROUNDSWELL_", "COLUMNS"))}
    return own | {"NO_COLOR": "1"}


@contextlib.contextmanager
def running(
    folder: Path, *flags: str, toml: str = "", environment: Mapping[str, str] | None = None
) -> Iterator[Node]:
    """A node that is ready; gone at the end, whatever happened."""
    node = Node(folder, *flags, toml=toml, environment=environment)
    try:
        node.start()
        yield node
    finally:
        node.reap()


def command(
    folder: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 60.0,
) -> subprocess.CompletedProcess[str]:
    """One run of the `groundswell` command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env=clean_environment() | dict(environment or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def quoted(id_: str) -> str:
    """An id as it stands in a path."""
    return quote(id_, safe="")


def until(check: Callable[[], object], what: str, *, within_s: float = START_S) -> None:
    """Wait until `check` says yes."""
    deadline_s = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline_s, f"waited in vain: {what}"
        time.sleep(0.02)


def together(times: int, call: Callable[[int], T]) -> list[T]:
    """The results of as many calls, all begun at the same moment."""
    barrier = threading.Barrier(times)

    def one(number: int) -> T:
        barrier.wait(20)
        return call(number)

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(one, range(times)))


def problem(answer: Answer | None, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is this problem, well formed; the problem."""
    assert answer is not None
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json
    assert (found["status"], found["code"]) == (status, code), answer
    assert found["title"], answer
    assert found["detail"].endswith((".", "?")), answer
    assert urlsplit(found.get("type", "about:blank")).scheme == "about"
    return found
