"""Server-sent events as text: what the WHATWG HTML standard calls the event stream format. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

CONTENT_TYPE: Final = "text/event-stream"
LAST_EVENT_ID: Final = "Last-Event-ID"
ALIVE: Final = b": alive\n\n"
EVENT_BYTES_MAX: Final = 4 * 1024 * 1024


class Message(msgspec.Struct, frozen=True):
    """One event."""

    id: str
    event: str
    data: bytes


def encode(id_: str, event: str, data: bytes) -> bytes:
    """One event; `data` holds no line break. An empty `id_` is left out: nothing goes on from there."""
    line = b"id: %b\n" % id_.encode() if id_ else b""
    return b"%bevent: %b\ndata: %b\n\n" % (line, event.encode(), data)


class Parser:
    """Events out of bytes, however they were cut up on the way."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, part: bytes) -> Iterator[Message]:
        """The events that are complete now; raises ValueError for one without an end."""
        *blocks, self._rest = (self._rest + part).replace(b"\r\n", b"\n").split(b"\n\n")
        if len(self._rest) > EVENT_BYTES_MAX:
            raise ValueError("an event without an end")
        for block in blocks:
            fields = dict(_fields(block))
            if b"data" in fields:
                id_, event = fields.get(b"id", b""), fields.get(b"event", b"message")
                yield Message(id_.decode(), event.decode(), fields[b"data"])


def _fields(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    for line in block.split(b"\n"):
        name, _, value = line.partition(b":")
        if name:  # not a comment
            yield name, value.removeprefix(b" ")
