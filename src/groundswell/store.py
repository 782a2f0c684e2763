"""The contract of a store: where the truth lives. What every implementation promises.

A store holds edges, objects, counters and the queue between them. Writes put their events on the queue
in their own transaction; `rollup` folds them into counters and publishes the result on the change feed.
`groundswell.testing` holds the suite that an implementation has to pass.

Every method may raise `StoreUnavailable`. Ids and writes that reach a store have passed `kinds`.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Annotated, Final, Protocol, Self

import msgspec

from groundswell.errors import BadRequest
from groundswell.model import (
    INT_MAX,
    Account,
    Counter,
    Document,
    Edge,
    Effect,
    Id,
    Key,
    Movement,
    Newest,
    Settle,
    Write,
)
from groundswell.revision import Revision

GROUP_MAX: Final = 10_000  # what a store advises that has no reason for another figure


class Batch(msgspec.Struct, frozen=True):
    """Writes of one caller, in order; with `atomic` all of them or none."""

    writes: tuple[Write | Settle, ...]
    atomic: bool = False


class Changed(msgspec.Struct, frozen=True):
    """Outcome of a write on an edge or a tally."""

    changed: bool


class Stored(msgspec.Struct, frozen=True):
    """Outcome of a write on an object: where it stands now."""

    version: int
    changed: bool = True


class Refused(msgspec.Struct, frozen=True, omit_defaults=True):
    """Outcome of a write that contradicts what is stored; it changed nothing."""

    code: str  # as in errors
    detail: str
    version: int | None = None  # with version-conflict: where the object stands


class Opened(msgspec.Struct, frozen=True):
    """Outcome of a write on an account's bounds."""

    account: Account  # version and xid apart
    changed: bool = True


class Moved(msgspec.Struct, frozen=True):
    """Outcome of a transfer, or of posting or voiding one: how it stands, and both balances."""

    id: str
    state: str
    amount: int  # what has moved; while it is pending, what is held
    debit: str
    debit_balance: int
    credit: str
    credit_balance: int
    expires_ms: int | None = None
    changed: bool = True  # False: this id had been taken by the same transfer; its first result


Outcome = Changed | Stored | Opened | Moved | Refused


class Committed(msgspec.Struct, frozen=True):
    """What became of one batch."""

    outcomes: tuple[Outcome, ...]  # one per write, in order
    xid: int | None  # the transaction that holds its changes; None: it changed nothing
    slot: int  # its place in that transaction
    effects: tuple[Effect, ...]  # what its changes did to counts, one per key
    seen: Revision  # includes all that the outcomes reveal, the batch itself too


class Head(msgspec.Struct, frozen=True):
    """Where the store stands."""

    epoch: int
    revision: Revision  # all that was committed when the store was asked
    rollup: int  # number of the newest rollup


class Rolled(msgspec.Struct, frozen=True):
    """What one rollup did."""

    number: int
    revision: Revision
    events: int  # events it folded
    more: bool  # whether events are left that it was not allowed to take


class CountChange(msgspec.Struct, frozen=True, array_like=True):
    """A counter's new absolute state."""

    kind: str
    target: Id
    count: int
    sum: int


class Rollup(msgspec.Struct, frozen=True):
    """One numbered, published set of changes: each key at most once, absolute states."""

    number: int
    revision: Revision  # includes that of every rollup before
    counts: tuple[CountChange, ...] = ()
    documents: tuple[Document, ...] = ()


class Feed(msgspec.Struct, frozen=True):
    """An answer of the change feed."""

    epoch: int
    # All that was committed when the store was asked, or a state that shows the same; None: not known.
    head: Revision | None
    latest: Rollup  # the newest rollup, without its changes: where a replica can begin anew
    rollups: tuple[Rollup, ...]  # directly after the one asked for, ascending, none left out
    behind: bool = False  # what follows the one asked for is no longer kept, or it never was


class CounterRow(msgspec.Struct, frozen=True, array_like=True):
    """A counter with the rollups that first and last changed it (0: never)."""

    counter: Counter
    born: int
    changed: int


class Counters(msgspec.Struct, frozen=True):
    """Counters in one state: that of the newest rollup."""

    rows: tuple[CounterRow, ...]  # as asked, in order
    epoch: int
    rollup: int
    revision: Revision


class Documents(msgspec.Struct, frozen=True):
    """Objects in one state: all that is committed."""

    rows: tuple[Document | None, ...]  # as asked, in order; None: there never was one
    epoch: int
    rollup: int  # the newest rollup then
    revision: Revision


class Sight(msgspec.Struct, frozen=True, gc=False):
    """What is asked of one (kind, target) at once; of a kind without edges only the count."""

    key: Key
    viewer: Id | None = None  # a source: does its edge exist?
    newest: int = 0  # edges wanted


class Item(msgspec.Struct, frozen=True, gc=False):
    """What a sight shows, in one state."""

    counter: Counter
    newest: tuple[Newest, ...] = ()  # newest first, then by the greater source
    viewer: bool | None = None  # None: not asked


class ItemRow(msgspec.Struct, frozen=True):
    """An item as it is now, and what of its counter is rolled up."""

    item: Item
    row: CounterRow  # as of the newest rollup; the version of the edges too
    waiting: bool  # whether anything about this key is committed that no rollup has folded


class Items(msgspec.Struct, frozen=True):
    """Items in one state: all that is committed."""

    rows: tuple[ItemRow, ...]  # as asked, in order
    epoch: int
    rollup: int  # the newest rollup then
    revision: Revision


class _Opaque(msgspec.Struct, frozen=True, array_like=True):
    """What is handed out as text that only we read."""

    def encode(self) -> str:
        """As opaque base64url text."""
        return base64.urlsafe_b64encode(msgspec.msgpack.encode(self)).rstrip(b"=").decode("ascii")

    @classmethod
    def decode(cls, text: str) -> Self:
        """The cursor that `encode` wrote; raises BadRequest for anything else."""
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
            return msgspec.msgpack.decode(raw, type=cls)
        except (ValueError, msgspec.DecodeError) as error:
            raise BadRequest("The cursor is not one that this server gave out.") from error


class Cursor(_Opaque, frozen=True, array_like=True):
    """A place between two edges of a list, and the direction to go on in."""

    newer: bool
    created_ms: Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)]
    other: (
        Annotated[int, msgspec.Meta(ge=-INT_MAX, le=INT_MAX)] | str
    )  # source, or target if inverse


class Before(_Opaque, frozen=True, array_like=True):
    """A place in an account's history, to go on from to the older transfers."""

    place: Annotated[int, msgspec.Meta(ge=0, le=INT_MAX)]


class Window(msgspec.Struct, frozen=True):
    """Which part of a list: since_ms <= created_ms < until_ms, from the cursor on."""

    limit: int = 50
    cursor: Cursor | None = None
    since_ms: int | None = None
    until_ms: int | None = None


class Page(msgspec.Struct, frozen=True):
    """Part of a list, newest first (by created_ms, then by the other id)."""

    edges: tuple[Edge, ...]
    next: Cursor | None  # to the older neighbours; None at the end
    prev: Cursor | None  # to the newer neighbours, also those still to come; None for an empty list
    revision: Revision  # the state it was read in


def page(found: Sequence[Edge], window: Window, revision: Revision, *, inverse: bool) -> Page:
    """A page from up to `limit + 1` edges found in the direction of the cursor."""
    newer = window.cursor is not None and window.cursor.newer
    more = len(found) > window.limit
    edges = tuple(reversed(found[: window.limit])) if newer else tuple(found[: window.limit])
    if not edges:
        at = window.cursor
        if at is None:
            return Page((), None, None, revision)
        # Cursors exclude their own place. Nothing lies beyond it, so that whoever turns round begins a
        # millisecond further on and does not miss the edge there.
        back = Cursor(True, at.created_ms - (not newer), at.other)
        onward = Cursor(False, at.created_ms + 1, at.other) if newer else None
        return Page((), onward, back, revision)

    def place(edge: Edge, *, newer: bool) -> Cursor:
        return Cursor(newer, edge.created_ms, edge.target if inverse else edge.source)

    older_left = newer or more
    return Page(
        edges,
        place(edges[-1], newer=False) if older_left else None,
        place(edges[0], newer=True),
        revision,
    )


class Movements(msgspec.Struct, frozen=True):
    """Part of an account's history, newest first: in the order in which they happened, not by the clock."""

    rows: tuple[Movement, ...]
    next: Before | None  # to the older ones; None at the end
    revision: Revision  # the state it was read in


def movements(found: Sequence[Movement], limit: int, revision: Revision) -> Movements:
    """Part of a history from up to `limit + 1` movements."""
    rows = tuple(found[:limit])
    more = len(found) > limit
    next_ = Before(rows[-1].place) if more else None
    return Movements(rows, next_, revision)


class Source(Protocol):
    """What a store can be asked, and a standby of it too, which may show an older state."""

    async def feed(self, after: int, changes_max: int) -> Feed:
        """The rollups after number `after`, as many as hold up to `changes_max` changes (at least one).

        A rollup without changes is counted as one, so that every answer is bounded.
        `behind` where they are no longer all kept, or `after` is beyond the newest.
        """

    async def counters(self, keys: Sequence[Key]) -> Counters:
        """These counters as of the newest rollup, all in one state; zero where there is none."""

    async def documents(self, ids: Sequence[str]) -> Documents:
        """These objects as they are now, all in one state; deleted ones with `data` None.

        Accounts are among them, under their id after `model.ACCOUNT`, with what they hold as their data.
        """

    async def edge(self, kind: str, target: Id, source: Id) -> tuple[Edge | None, Revision]:
        """One edge as it is now, and the state it was read in."""

    async def edges(self, kind: str, target: Id, window: Window) -> Page:
        """Who did `kind` to `target`, newest first."""

    async def inverse(self, kind: str, source: Id, window: Window) -> Page:
        """What `source` did, newest first; for kinds declared with `inverse`."""

    async def close(self) -> None:
        """Finish what runs and let go of the store; calling it twice does nothing."""


class Store(Source, Protocol):
    """A store that has been opened; one object may be used by many tasks at once."""

    @property
    def label(self) -> str:
        """What it is, for people."""

    @property
    def identity(self) -> str:
        """The same for the life of the store, different for every store."""

    @property
    def group_max(self) -> int:
        """How many writes one commit should be given at most, for what they cost; it takes any number."""

    @property
    def commits_max(self) -> int:
        """How many large commits at a time get more done than one after the other; it takes any number."""

    @property
    def epoch(self) -> int:
        """Its timeline; changes, upwards, only when acknowledged history may have been lost."""

    async def commit(self, batches: Sequence[Batch]) -> list[Committed]:
        """Apply the batches in order as one durable transaction; all of it or none of it.

        Returns only when it will survive a crash. An edge exists at most once; adding one that exists
        or removing one that does not changes nothing and makes no event; another value or data replaces
        the stored one and keeps `created_ms`. A refused write of a batch that is not atomic leaves the
        others standing; in an atomic batch the others are refused with it (code `not-applied`).
        A claim or a hold that has expired when the transaction happens counts for nothing, and is let go
        of where a write names its target, or one of its accounts, itself or by the id of a transfer.
        Queues one event per (kind, target) whose edges or tallies it changed in any way, with the summed
        change, which may be zero, and one per object and per account: a rollup publishes every target
        whose edges may look different.
        On StoreUnavailable the transaction was not acknowledged and may or may not have happened; on
        any other error it did not happen.
        """

    async def rollup(self, events_max: int) -> Rolled | None:
        """Fold queued events into counters, exactly once, and publish them as the next rollup.

        Takes whole transactions, in commit order, until `events_max` is reached (one transaction may
        exceed it). None if nothing was committed since the last rollup. Any process may call it at any
        time; two calls never fold the same event.
        """

    async def head(self) -> Head:
        """Where the store stands now; the revision includes every commit acknowledged before."""

    async def current(self, keys: Sequence[Key]) -> tuple[tuple[Counter, ...], Revision] | None:
        """These counters with all that is committed now, rolled up or not, and the state that shows.

        One state for all of them. None where so many events wait that a rollup is the cheaper way.
        """

    async def account(self, id_: str) -> tuple[Account | None, Revision]:
        """One account as it is now, without what its expired holds kept, and the state it was read in."""

    async def movement(self, id_: str) -> tuple[Movement | None, Revision]:
        """One transfer as it is now, and the state it was read in."""

    async def movements(self, account: str, limit: int, before: Before | None = None) -> Movements:
        """The transfers from and to an account, newest first; an unknown one has none."""

    async def expired(self, at_most: int) -> list[Settle]:
        """What lets go of that much that has expired, oldest first."""

    async def items(self, sights: Sequence[Sight]) -> Items | None:
        """Counters, newest edges and single edges with all that is committed now, in one state.

        One statement or one read transaction. None where `current` would be None.
        """

    async def backlog(self) -> int:
        """How many events wait for a rollup; of a very long queue, how many at least."""

    async def recount(self, kind: str, target: Id) -> Counter:
        """The truth behind a counter, counted from the edges as they are now: slow, for checks.

        Of a kind without edges, whose tallies are kept nowhere else, the counter and what is queued.
        """
