"""Accounts: money moves between them, and is neither made nor lost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from groundswell.verify.checks import counter
from groundswell.verify.checks.facts import Balance, Change, Paid, Seen, Violation, shown_by
from groundswell.verify.history import NEVER


def conserved(initial: Mapping[str, int], final: Mapping[str, int]) -> Violation | None:
    """Whether the sum of all balances has changed. O(n); as Jepsen's `bank`."""
    before, after = sum(initial.values()), sum(final.values())
    if before != after:
        return Violation(f"the balances were {before} together, and are {after}", ())
    return None


def floors(balances: Sequence[Balance], floor: int) -> Violation | None:
    """Whether a balance was read that is below the floor. O(n)."""
    for read in balances:
        if read.value < floor:
            return shown_by(f"{read.account!r} was at {read.value}, below {floor}", read)
    return None


def bounded(
    initial: Mapping[str, int], transfers: Sequence[Paid], balances: Sequence[Balance]
) -> Violation | None:
    """Whether a linearizable read of a balance is outside of what transfers allow. O(n log n).

    Necessary, not sufficient, as `counter.bounded`. An account that is not in `initial` began at 0.
    """
    changes: defaultdict[str, list[Change]] = defaultdict(list)
    for paid in transfers:
        changes[paid.debit].append(Change(paid.op, paid.start, paid.end, -paid.amount))
        changes[paid.credit].append(Change(paid.op, paid.start, paid.end, paid.amount))
    reads: defaultdict[str, list[Seen]] = defaultdict(list)
    for read in balances:
        reads[read.account].append(Seen(read.op, read.start, read.end, read.value))
    for account, seen in reads.items():
        found = counter.bounded(changes[account], seen, initial.get(account, 0))
        if found:
            return found._replace(what=f"{account!r}: {found.what}")
    return None


def ordered(account: str, history: Sequence[str], transfers: Sequence[Paid]) -> Violation | None:
    """Whether an account's history, ids from the oldest on, contradicts what its clients were told.

    `transfers` are those that happened or may have, of any account, one for each id. Each that
    happened stands in the history of its accounts, once; what may have happened stands there at most
    once, and nothing else does. One that ended before another began stands before it. O(n).
    """
    known = {paid.id: paid for paid in transfers if account in (paid.debit, paid.credit)}
    missing = dict(known)
    latest: Paid | None = None  # to begin, of those that stand before
    for id in history:
        paid = known.get(id)
        if paid is None:
            return Violation(f"{id!r} stands in {account!r}, where it never happened", ())
        if missing.pop(id, None) is None:
            return shown_by(f"{id!r} stands in {account!r} twice", paid)
        if latest is not None and paid.end < latest.start:
            return shown_by(f"{id!r} was over before {latest.id!r} began", paid, latest)
        if latest is None or paid.start > latest.start:
            latest = paid
    for paid in missing.values():
        if paid.end < NEVER:
            return shown_by(f"{paid.id!r} does not stand in {account!r}", paid)
    return None


def replayed(
    account: str,
    history: Sequence[str],
    transfers: Sequence[Paid],
    *,
    initial: int,
    final: int,
    floor: int | None,
) -> Violation | None:
    """Whether an account's history, from the oldest on, goes below the floor or ends elsewhere. O(n).

    An id that is not among `transfers` is left out; `ordered` tells of it.
    """
    known = {paid.id: paid for paid in transfers}
    balance = initial
    for id in history:
        if paid := known.get(id):
            balance += paid.amount * ((paid.credit == account) - (paid.debit == account))
            if floor is not None and paid.debit == account and balance < floor:
                return shown_by(f"{id!r} takes {account!r} to {balance}, below {floor}", paid)
    if balance != final:
        return Violation(f"{account!r} is at {final}, its history at {balance}", ())
    return None
