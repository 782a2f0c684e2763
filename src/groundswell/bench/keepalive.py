"""An HTTP client that leaves the machine to those who are measured: a blocking socket, kept open."""

from __future__ import annotations

import re
import socket
from typing import Final, Self
from urllib.parse import urlsplit

TIMEOUT_S: Final = 30.0
CHUNK: Final = 1 << 18

_TOKEN: Final = re.compile(rb"\r\ngroundswell-session: *([^\r]+)", re.IGNORECASE)
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def request(method: str, path: str, body: bytes = b"", token: str = "") -> bytes:
    """A request as it is sent, in the session of the token if there is one."""
    kind = "Content-Type: application/json\r\n" if body else ""
    session = f"Groundswell-Session: {token}\r\n" if token else ""
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: x\r\n{kind}{session}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Client:
    """One connection."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((str(parts.hostname), parts.port or 80), TIMEOUT_S)
        self.token = ""  # of the last answer
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def send(self, raw: bytes) -> bytes:
        """The body of the answer; raises if it is none of status 200."""
        self._socket.sendall(raw)
        got = self._socket.recv(CHUNK)
        while (end := got.find(b"\r\n\r\n")) < 0:
            got += self._more()
        length = _LENGTH.search(got, 0, end)
        if not got.startswith(b"HTTP/1.1 200") or length is None:
            raise RuntimeError(f"refused: {got[:500]!r}")
        if token := _TOKEN.search(got, 0, end):
            self.token = token[1].decode()
        parts = [got[end + 4 :]]
        left = int(length[1]) - len(parts[0])
        while left > 0:
            parts.append(self._more())
            left -= len(parts[-1])
        return b"".join(parts)

    def _more(self) -> bytes:
        got = self._socket.recv(CHUNK)
        if not got:
            raise RuntimeError("the connection was closed")
        return got
