"""What the reference model holds, and what commits do to it: one write at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from groundswell.kinds import Kinds, bucket
from groundswell.model import (
    ACCOUNT,
    Add,
    Delete,
    Document,
    Edge,
    Effect,
    Id,
    Key,
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
from groundswell.stores.memory.bank import Bank

Effects = dict[Key, Effect]


class State:
    """Edges, objects, tallies and accounts."""

    def __init__(self) -> None:
        self.edges: dict[tuple[str, Id, Id], Edge] = {}  # by kind, target, source
        self.documents: dict[str, Document] = {}  # accounts included, as they are published
        self.tallies: set[tuple[str, Id, str]] = set()  # kind, target, idempotency id
        self.tallied: dict[Key, int] = {}
        self.bank = Bank()

    def copy(self) -> State:
        """The same state, to change apart from this one."""
        other = State()
        other.edges, other.documents = dict(self.edges), dict(self.documents)
        other.tallies, other.tallied = set(self.tallies), dict(self.tallied)
        other.bank = self.bank.copy()
        return other

    def sources(self, kind: str, target: Id) -> list[Edge]:
        """The edges on a target."""
        return [e for e in self.edges.values() if (e.kind, e.target) == (kind, target)]

    def targets(self, kind: str, source: Id) -> list[Edge]:
        """The edges of a source."""
        return [e for e in self.edges.values() if (e.kind, e.source) == (kind, source)]


class Done(NamedTuple):
    """What one batch came to."""

    outcomes: tuple[Outcome, ...]
    effects: Effects  # of all that it touched, also where nothing has moved
    changed: bool


class Queued(NamedTuple):
    """What one transaction has for the rollup."""

    xid: int
    effects: Effects
    documents: dict[str, Document]


class Transaction:
    """One commit, which changes the state; what has expired is let go of where writes name it."""

    def __init__(self, state: State, kinds: Kinds, *, xid: int, now_ms: int) -> None:
        self.state = state  # an older copy of it once an atomic batch was taken back
        self._kinds = kinds
        self._xid = xid
        self._now_ms = now_ms
        self._freed: dict[Key, Edge] = {}  # claims that had expired, and that nobody has replaced
        self._effects: Effects = {}  # of the batch in hand
        self._changed = False  # whether the batch in hand changed anything

    def apply(self, batches: Sequence[Batch]) -> tuple[list[Done], Queued | None]:
        """What each batch came to, in order, and what is to be rolled up if anything has changed."""
        before = dict(self.state.documents)
        let_go = self._let_go_of_claims(batches)
        done = [self._batch(batch) for batch in batches]
        self._settle_accounts(batches)
        documents = {
            id_: document
            for id_, document in self.state.documents.items()
            if document != before.get(id_)
        }
        if not (let_go or documents or any(one.changed for one in done)):
            return done, None
        effects: Effects = {}
        for effect in (effect for one in done for effect in one.effects.values()):
            add_up(effects, effect)
        for edge in self._freed.values():
            for effect in self._effects_of(edge, -1):
                add_up(effects, effect)
        return done, Queued(self._xid, effects, documents)

    def _let_go_of_claims(self, batches: Sequence[Batch]) -> bool:
        """Drop the expired claims on targets that the writes name."""
        for write in (write for batch in batches for write in batch.writes):
            if isinstance(write, Add | Remove | SettleClaim):
                for edge in self.state.sources(write.kind, write.target):
                    if edge.expires_ms is not None and edge.expires_ms <= self._now_ms:
                        del self.state.edges[edge.kind, edge.target, edge.source]
                        self._freed[edge.kind, edge.target] = edge
        return bool(self._freed)

    def _settle_accounts(self, batches: Sequence[Batch]) -> None:
        """Bring the objects of all accounts that the writes name to where these stand."""
        bank, named = self.state.bank, set[str]()
        for write in (write for batch in batches for write in batch.writes):
            match write:
                case Open() | SettleAccount():
                    named.add(write.id)
                case Transfer():
                    named.update((write.debit, write.credit))
                case Post() | Void() if write.id in bank.movements:
                    movement = bank.movements[write.id]
                    named.update((movement.debit, movement.credit))
        for id_ in named:
            before = self.state.documents.get(ACCOUNT + id_)
            after = bank.document(id_, self._now_ms, before, self._xid)
            if after is not None:
                self.state.documents[after.id] = after
        bank.touched = set()

    def _batch(self, batch: Batch) -> Done:
        saved = None
        if batch.atomic and len(batch.writes) > 1:  # one write is atomic without any copy
            saved = self.state.copy(), dict(self._freed)
        self._effects, self._changed = {}, False
        outcomes: list[Outcome] = []
        for index, write in enumerate(batch.writes):
            outcome = self._write(write)
            outcomes.append(outcome)
            if saved and isinstance(outcome, Refused):
                self.state, self._freed = saved
                rest = Refused(
                    "not-applied",
                    f"Nothing of this atomic batch was applied: write {index} was refused.",
                )
                after = len(batch.writes) - index - 1
                return Done((*[rest] * index, outcome, *[rest] * after), {}, changed=False)
        return Done(tuple(outcomes), self._effects, self._changed)

    def _write(self, write: Write | Settle) -> Outcome:
        match write:
            case Add():
                return self._add(write)
            case Remove(kind, target, source):
                edge = self.state.edges.pop((kind, target, source), None)
                if edge is None:
                    return Changed(False)
                return self._count(*self._effects_of(edge, -1))
            case Tally(kind, target, by, id_):
                if id_ is not None and (kind, target, id_) in self.state.tallies:
                    return Changed(False)
                if id_ is not None:
                    self.state.tallies.add((kind, target, id_))
                self.state.tallied[kind, target] = self.state.tallied.get((kind, target), 0) + by
                return self._count(Effect(kind, target, by))
            case Put() | Delete():
                return self._object(write)
            case Open() | Transfer() | Post() | Void():
                outcome = self.state.bank.write(write, self._now_ms)
                self._changed |= getattr(outcome, "changed", False)
                return outcome
            case SettleAccount() | SettleClaim():
                return Changed(False)  # done before all writes, or after them

    def _add(self, write: Add) -> Outcome:
        key = (write.kind, write.target, write.source)
        old = self.state.edges.get(key)
        exclusive = self._kinds[write.kind].exclusive
        if old is None and exclusive and self.state.sources(write.kind, write.target):
            return Refused("seat-taken", "This target is held by another source.")
        lasts_s = write.expires_in_s
        expires_ms = None if lasts_s is None else self._now_ms + round(lasts_s * 1000)
        if old and expires_ms is not None:  # an add never shortens a claim
            expires_ms = None if old.expires_ms is None else max(old.expires_ms, expires_ms)
        if old and (old.value, old.data, old.expires_ms) == (write.value, write.data, expires_ms):
            return Changed(False)
        new = self.state.edges[key] = Edge(
            kind=write.kind,
            target=write.target,
            source=write.source,
            created_ms=old.created_ms if old else self._now_ms,
            value=write.value,
            data=write.data,
            expires_ms=expires_ms,
        )
        freed = None if old else self._freed.pop(key[:2], None)
        if freed is not None:  # one claim for another
            self._count(*self._effects_of(freed, -1))
        effects = self._effects_of(new, 1)
        if old is not None:
            effects = self._effects_of(old, -1) + effects
            if old.value == new.value:  # nothing has happened to the count of its value
                effects = [effect for effect in effects if effect.kind == new.kind]
        return self._count(*effects)

    def _effects_of(self, edge: Edge, by: int) -> list[Effect]:
        """What an edge that comes (1) or goes (-1) does to counts."""
        found = [Effect(edge.kind, edge.target, by, by * (edge.value or 0))]
        declared = self._kinds[edge.kind].value
        if declared and edge.value is not None and edge.value in declared.buckets:
            found.append(Effect(bucket(edge.kind, edge.value), edge.target, by))
        return found

    def _count(self, *effects: Effect) -> Outcome:
        self._changed = True
        for effect in effects:
            add_up(self._effects, effect)
        return Changed(True)

    def _object(self, write: Put | Delete) -> Outcome:
        old = self.state.documents.get(write.id)
        standing = old.version if old and old.data is not None else 0
        if write.if_version is not None and write.if_version != standing:
            where = f"stands at version {standing}" if standing else "does not exist"
            return Refused(
                "version-conflict",
                f"Object {write.id!r} {where}, not at version {write.if_version}.",
                standing,
            )
        version = (old.version if old else 0) + 1
        if isinstance(write, Put):
            if old and standing and (old.type, old.data) == (write.type, write.data):
                return Stored(standing, changed=False)
            new = Document(write.id, write.type, version, self._xid, write.data)
        elif old is None or not standing:
            return Changed(False)
        else:
            new = Document(write.id, old.type, version, self._xid, None)
        self.state.documents[write.id] = new
        self._changed = True
        return Stored(version) if isinstance(write, Put) else Changed(True)


def add_up(effects: Effects, effect: Effect) -> None:
    """Add one effect to those of its key."""
    key = (effect.kind, effect.target)
    old = effects.get(key)
    if old is not None:
        effect = replace(effect, count=old.count + effect.count, sum=old.sum + effect.sum)
    effects[key] = effect
