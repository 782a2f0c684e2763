"""Histories: what clients asked and were told, on one clock, as the clients saw it.

A history is black box: it holds what went over the wire, never what a node knows about itself. On disk
it is JSON lines, one for each invocation, written before the request is sent, and one for each
completion; an invocation without one is an operation whose outcome nobody knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import IO, Final, Literal

import msgspec

NEVER: Final = 2**63 - 1  # the end of what has no known end

Verb = Literal[
    "add",  # edges, each of a source that adds it once; all in one atomic write
    "remove",  # an edge that this session added
    "count",  # counts of keys, all at one revision
    "edge",  # whether an edge exists
    "put",  # an object, with a value that nobody else writes
    "get",  # the value of an object
    "transfer",  # an amount from one account to another
    "balance",  # of an account
    "give",  # the session's token, to whoever takes it
    "take",  # a token that was given, before the session's next request
]


class Op(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One operation: its invocation and, where there was one, its completion. Times in ns.

    `ok`: it happened, and `found` is what was answered. `fail`: it did not happen, and never will.
    `info`: nobody knows; a write may take effect at any later time, or never.
    """

    id: int  # by invocation
    session: int
    f: Verb
    keys: list[str]
    start: int
    values: list[
        int
    ] = []  # what a write writes: per key; of a transfer its amount, of a token its id
    level: str | None = None  # asked for by a read
    max_age_ms: int | None = None
    node: int = 0  # that was asked
    end: int = NEVER
    type: Literal["ok", "fail", "info"] = "info"
    found: list[int | None] = []  # per key: counts, values (None: nothing there), balances
    pending: list[int] = []  # per key: how much of a count is the session's own, added on top
    versions: list[int] = []  # per key, of objects
    tries: int = 1  # of a write that was sent again because no answer came
    served_by: str | None = None
    age_ms: float | None = None
    error: str | None = None  # code of what was raised

    @property
    def may_have_happened(self) -> bool:
        """Whether the operation took effect, or may have."""
        return self.type != "fail"


class Invoked(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="type", tag="invoke"):
    """The line of an invocation; `i` numbers the operation, `s` the session, `t` is in ns."""

    i: int
    t: int
    s: int
    f: Verb
    k: list[str]
    v: list[int] = []
    level: str | None = None
    max_age_ms: int | None = None
    node: int = 0


class _Completed(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="type"):
    i: int
    t: int
    found: list[int | None] = []
    pending: list[int] = []
    versions: list[int] = []
    tries: int = 1
    served_by: str | None = None
    age_ms: float | None = None
    error: str | None = None


class Ok(_Completed, tag="ok"):
    """The line of an operation that happened."""


class Failed(_Completed, tag="fail"):
    """The line of an operation that did not happen."""


class Unknown(_Completed, tag="info"):
    """The line of an operation that nobody will know more about."""


Line = Invoked | Ok | Failed | Unknown
_COMPLETED: Final[dict[str, type[Ok | Failed | Unknown]]] = {
    "ok": Ok,
    "fail": Failed,
    "info": Unknown,
}


class History:
    """Operations as they are recorded; with a file, each line is there before the next request."""

    def __init__(self, clock: Callable[[], int], file: IO[bytes] | None = None) -> None:
        self.ops: list[Op] = []
        self._clock = clock  # ns, never backwards, the same for all sessions
        self._file = file

    def invoke(
        self,
        session: int,
        f: Verb,
        keys: list[str],
        values: Iterable[int] = (),
        *,
        level: str | None = None,
        max_age_ms: int | None = None,
        node: int = 0,
    ) -> Op:
        """Note that an operation begins; call it just before the request is sent."""
        op = Op(
            id=len(self.ops),
            session=session,
            f=f,
            keys=keys,
            values=list(values),
            level=level,
            max_age_ms=max_age_ms,
            node=node,
            start=self._clock(),
        )
        self.ops.append(op)
        self._write(_invoked(op))
        return op

    def complete(self, op: Op, type: Literal["ok", "fail", "info"]) -> None:
        """Note how it ended; what was answered stands in the operation already."""
        now = self._clock()
        op.type = type
        if type != "info":
            op.end = now
        self._write(_completed(op, now))

    def _write(self, line: Line) -> None:
        if self._file is not None:
            self._file.write(msgspec.json.encode(line) + b"\n")


def dump(ops: Iterable[Op]) -> Iterator[bytes]:
    """A history as JSON lines, in order of time."""
    lines: list[tuple[int, int, Line]] = []
    for op in ops:
        lines.append((op.start, 0, _invoked(op)))
        end = op.start if op.end == NEVER else op.end
        lines.append((end, 1, _completed(op, end)))
    for _, _, line in sorted(lines, key=lambda line: line[:2]):
        yield msgspec.json.encode(line) + b"\n"


def load(lines: Iterable[bytes]) -> list[Op]:
    """The operations of a recorded history; a line that is cut off at the end counts as not written."""
    ops: dict[int, Op] = {}
    decoder = msgspec.json.Decoder(Line)
    for text in lines:
        if not text.endswith(b"\n"):
            break
        line = decoder.decode(text)
        if isinstance(line, Invoked):
            ops[line.i] = _op(line)
        else:
            _end(ops[line.i], line)
    return [ops[id_] for id_ in sorted(ops)]


def _invoked(op: Op) -> Invoked:
    return Invoked(
        i=op.id,
        t=op.start,
        s=op.session,
        f=op.f,
        k=op.keys,
        v=op.values,
        level=op.level,
        max_age_ms=op.max_age_ms,
        node=op.node,
    )


def _completed(op: Op, now: int) -> Ok | Failed | Unknown:
    return _COMPLETED[op.type](
        i=op.id,
        t=now,
        found=op.found,
        pending=op.pending,
        versions=op.versions,
        tries=op.tries,
        served_by=op.served_by,
        age_ms=op.age_ms,
        error=op.error,
    )


def _op(line: Invoked) -> Op:
    return Op(
        id=line.i,
        session=line.s,
        f=line.f,
        keys=line.k,
        values=line.v,
        level=line.level,
        max_age_ms=line.max_age_ms,
        node=line.node,
        start=line.t,
    )


def _end(op: Op, line: Ok | Failed | Unknown) -> None:
    op.type = "ok" if isinstance(line, Ok) else "fail" if isinstance(line, Failed) else "info"
    if op.type != "info":
        op.end = line.t
    op.found, op.pending, op.versions = line.found, line.pending, line.versions
    op.tries = line.tries
    op.served_by, op.age_ms, op.error = line.served_by, line.age_ms, line.error
