"""Histories in the formats of other checkers, so that ours need not be taken at their word.

What objects were written and read goes to Elle (list-append, EDN; https://github.com/jepsen-io/elle) and
to Plume and AWDIT (text lines `w(key,value,session,transaction)`); likes and counts, too, to models
for Porcupine (JSON lines; https://github.com/anishathalye/porcupine).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from groundswell.verify.history import NEVER, Op
from groundswell.verify.shape import OBJECTS


def porcupine(ops: Sequence[Op], *levels: str) -> Iterator[bytes]:
    """Operations that were linearizable or wrote: a line each, a key each.

    `client`, `key`, `op` (add, remove, put, count, get), `value` (what it wrote, or read; null: nothing
    was there), `call` and `return` in ns; `return` is null where nobody knows whether it happened.
    """
    for op in ops:
        writes = op.f in ("add", "remove", "put") and op.may_have_happened
        if not writes and not (op.f in ("count", "get") and op.type == "ok" and op.level in levels):
            continue
        for key, value in zip(op.keys, op.values if writes else op.found, strict=True):
            line: dict[str, Any] = {"client": op.session, "key": key, "op": op.f, "value": value}
            line |= {"call": op.start, "return": None if op.end == NEVER else op.end}
            yield msgspec.json.encode(line) + b"\n"


def plume(ops: Sequence[Op], *levels: str) -> Iterator[bytes]:
    """Objects as registers, each operation a transaction; 0 is what is there before any write.

    A write of which nobody knows stands in a session of its own, if anybody read it.
    """
    read = {value for op in ops if op.f == "get" for value in op.found}
    alone = max((op.session for op in ops), default=0) + 1
    for op in ops:
        if op.f == "put" and (op.type == "ok" or (op.type == "info" and op.values[0] in read)):
            session = op.session if op.type == "ok" else alone + op.id
            yield _plume("w", op.keys[0], op.values[0], session, op.id)
        elif op.f == "get" and op.type == "ok" and op.level in levels:
            yield _plume("r", op.keys[0], op.found[0] or 0, op.session, op.id)


def _plume(what: str, key: str, value: int, session: int, txn: int) -> bytes:
    return f"{what}({OBJECTS.index(key)},{value},{session},{txn})\n".encode()


def elle(ops: Sequence[Op], *levels: str) -> Iterator[bytes]:
    """Objects as lists: a write appends its value, and a read shows all values up to its version.

    The order of an object's values is that of the versions which were told with them. A session whose
    operation has an unknown outcome goes on as another process.
    """
    lists = _lists(ops)
    processes = _processes(ops)
    events: list[tuple[int, int, str]] = []
    for op in ops:
        if op.f == "put":
            done = asked = f"[:append :{op.keys[0]} {op.values[0]}]"
        elif op.f == "get" and op.level in levels:
            asked = f"[:r :{op.keys[0]} nil]"
            shown = lists[op.keys[0]](op.versions[0]) if op.type == "ok" else []
            done = f"[:r :{op.keys[0]} [{' '.join(map(str, shown))}]]"
        else:
            continue
        told = f":f :txn, :process {processes[op.id]}"
        events.append((op.start, 0, f":type :invoke, :value [{asked}], {told}, :time {op.start}"))
        # Nobody knows when what is unknown ended; it has to stand somewhere after its beginning.
        end = op.start if op.end == NEVER else op.end
        what = done if op.type == "ok" else asked
        events.append((end, 1, f":type :{op.type}, :value [{what}], {told}, :time {end}"))
    for index, (_, _, event) in enumerate(sorted(events, key=lambda event: event[:2])):
        yield f"{{{event}, :index {index}}}\n".encode()


def _lists(ops: Sequence[Op]) -> dict[str, Callable[[int], list[int]]]:
    """Of each object, the values up to a version, as far as anybody was told of them."""
    values: dict[str, dict[int, int]] = {name: {} for name in OBJECTS}
    for op in ops:
        if op.type == "ok" and op.f in ("put", "get") and op.versions[0]:
            value = op.values[0] if op.f == "put" else op.found[0]
            values[op.keys[0]][op.versions[0]] = value or 0

    def of(name: str) -> Callable[[int], list[int]]:
        told = sorted(values[name].items())
        return lambda version: [value for at, value in told if at <= version]

    return {name: of(name) for name in OBJECTS}


def _processes(ops: Sequence[Op]) -> dict[int, int]:
    """The process of each operation: a new one after each whose outcome is not known."""
    current: dict[int, int] = {}
    found: dict[int, int] = {}
    fresh = 0
    lost: defaultdict[int, bool] = defaultdict(lambda: True)
    for op in ops:
        if lost[op.session]:
            current[op.session], fresh = fresh, fresh + 1
        found[op.id] = current[op.session]
        lost[op.session] = op.type == "info"
    return found


FORMATS: Final = {"elle": elle, "plume": plume, "porcupine": porcupine}
