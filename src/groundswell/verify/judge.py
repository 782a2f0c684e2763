"""The verdict on a history: every checker on all that it can judge."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence, Sized
from typing import Final

import msgspec

from groundswell.model import Level
from groundswell.verify import views
from groundswell.verify.checks import (
    bank,
    causal,
    converge,
    counter,
    growth,
    pages,
    register,
    session,
    staleness,
)
from groundswell.verify.checks.facts import Counted, Page, Step, Violation
from groundswell.verify.final import TARGETS, Ending
from groundswell.verify.history import Op
from groundswell.verify.shape import (
    ACCOUNTS,
    BANK,
    BOUNDED,
    COUNTERS,
    LEVELS,
    OBJECTS,
    PAIR,
    TOGGLED,
)

EVERY: Final = "every level"
GROWING: Final = (*COUNTERS, *PAIR)
# The levels that promise it.
OWN_WRITES: Final = (Level.READ_YOUR_WRITES, Level.CAUSAL, Level.LINEARIZABLE)
NEVER_BACK: Final = (Level.MONOTONIC, Level.CAUSAL, Level.LINEARIZABLE)
IN_ORDER: Final = (Level.CAUSAL, Level.LINEARIZABLE)


class Finding(msgspec.Struct, frozen=True):
    """What one checker says of what it was given."""

    level: str
    name: str
    checked: int  # reads, or whatever else it judges
    violation: Violation | None


def judge(ops: Sequence[Op], end: Ending | None) -> list[Finding]:
    """What every checker finds; without an ending, in the history alone."""
    found: dict[tuple[str, str], Finding] = {}
    for part in (_every(ops), _sessions(ops), _linearizable(ops), _bounded(ops), _ending(ops, end)):
        for one in part:  # of each key; together they are one finding
            so_far = found.get((one.level, one.name))
            found[one.level, one.name] = one if so_far is None else _both(so_far, one)
    order = [EVERY, *LEVELS]
    return sorted(found.values(), key=lambda one: order.index(one.level))


def _both(one: Finding, other: Finding) -> Finding:
    violation = one.violation or other.violation
    return Finding(one.level, one.name, one.checked + other.checked, violation)


def _every(ops: Sequence[Op]) -> Iterable[Finding]:
    """What holds whatever was asked for."""
    for name in GROWING:
        added, seen = views.adds(ops, name), views.seen(ops, name)
        yield _of(EVERY, "no more than was added", seen, growth.possible(added, seen))
        aged = views.aged(ops, name)
        yield _of(EVERY, "no older than it says", aged, staleness.honest(added, aged))
    found = views.pages(ops)
    yield _of(EVERY, "both of a pair, or neither", found, pages.paired(found, [PAIR]))
    found = views.bases(ops)
    yield _of(EVERY, "states of one order", found, pages.comparable(found))
    steps = views.steps(ops, *Level, BOUNDED)
    for check in (
        session.one_value_per_version,
        session.monotonic_writes,
        session.writes_follow_reads,
    ):
        yield _of(EVERY, _words(check), steps, check(steps))
    read = [one for one in views.balances(ops) if one.account != BANK]
    yield _of(EVERY, "no balance below its floor", read, bank.floors(read, 0))
    writes = [op for op in ops if op.f in ("add", "remove") and op.type == "ok"]
    yield _of(EVERY, "each write changes something once", writes, _once(writes))


def _once(writes: Sequence[Op]) -> Violation | None:
    """Every edge of the workload is added once, and removed at most once, so that each is a change."""
    for op in writes:
        if op.tries == 1 and 0 in op.found:
            return Violation(f"{op.f} of what nobody else writes changed nothing", (op.id,))
    return None


def _sessions(ops: Sequence[Op]) -> Iterable[Finding]:
    """What a session may expect, at the levels that promise it."""
    for level in OWN_WRITES:
        counts, steps = views.counted(ops, level), views.steps(ops, level)
        yield _count(level, counts, growth.read_your_writes)
        yield _object(level, steps, session.read_your_writes)
    for level in NEVER_BACK:
        counts, steps = views.counted(ops, level), views.steps(ops, level)
        yield _count(level, counts, growth.monotonic_reads)
        yield _object(level, steps, session.monotonic_reads)
    counts = views.counted(ops, *IN_ORDER)
    read = [step for step in counts if step.did == "count"]
    name = "no effect before its cause: counts"
    yield _of(Level.CAUSAL, name, read, growth.causal(counts))
    found = views.transactions(ops, *IN_ORDER)
    got = [one for one in found if one.reads]
    yield _of(Level.CAUSAL, "no effect before its cause: objects", got, causal.causal(found))


def _linearizable(ops: Sequence[Op]) -> Iterable[Finding]:
    level = Level.LINEARIZABLE
    for name in GROWING:
        seen = views.seen(ops, name, level)
        wrong = counter.linearizable(views.adds(ops, name), seen)
        yield _of(level, "one order of likes and counts", seen, wrong)
    for name in TOGGLED:
        seen = views.seen(ops, name, level)
        wrong = counter.bounded(views.changes(ops, name), seen)
        yield _of(level, "within what was done and undone", seen, wrong)
    for name in OBJECTS:
        got = views.got(ops, name, level)
        wrong = register.linearizable(views.wrote(ops, name), got)
        yield _of(level, "one order of writes and reads", got, wrong)
    read = views.balances(ops, level)
    wrong = bank.bounded(dict.fromkeys((BANK, *ACCOUNTS), 0), views.paid(ops), read)
    yield _of(level, "balances within what was paid", read, wrong)


def _bounded(ops: Sequence[Op]) -> Iterable[Finding]:
    ages = [op.max_age_ms for op in ops if op.max_age_ms is not None]
    for name in GROWING:
        seen = views.seen(ops, name, BOUNDED)
        wrong = staleness.stale(views.adds(ops, name), seen, max(ages, default=0) * views.MS)
        yield _of(BOUNDED, "no older than was asked for", seen, wrong)


def _ending(ops: Sequence[Op], end: Ending | None) -> Iterable[Finding]:
    if end is None:
        return
    counts = {name: end.shown[name] or 0 for name in TARGETS}
    yield _of(EVERY, "counts are their edges", counts, converge.counted(counts, end.sources))
    wrong = converge.complete(end.sources, _sure(ops), _unknown(ops))
    yield _of(EVERY, "nothing acknowledged is lost", counts, wrong)
    both = Page(len(ops), {name: counts[name] for name in PAIR})
    yield _of(EVERY, "both of a pair, or neither, in the end", both, pages.paired([both], [PAIR]))
    values = [one for replica in end.replicas.values() for one in replica]
    wrong = converge.converged(end.shown, end.replicas)
    yield _of(EVERY, "replicas come to the truth", values, wrong)
    opened = dict.fromkeys(end.balances, 0)
    wrong = bank.conserved(opened, end.balances)
    yield _of(EVERY, "no money is made or lost", end.balances, wrong)
    transfers = views.paid(ops)
    for name, moved in end.histories.items():
        ids = [str(one.op) for one in moved]
        wrong = bank.ordered(name, ids, transfers) or bank.replayed(
            name,
            ids,
            transfers,
            initial=0,
            final=end.balances[name],
            floor=None if name == BANK else 0,
        )
        yield _of(EVERY, "each transfer once, in order", ids, wrong)


def _sure(ops: Sequence[Op]) -> dict[str, dict[Hashable, int]]:
    """Sources that must be listed, by target, with the operation that added each."""
    found: dict[str, dict[Hashable, int]] = {name: {} for name in TARGETS}
    for op in ops:
        if op.f == "add" and op.type == "ok":
            for name, source in zip(op.keys, op.values, strict=True):
                if name in found:
                    found[name][source] = op.id
        elif op.f == "remove" and op.may_have_happened:
            found[op.keys[0]].pop(op.values[0], None)
    return found


def _unknown(ops: Sequence[Op]) -> dict[str, set[Hashable]]:
    """Sources that may be listed."""
    found: dict[str, set[Hashable]] = {name: set() for name in TARGETS}
    for op in ops:
        if op.f in ("add", "remove") and op.type == "info":
            for name, source in zip(op.keys, op.values, strict=True):
                if name in found:
                    found[name].add(source)
    return found


def _count(level: str, steps: Sequence[Counted], check: Callable[..., Violation | None]) -> Finding:
    read = [step for step in steps if step.did == "count"]
    return _of(level, f"{_words(check)}: counts", read, check(steps))


def _object(level: str, steps: Sequence[Step], check: Callable[..., Violation | None]) -> Finding:
    read = [step for step in steps if not step.wrote]
    return _of(level, f"{_words(check)}: objects", read, check(steps))


def _words(check: Callable[..., Violation | None]) -> str:
    return check.__name__.replace("_", " ")


def _of(level: str, name: str, checked: Sized, wrong: Violation | None) -> Finding:
    return Finding(str(level), name, len(checked), wrong)
