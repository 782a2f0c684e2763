"""What each checker is given, taken from a history."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from groundswell.verify.checks.facts import (
    Aged,
    Balance,
    Change,
    Counted,
    Got,
    Page,
    Paid,
    Seen,
    Step,
    Txn,
    Wrote,
)
from groundswell.verify.history import Op
from groundswell.verify.shape import BOUNDED, grows

MS: Final = 1_000_000  # ns


def level_of(op: Op) -> str | None:
    """The level of a read as its session has it: a read with a highest age is bounded."""
    return op.level if op.max_age_ms is None else BOUNDED


def reads(ops: Sequence[Op], f: str, *levels: str) -> Iterator[Op]:
    """The reads that were answered; at these levels, or at any."""
    return (
        op for op in ops if op.f == f and op.type == "ok" and (not levels or level_of(op) in levels)
    )


def adds(ops: Sequence[Op], name: str) -> list[Change]:
    """The likes of a target that happened or may have."""
    return [
        Change(op.id, op.start, op.end)
        for op in ops
        if op.f == "add" and op.may_have_happened and name in op.keys
    ]


def changes(ops: Sequence[Op], name: str) -> list[Change]:
    """The likes of a target, and those taken back."""
    taken_back = [
        Change(op.id, op.start, op.end, -1)
        for op in ops
        if op.f == "remove" and op.may_have_happened and name in op.keys
    ]
    return adds(ops, name) + taken_back


def seen(ops: Sequence[Op], name: str, *levels: str) -> list[Seen]:
    """What counts of a target were read."""
    return [
        Seen(op.id, op.start, op.end, op.found[op.keys.index(name)] or 0)
        for op in reads(ops, "count", *levels)
        if name in op.keys
    ]


def aged(ops: Sequence[Op], name: str) -> list[Aged]:
    """The same with the age that each told; those that told none are left out."""
    return [
        Aged(op.id, op.start, op.end, op.found[op.keys.index(name)] or 0, round(op.age_ms * MS))
        for op in reads(ops, "count")
        if name in op.keys and op.age_ms is not None
    ]


def pages(ops: Sequence[Op]) -> list[Page]:
    """Several counts that were read at once, as they were shown."""
    return [
        Page(op.id, {name: count or 0 for name, count in zip(op.keys, op.found, strict=True)})
        for op in reads(ops, "count")
        if len(op.keys) > 1
    ]


def bases(ops: Sequence[Op]) -> list[Page]:
    """The same without what was the session's own and added on top: the state of the replica."""
    return [
        Page(
            op.id,
            {
                name: (count or 0) - pending
                for name, count, pending in zip(op.keys, op.found, op.pending, strict=True)
                if grows(name)
            },
        )
        for op in reads(ops, "count")
        if len(op.keys) > 1
    ]


def counted(ops: Sequence[Op], *levels: str) -> list[Counted]:
    """What sessions did with targets that only grow: adds of all, counts of those at the levels."""
    found: list[Counted] = []
    for op in ops:
        if op.type != "ok":
            continue
        if op.f == "give" or op.f == "take":
            found.append(Counted(op.id, op.session, op.f, value=op.values[0]))
        elif op.f == "add":
            found += [Counted(op.id, op.session, "add", name) for name in op.keys if grows(name)]
        elif op.f == "count" and level_of(op) in levels:
            found += [
                Counted(op.id, op.session, "count", name, count or 0)
                for name, count in zip(op.keys, op.found, strict=True)
                if grows(name)
            ]
    return found


def steps(ops: Sequence[Op], *levels: str) -> list[Step]:
    """What sessions did with objects: all that they wrote, and what they read at the levels."""
    return [
        Step(
            op.id,
            op.session,
            op.keys[0],
            op.f == "put",
            op.versions[0],
            op.values[0] if op.f == "put" else op.found[0],
        )
        for op in ops
        if op.type == "ok" and (op.f == "put" or (op.f == "get" and level_of(op) in levels))
    ]


def wrote(ops: Sequence[Op], name: str) -> list[Wrote]:
    """What was written to an object, or may have been."""
    return [
        Wrote(op.id, op.start, op.end, op.values[0])
        for op in ops
        if op.f == "put" and op.may_have_happened and op.keys == [name]
    ]


def got(ops: Sequence[Op], name: str, *levels: str) -> list[Got]:
    """What was read of an object."""
    return [
        Got(op.id, op.start, op.end, op.found[0])
        for op in reads(ops, "get", *levels)
        if op.keys == [name]
    ]


def transactions(ops: Sequence[Op], *levels: str) -> list[Txn]:
    """Objects and tokens as registers: all writes, and what was read at the levels."""
    found: list[Txn] = []
    for op in ops:
        if op.f == "put" and op.may_have_happened:
            # What is not known to have happened is nothing its session can build on.
            session = op.session if op.type == "ok" else -1 - op.id
            found.append(Txn(op.id, session, {}, {op.keys[0]: op.values[0]}))
        elif op.f == "give":
            found.append(Txn(op.id, op.session, {}, {f"token {op.values[0]}": op.values[0]}))
        elif op.f == "take":
            found.append(Txn(op.id, op.session, {f"token {op.values[0]}": op.values[0]}, {}))
        elif op.f == "get" and op.type == "ok" and level_of(op) in levels:
            found.append(Txn(op.id, op.session, {op.keys[0]: op.found[0]}, {}))
    return found


def paid(ops: Sequence[Op]) -> list[Paid]:
    """The transfers that happened or may have; their id is the operation's."""
    return [
        Paid(op.id, op.start, op.end, str(op.id), op.keys[0], op.keys[1], op.values[0])
        for op in ops
        if op.f == "transfer" and op.may_have_happened
    ]


def balances(ops: Sequence[Op], *levels: str) -> list[Balance]:
    """What was read of accounts."""
    return [
        Balance(op.id, op.start, op.end, op.keys[0], op.found[0] or 0)
        for op in reads(ops, "balance", *levels)
    ]
