"""Traces: who did what to whom, and when, read from files of real actions.

Two formats of actions are recognised by their first line, plain or gzipped:

- Groundswell's own CSV, with the header `t,kind,target,source,op`;
- SNAP's Higgs activity log, without a header: `userA userB unix_ts KIND`, KIND one of RT, MT, RE.

The Higgs log has no likes. Whatever activity a row logs, "A did something to B" is read as source A
adds a `like` to target B; which activities to keep is said with `only`.

A third format holds discussions: the CSV of messages `id,parent_id,discussion,t`.
"""

from __future__ import annotations

import csv
import gc
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import inf, isfinite
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

ACTION_COLUMNS = ("t", "kind", "target", "source", "op")
THREAD_COLUMNS = ("id", "parent_id", "discussion", "t")
HIGGS_ACTIVITIES = ("RT", "MT", "RE")
OPS = frozenset({"add", "remove", "tally"})
ID_LENGTH_MAX = 128

_GZIP_MAGIC = b"\x1f\x8b"
_HIGGS_EXPECTED = "'userA userB unix_ts KIND' with KIND one of RT, MT, RE"
_HIGGS_ROW = re.compile(r"[0-9]{1,19} [0-9]{1,19} [0-9]{1,12} (?:RT|MT|RE)\r?\n")
_PLAIN_INT = re.compile(r"0|-?[1-9][0-9]*")


class Action(NamedTuple):
    """One thing that somebody did."""

    t: float  # seconds since the epoch
    kind: str
    target: int | str
    source: int | str
    op: str  # add, remove or tally


class Message(NamedTuple):
    """One message of a discussion."""

    t: float  # seconds since the epoch
    id: int
    parent: int  # id of the message it replies to; 0 opens a discussion
    discussion: int | str


class TraceError(ValueError):
    """A trace cannot be read or written: `path`, the `line` if one is at fault, the `problem`."""

    def __init__(self, path: Path, problem: str, *, line: int | None = None) -> None:
        place = str(path) if line is None else f"{path}, line {line}"
        super().__init__(f"{place}: {problem}")
        self.path = path
        self.line = line
        self.problem = problem


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Keep the garbage collector from walking through half a million new tuples again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@_collector_paused()
def read_trace(
    path: Path, *, since: float | None = None, until: float | None = None, only: str | None = None
) -> list[Action]:
    """The actions of a file with since <= t < until, sorted by time.

    Actions of the same time keep the order of the file. `only` names the activity to keep in a
    Higgs log (RT, MT or RE), and the kind to keep in Groundswell's CSV. In the CSV an id written
    as a plain decimal integer is an int, any other is a str. Rows that are not kept are checked
    all the same.

    Raises TraceError when the file is missing, unreadable or in neither format, at the first
    malformed line, and when `only` is no activity of a Higgs log.
    """
    text = _text(path)
    first = text.partition("\n")[0]
    low = -inf if since is None else since
    high = inf if until is None else until
    if first.rstrip("\r") == ",".join(ACTION_COLUMNS):
        kept = [
            action
            for action in _csv_actions(path, text)
            if low <= action.t < high and only in (None, action.kind)
        ]
    elif _higgs_end(first + "\n"):
        kept = _higgs_actions(path, text + "\n", low, high, only)
    else:
        wanted = f"the header '{','.join(ACTION_COLUMNS)}' or {_HIGGS_EXPECTED}"
        raise TraceError(path, _expected(wanted, first), line=1)
    kept.sort(key=attrgetter("t"))
    return kept


def write_trace(path: Path, actions: Iterable[Action]) -> None:
    """Write actions as Groundswell's CSV, gzipped if the name ends in `.gz`.

    The same actions give the same bytes. Reading the file gives them back, sorted by time; only a
    str id that looks like a decimal integer comes back as an int.

    Raises TraceError, and writes nothing, at the first action that could not be read back.
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(ACTION_COLUMNS)
    for line, action in enumerate(actions, start=2):
        row = [repr(float(action.t)), *map(str, action[1:])]
        try:
            _action(row)
        except ValueError as error:
            raise TraceError(path, str(error), line=line) from None
        writer.writerow(row)
    content = out.getvalue().encode()
    try:
        path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    except OSError as error:
        raise TraceError(path, f"cannot be written: {error.strerror or error}") from error


@_collector_paused()
def read_threads(path: Path) -> list[Message]:
    """The messages of discussions, sorted by time, so that every parent comes before its replies.

    Messages of the same time keep the order of the file.

    Raises TraceError when the file is missing, unreadable or malformed, when an id comes twice, and
    when the parent of a reply is absent or not strictly earlier than the reply.
    """
    lines: list[int] = []
    messages: list[Message] = []
    for line, row in _csv_rows(path, _text(path), THREAD_COLUMNS):
        try:
            messages.append(_message(row))
        except ValueError as error:
            raise TraceError(path, str(error), line=line) from None
        lines.append(line)
    _check_parents(path, messages, lines)
    return sorted(messages, key=attrgetter("t"))


def _text(path: Path) -> str:
    """The content of a file, unzipped, without line ends after its last line."""
    try:
        content = path.read_bytes()
        if content.startswith(_GZIP_MAGIC):
            content = gzip.decompress(content)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise TraceError(path, f"expected a complete gzip file: {error}") from error
    except OSError as error:
        raise TraceError(path, f"cannot be read: {error.strerror or error}") from error
    try:
        return content.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TraceError(path, "expected text in UTF-8", line=line) from error


def _expected(wanted: str, found: str) -> str:
    """What to say of something that is not as it should be."""
    return f"expected {wanted}, found {found[:80]!r}"


def _higgs_actions(
    path: Path, text: str, low: float, high: float, only: str | None
) -> list[Action]:
    """The actions of a Higgs log; `text` ends with the end of its last line."""
    if only is not None and only not in HIGGS_ACTIVITIES:
        wanted = f"one of {', '.join(HIGGS_ACTIVITIES)} as the activity to keep of a Higgs log"
        raise TraceError(path, _expected(wanted, only))
    end = _higgs_end(text)
    if end < len(text):
        bad = text[end:].partition("\n")[0]
        raise TraceError(path, _expected(_HIGGS_EXPECTED, bad), line=text.count("\n", 0, end) + 1)
    words = text.split()
    sources, targets, times, activities = (words[column::4] for column in range(4))
    return [
        Action(at, "like", int(target), int(source), "add")
        for source, target, t, activity in zip(sources, targets, times, activities, strict=True)
        if (only is None or activity == only) and low <= (at := float(t)) < high
    ]


def _higgs_end(text: str) -> int:
    """Where the rows of a Higgs log, each with its end of line, stop being well-formed."""
    end = 0
    for row in _HIGGS_ROW.finditer(text):
        if row.start() != end:
            break
        end = row.end()
    return end


def _csv_actions(path: Path, text: str) -> Iterator[Action]:
    for line, row in _csv_rows(path, text, ACTION_COLUMNS):
        try:
            yield _action(row)
        except ValueError as error:
            raise TraceError(path, str(error), line=line) from None


def _csv_rows(path: Path, text: str, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Each row under the header with the number of its line; every row has all columns."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = ",".join(columns)
    try:
        first = next(reader, [])
        if first != list(columns):
            raise TraceError(path, _expected(f"the header '{header}'", ",".join(first)), line=1)
        for row in reader:
            if len(row) != len(columns):
                raise TraceError(
                    path, _expected(f"'{header}'", ",".join(row)), line=reader.line_num
                )
            yield reader.line_num, row
    except csv.Error as error:
        problem = f"expected CSV with '{header}': {error}"
        raise TraceError(path, problem, line=reader.line_num) from error


def _action(row: Sequence[str]) -> Action:
    """The action in the five texts of a row; a ValueError says what was expected."""
    t, kind, target, source, op = row
    if op not in OPS:
        raise ValueError(_expected("add, remove or tally as op", op))
    return Action(_time(t), _name(kind, "kind"), _id(target, "target"), _id(source, "source"), op)


def _message(row: Sequence[str]) -> Message:
    """The message in the four texts of a row; a ValueError says what was expected."""
    own, parent, discussion, t = row
    message = Message(
        _time(t), _number(own, "id"), _number(parent, "parent_id"), _id(discussion, "discussion")
    )
    if message.id == 0:
        raise ValueError(_expected("an id other than 0, which means no parent", own))
    return message


def _time(text: str) -> float:
    try:
        t = float(text)
    except ValueError:
        t = inf
    if not isfinite(t):
        raise ValueError(_expected("seconds since the epoch as t", text))
    return t


def _number(text: str, column: str) -> int:
    if len(text) > ID_LENGTH_MAX or not _PLAIN_INT.fullmatch(text):
        raise ValueError(_expected(f"a whole number as {column}", text))
    return int(text)


def _name(text: str, column: str) -> str:
    if not 0 < len(text) <= ID_LENGTH_MAX or not text.isprintable():
        wanted = f"1 to {ID_LENGTH_MAX} printable characters as {column}"
        raise ValueError(_expected(wanted, text))
    return text


def _id(text: str, column: str) -> int | str:
    name = _name(text, column)
    return int(name) if _PLAIN_INT.fullmatch(name) else name


def _check_parents(path: Path, messages: Sequence[Message], lines: Sequence[int]) -> None:
    """Raise TraceError for an id that comes twice, or a parent not strictly earlier."""
    time_of: dict[int, float] = {}
    for message, line in zip(messages, lines, strict=True):
        if message.id in time_of:
            raise TraceError(path, f"expected each id once, found {message.id} again", line=line)
        time_of[message.id] = message.t
    for message, line in zip(messages, lines, strict=True):
        if message.parent and time_of.get(message.parent, inf) >= message.t:
            wanted = f"a parent of message {message.id} that is in the file and strictly earlier"
            raise TraceError(path, _expected(wanted, str(message.parent)), line=line)
