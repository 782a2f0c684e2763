"""What a group of batches does to the state it finds: decided in plain Python, before any row moves.

The state that the plan is given must not change until it is written: there is one writer, or locks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from groundswell.kinds import Kinds, bucket
from groundswell.model import (
    Account,
    Add,
    Delete,
    Document,
    Effect,
    Id,
    Key,
    Movement,
    Open,
    Post,
    Put,
    Remove,
    Settle,
    SettleAccount,
    SettleClaim,
    Tally,
    Transfer,
    Void,
    Write,
)
from groundswell.store import Batch, Changed, Outcome, Refused, Stored
from groundswell.stores.ledger import Ledger

CHANGED: Final = Changed(True)
UNCHANGED: Final = Changed(False)

EdgeKey = tuple[str, Id, Id]  # kind, target, source
TallyKey = tuple[str, Id, str]  # kind, target, idempotency id
# target, source, created_ms, value, data, expires_ms
StoredEdge = tuple[Id, Id, int, int | None, msgspec.Raw | None, int | None]


class EdgeRow(NamedTuple):
    """What is stored of one edge beside its key."""

    created_ms: int
    value: int | None
    data: msgspec.Raw | None
    expires_ms: int | None = None


class Wants(NamedTuple):
    """The rows that a group's outcomes depend on."""

    edges: set[EdgeKey]
    seats: set[Key]  # targets of exclusive kinds
    tallies: set[TallyKey]
    documents: set[str]
    accounts: set[str]
    movements: set[str]  # transfers
    resolved: set[str]  # those of them whose accounts are wanted too, where they are stored


def wants(batches: Iterable[Batch], kinds: Kinds) -> Wants:
    """The rows to look up before planning."""
    found = Wants(set(), set(), set(), set(), set(), set(), set())
    for batch in batches:
        for write in batch.writes:
            match write:
                case Add() | Remove():
                    found.edges.add((write.kind, write.target, write.source))
                    if kinds[write.kind].exclusive:
                        found.seats.add((write.kind, write.target))
                case Tally():
                    if write.id is not None:
                        found.tallies.add((write.kind, write.target, write.id))
                case Put() | Delete():
                    found.documents.add(write.id)
                case Transfer():
                    found.movements.add(write.id)
                    found.accounts.update((write.debit, write.credit))
                case Post() | Void():
                    found.movements.add(write.id)
                    found.resolved.add(write.id)
                case Open() | SettleAccount():
                    found.accounts.add(write.id)
                case SettleClaim():
                    found.seats.add((write.kind, write.target))
    return found


class Planned(NamedTuple):
    """What one batch comes to."""

    outcomes: tuple[Outcome, ...]
    effects: tuple[Effect, ...]
    changed: bool


class Plan:
    """Applies batches in order to the rows it was given, and remembers what has to be written.

    What has expired by `now_ms` is let go of first.
    """

    def __init__(
        self,
        kinds: Kinds,
        *,
        xid: int,
        now_ms: int,
        edges: dict[EdgeKey, EdgeRow],
        tallies: Iterable[TallyKey],
        documents: dict[str, Document],
        accounts: dict[str, Account],
        movements: dict[str, Movement],
        expired: Iterable[Movement],
    ) -> None:
        """What is stored of the rows that the batches want.

        Of exclusive kinds `edges` holds whatever edge is on a wanted target; `expired` are the holds that
        are open on one of `accounts` and over.
        """
        self._kinds = kinds
        self._xid = xid
        self._now_ms = now_ms
        self._edges_before = edges
        self._edges: dict[Any, Any] = dict(edges)
        self._seats: dict[Any, Any] = {
            (kind, target): source for kind, target, source in edges if kinds[kind].exclusive
        }
        self._tallies: dict[Any, Any] = dict.fromkeys(tallies, True)
        self._tallies_before = set(self._tallies)
        self._documents: dict[Any, Any] = dict(documents)
        self._documents_before = documents
        self._counts: dict[Key, list[int]] = {}  # of the batch in hand: [count, sum]
        self._undo: list[tuple[dict[Any, Any], Any, Any]] = []  # of the batch in hand, old values
        self._changed = False  # whether the batch in hand changed anything
        self.events: dict[Key, tuple[int, int]] = {}
        self._ledger = Ledger(accounts, movements, expired, xid=xid, now_ms=now_ms, put=self._set)
        self._freed: dict[Any, Any] = {}  # the claims that have expired, by target
        for (kind, target, source), row in edges.items():
            if row.expires_ms is not None and row.expires_ms <= now_ms:
                self._edges[kind, target, source] = self._seats[kind, target] = None
                self._freed[kind, target] = row
        #: Whether something has to be written whatever becomes of the batches.
        self.let_go = bool(self._freed) or bool(self._ledger.movements_to_store())

    def apply(self, batches: Sequence[Batch]) -> list[Planned]:
        """Decide the batches in order."""
        planned = [self._batch(batch) for batch in batches]
        self._counts = {}
        for (kind, target), row in self._freed.items():
            if row is not None:
                self._count(kind, target, -1, -(row.value or 0))
                self._rate(kind, target, row.value, None)
        for key, (count, sum_) in self._counts.items():
            self._queue(key, count, sum_)
        return planned

    def _batch(self, batch: Batch) -> Planned:
        self._counts, self._undo, self._changed = {}, [], False
        outcomes: list[Outcome] = []
        for write in batch.writes:
            outcome = self._write(write)
            if batch.atomic and isinstance(outcome, Refused):
                return self._abort(batch, len(outcomes), outcome)
            outcomes.append(outcome)
        effects = tuple(
            Effect(kind, target, count, sum_)
            for (kind, target), (count, sum_) in self._counts.items()
            if count or sum_
        )
        for key, (count, sum_) in self._counts.items():  # also where none moved: edges have changed
            self._queue(key, count, sum_)
        return Planned(tuple(outcomes), effects, self._changed)

    def _queue(self, key: Key, count: int, sum_: int) -> None:
        before = self.events.get(key, (0, 0))
        self.events[key] = (before[0] + count, before[1] + sum_)

    def _abort(self, batch: Batch, index: int, refused: Refused) -> Planned:
        for rows, key, before in reversed(self._undo):
            if before is None:
                del rows[key]
            else:
                rows[key] = before
        rest = Refused(
            "not-applied", f"Nothing of this atomic batch was applied: write {index} was refused."
        )
        outcomes = [rest] * len(batch.writes)
        outcomes[index] = refused
        return Planned(tuple(outcomes), (), False)

    def _write(self, write: Write | Settle) -> Outcome:
        match write:
            case Add():
                return self._add(write)
            case Transfer():
                return self._ledger.transfer(write)
            case Remove():
                return self._remove(write)
            case Tally():
                return self._tally(write)
            case Put():
                return self._put(write)
            case Delete():
                return self._delete(write)
            case Post():
                return self._ledger.post(write)
            case Void():
                return self._ledger.void(write)
            case Open():
                return self._ledger.open(write)
            case SettleAccount() | SettleClaim():
                return UNCHANGED  # it has been done before all others

    def _set(self, rows: dict[Any, Any], key: Any, value: Any) -> None:
        self._undo.append((rows, key, rows.get(key)))
        rows[key] = value
        self._changed = True

    def _count(self, kind: str, target: Id, count: int, sum_: int) -> None:
        total = self._counts.setdefault((kind, target), [0, 0])
        total[0] += count
        total[1] += sum_

    def _rate(self, kind: str, target: Id, before: int | None, after: int | None) -> None:
        """Move one edge from the count of one value to that of another."""
        declared = self._kinds[kind].value
        if declared is None or before == after:
            return
        for value, by in ((before, -1), (after, 1)):
            if value is not None and value in declared.buckets:
                self._count(bucket(kind, value), target, by, 0)

    def _add(self, write: Add) -> Outcome:
        key = (write.kind, write.target, write.source)
        row = self._edges.get(key)
        lasts_s = write.expires_in_s
        expires_ms = None if lasts_s is None else self._now_ms + round(lasts_s * 1000)
        if row is None:
            if self._kinds[write.kind].exclusive:
                seat = (write.kind, write.target)
                if self._seats.get(seat) is not None:
                    return Refused("seat-taken", "This target is held by another source.")
                self._set(self._seats, seat, write.source)
                freed = self._freed.get(seat)
                if freed is not None:  # one claim for another: for this session the count stays
                    self._set(self._freed, seat, None)
                    self._count(write.kind, write.target, -1, -(freed.value or 0))
                    self._rate(write.kind, write.target, freed.value, None)
            self._set(self._edges, key, EdgeRow(self._now_ms, write.value, write.data, expires_ms))
            self._count(write.kind, write.target, 1, write.value or 0)
            self._rate(write.kind, write.target, None, write.value)
            return CHANGED
        # A repetition that comes late must not shorten what has been prolonged, or confirmed, since.
        if expires_ms is not None:
            expires_ms = None if row.expires_ms is None else max(row.expires_ms, expires_ms)
        if (row.value, row.data, row.expires_ms) == (write.value, write.data, expires_ms):
            return UNCHANGED
        self._set(self._edges, key, EdgeRow(row.created_ms, write.value, write.data, expires_ms))
        self._count(write.kind, write.target, 0, (write.value or 0) - (row.value or 0))
        self._rate(write.kind, write.target, row.value, write.value)
        return CHANGED

    def _remove(self, write: Remove) -> Outcome:
        key = (write.kind, write.target, write.source)
        row = self._edges.get(key)
        if row is None:
            return UNCHANGED
        self._set(self._edges, key, None)
        if self._kinds[write.kind].exclusive:
            self._set(self._seats, (write.kind, write.target), None)
        self._count(write.kind, write.target, -1, -(row.value or 0))
        self._rate(write.kind, write.target, row.value, None)
        return CHANGED

    def _tally(self, write: Tally) -> Outcome:
        if write.id is not None:
            key = (write.kind, write.target, write.id)
            if self._tallies.get(key):
                return UNCHANGED
            self._set(self._tallies, key, True)
        self._changed = True  # also where there is no row of its own
        self._count(write.kind, write.target, write.by, 0)
        return CHANGED

    def _put(self, write: Put) -> Outcome:
        now: Document | None = self._documents.get(write.id)
        standing = now.version if now and now.data is not None else 0
        if write.if_version is not None and write.if_version != standing:
            return _version_conflict(write.id, write.if_version, standing)
        if now and standing and now.type == write.type and now.data == write.data:
            return Stored(standing, changed=False)
        version = (now.version if now else 0) + 1
        new = Document(write.id, write.type, version, self._xid, write.data)
        self._set(self._documents, write.id, new)
        return Stored(version)

    def _delete(self, write: Delete) -> Outcome:
        now: Document | None = self._documents.get(write.id)
        standing = now.version if now and now.data is not None else 0
        if write.if_version is not None and write.if_version != standing:
            return _version_conflict(write.id, write.if_version, standing)
        if now is None or not standing:
            return UNCHANGED
        gone = Document(write.id, now.type, now.version + 1, self._xid, None)
        self._set(self._documents, write.id, gone)
        return CHANGED

    # --- what has to be written, in key order ---------------------------------------------------

    def edges_to_store(
        self, stored: Mapping[EdgeKey, EdgeRow] | None = None
    ) -> dict[str, list[StoredEdge]]:
        """Per kind the edges to insert or replace.

        `stored` is what the tables hold, where that is not the state the plan was given.
        """
        stored = self._edges_before if stored is None else stored
        found: dict[str, list[StoredEdge]] = {}
        for (kind, target, source), row in self._edges.items():
            if row is not None and row != stored.get((kind, target, source)):
                found.setdefault(kind, []).append((target, source, *row))
        return {kind: sorted(rows, key=lambda row: row[:2]) for kind, rows in found.items()}

    def edges_to_drop(
        self, stored: Mapping[EdgeKey, EdgeRow] | None = None
    ) -> dict[str, list[tuple[Id, Id]]]:
        """Per kind the (target, source) to delete; `stored` as for `edges_to_store`."""
        found: dict[str, list[tuple[Id, Id]]] = {}
        for key in self._edges_before if stored is None else stored:
            if self._edges.get(key) is None:
                found.setdefault(key[0], []).append(key[1:])
        return {kind: sorted(rows) for kind, rows in found.items()}

    def tallies_to_store(self) -> list[TallyKey]:
        """The idempotency ids that count from now on."""
        return [key for key in self._tallies if key not in self._tallies_before]

    def accounts_to_store(self) -> list[Account]:
        """The accounts that were opened or changed."""
        return self._ledger.accounts_to_store(self._xid)

    def movements_to_store(self) -> list[Movement]:
        """The transfers that were made or changed."""
        return self._ledger.movements_to_store()

    def documents_to_store(self) -> list[Document]:
        """The objects' new versions, deletions among them."""
        return [
            document
            for id_, document in self._documents.items()
            if document != self._documents_before.get(id_)
        ]


def _version_conflict(id_: str, wanted: int, standing: int) -> Refused:
    where = f"stands at version {standing}" if standing else "does not exist"
    return Refused(
        "version-conflict", f"Object {id_!r} {where}, not at version {wanted}.", standing
    )
