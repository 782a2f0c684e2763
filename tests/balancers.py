"""A real HAProxy on deploy/haproxy.cfg, of which only the addresses are changed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from groundswell.processes import end_with_parent
from groundswell.server.run import free_port

CONFIG = Path(__file__).parent.parent / "deploy" / "haproxy.cfg"
START_S = 30.0

needs_haproxy = pytest.mark.skipif(
    shutil.which("haproxy") is None, reason="HAProxy is not installed: apt-get install haproxy"
)


class Balancer:
    """Where it listens, and its administration."""

    def __init__(self, folder: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.admin_socket = folder / "admin.sock"
        self.log = folder / "haproxy.log"

    def tell(self, command: str) -> str:
        """What it answers to a line on its socket."""
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(str(self.admin_socket))
            admin.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: admin.recv(65_536), b"")).decode()

    def states(self) -> dict[str, str]:
        """Of each node: UP, DOWN, DRAIN, ..."""
        lines = self.tell("show stat").splitlines()
        rows = [line.split(",") for line in lines if line.startswith("nodes,")]
        status = lines[0].split(",").index("status")
        return {row[1]: row[status] for row in rows if row[1] != "BACKEND"}


def adapted(text: str, port: int, admin_socket: Path, addresses: Sequence[str]) -> str:
    """The configuration for these addresses, and as many nodes as there are."""
    first = re.search(r"^( +server node-)1 \S+(.*)\n", text, re.MULTILINE)
    assert first is not None
    servers = "".join(
        f"{first[1]}{number} {address}{first[2]}\n" for number, address in enumerate(addresses, 1)
    )
    text = re.sub(r"^ +server node-.*\n", "", text, flags=re.MULTILINE) + servers
    for old, new in (
        ("bind :80\n", f"bind 127.0.0.1:{port}\n"),
        ("/run/haproxy/admin.sock", str(admin_socket)),
    ):
        assert old in text
        text = text.replace(old, new)
    return text


@contextlib.contextmanager
def balanced(folder: Path, urls: Sequence[str]) -> Iterator[Balancer]:
    """One in front of the nodes with these URLs; gone at the end."""
    folder.mkdir()
    port = free_port("127.0.0.1", 0)
    made = Balancer(folder, port)
    addresses = [url.removeprefix("http://") for url in urls]
    text = adapted(CONFIG.read_text("utf-8"), port, made.admin_socket, addresses)
    with haproxy(folder, text, made.log) as process:
        _wait(made, process)
        yield made


@contextlib.contextmanager
def haproxy(folder: Path, text: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A HAProxy with this configuration; gone at the end."""
    if os.geteuid() != 0:  # it cannot become another user then
        text = re.sub(r"^ +(user|group) haproxy\n", "", text, flags=re.MULTILINE)
    config = folder / "haproxy.cfg"
    config.write_text(text)
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["haproxy", "-db", "-f", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            preexec_fn=end_with_parent,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _wait(made: Balancer, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + START_S
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{made.url}/readyz", timeout=5):
            return
        if process.poll() is not None or time.monotonic() > deadline_s:
            raise AssertionError(f"HAProxy did not start: {made.log.read_text()}")
        time.sleep(0.02)
