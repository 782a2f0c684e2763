"""The shapes of requests and answers, as JSON over HTTP and as values in process."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from groundswell.model import Data, Id, Key, Level, Newest, Write

SESSION_HEADER = "Groundswell-Session"


# --- how a read is asked for, and how it was served -----------------------------------------------


class ReadOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a read is to be served; None: as the kind, or the node, is configured."""

    consistency: Level | None = None
    max_age_ms: int | None = None
    wait_ms: int | None = None
    fallback: Literal["primary", "none"] = "primary"


class ReadInfo(msgspec.Struct, frozen=True):
    """How a read was served (rule R7)."""

    consistency: Level  # the level it met
    served_by: str  # "primary", "standby" or a replica's name
    age_ms: float | None  # everything acknowledged longer ago is in it; null: not known
    waited_ms: float  # time spent on waiting for a replica


# --- counts ---------------------------------------------------------------------------------------


class CountAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One count."""

    count: int
    pending: int  # how much of it is the session's own writes that the replica had not seen
    read: ReadInfo
    sum: int | None = None  # for kinds with a value


class CountItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of many counts."""

    kind: str
    target: Id
    count: int
    pending: int
    sum: int | None = None


class KeysRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which counts, as pairs of kind and target."""

    keys: list[Key]


class CountsAnswer(msgspec.Struct, frozen=True):
    """Many counts, all at one revision."""

    counts: list[CountItem]
    read: ReadInfo


class RatingAnswer(msgspec.Struct, frozen=True):
    """The values of a target's edges, in one state."""

    count: int
    sum: int
    average: float | None  # null: there are none
    histogram: dict[int, int] | None  # how many edges have each value; null: the kind counts none
    pending: int  # how much of the count is the session's own writes that the replica had not seen
    read: ReadInfo


# --- pages ----------------------------------------------------------------------------------------


class PageRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which counts with their newest edges, and whose own edges."""

    keys: list[Key]
    viewer: Id | None = None
    newest: int = 3


class PageItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One (kind, target) of a page."""

    kind: str
    target: Id
    count: int
    pending: int  # always 0: own writes are not added on top of a page
    newest: tuple[Newest, ...]  # newest first; of tallies none
    sum: int | None = None  # for kinds with a value
    viewer: bool | None = None  # whether the viewer's edge exists; absent for tallies


class PageAnswer(msgspec.Struct, frozen=True):
    """All items of a page at one revision, in the order of the keys."""

    items: list[PageItem]
    read: ReadInfo


# --- what goes on ---------------------------------------------------------------------------------


class TrendingQuery(msgspec.Struct, frozen=True, kw_only=True):
    """How far back, and how many."""

    window_s: int = 300
    limit: int = 10


class TrendItem(msgspec.Struct, frozen=True):
    """A target that grew."""

    target: Id
    growth: int  # within the window
    count: int  # after its last change


class TrendingAnswer(msgspec.Struct, frozen=True):
    """What grew most."""

    trending: list[TrendItem]  # by growth, then by target
    window_s: int
    since_s: float  # how long the node has watched
    exact: bool  # whether no growth in the window is unknown or was forgotten
    read: ReadInfo


class StreamQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which counts: each `kind:target`."""

    key: list[str]


class StreamItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A count as a stream tells it."""

    kind: str
    target: Id
    count: int
    sum: int | None = None


class StreamEvent(msgspec.Struct, frozen=True):
    """Counts that changed, as of one rollup; all of them when the stream or its replica begins."""

    counts: list[StreamItem]
    rollup: int
    revision: str  # xmin:xmax:xip
    age_ms: float | None  # as in ReadInfo
    served_by: str  # the replica's name


class PulseQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which count: `kind:target`."""

    key: str


class PulseReplica(msgspec.Struct, frozen=True):
    """One replica at a beat."""

    name: str
    rollup: int  # at which it stands
    count: int | None  # of the key, as it shows it; null: it is being filled
    age_ms: float | None  # as in ReadInfo
    delay_ms: float  # injected
    following: bool  # the feed; false: it was told to stand still


class PulseEvent(msgspec.Struct, frozen=True):
    """What a node does at one moment; totals are since it began."""

    uptime_ms: float
    writes: int  # acknowledged by this node, in all
    rollups: int  # made by this node, in all ..
    events: int  # .. and what they folded
    rollup: int | None  # newest of the store; null: the store cannot be reached
    backlog: int | None  # events that wait for a rollup; null as above
    replicas: list[PulseReplica]


# --- edges ----------------------------------------------------------------------------------------


class EdgeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an edge carries; `expires_in_s` for a claim on an exclusive kind."""

    value: int | None = None
    data: Data = None
    expires_in_s: float | None = None


class TallyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much to add, and the id under which it counts once."""

    by: int = 1
    id: str | None = None


class ListQuery(ReadOptions, frozen=True, kw_only=True):
    """Which part of a list: since <= created_ms < until, from the cursor on."""

    limit: int = 50
    cursor: str | None = None
    since: int | None = None  # Unix time in ms
    until: int | None = None


class InverseQuery(ListQuery, frozen=True, kw_only=True):
    """The list of what a source did."""

    source: str


class EdgeItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One edge of a list."""

    target: Id
    source: Id
    created_ms: int  # Unix time
    value: int | None = None
    data: Data = None
    expires_ms: int | None = None  # of a claim: Unix time from which it counts for nothing


class EdgeAnswer(EdgeItem, frozen=True, kw_only=True, omit_defaults=True):
    """One edge, and how it was read."""

    kind: str
    read: ReadInfo


class EdgesAnswer(msgspec.Struct, frozen=True):
    """Part of a list, newest first."""

    edges: list[EdgeItem]
    next: str | None  # cursor to the older ones; null at the end
    prev: str | None  # cursor to the newer ones, also those still to come
    read: ReadInfo


# --- objects --------------------------------------------------------------------------------------


class ObjectRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to store; with `if_version` only over that version (0: only if there is none)."""

    type: str
    data: msgspec.Raw
    if_version: int | None = None


class DeleteQuery(msgspec.Struct, frozen=True):
    """Delete only at this version."""

    if_version: int | None = None


class ObjectAnswer(msgspec.Struct, frozen=True):
    """One object."""

    id: str
    type: str
    version: int
    data: msgspec.Raw
    read: ReadInfo


# --- accounts -------------------------------------------------------------------------------------


class AccountRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The bounds of an account; null: none."""

    floor: int | None = 0
    ceiling: int | None = None


class AccountItem(msgspec.Struct, frozen=True, kw_only=True):
    """An account, in minor units."""

    id: str
    balance: int
    held: int  # of it, kept for pending transfers out of here
    expected: int  # kept free below the ceiling for pending transfers to here
    available: int | None  # what may go out: balance - held - floor; null: there is no floor
    floor: int | None
    ceiling: int | None


class AccountAnswer(AccountItem, frozen=True, kw_only=True):
    """An account that was read."""

    read: ReadInfo


class AccountChanged(AccountItem, frozen=True, kw_only=True):
    """An account whose bounds were written."""

    changed: bool


class TransferRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to move, or with `pending` to hold, for `expires_in_s` at most."""

    id: str
    debit: str
    credit: str
    amount: int
    pending: bool = False
    expires_in_s: float | None = None


class PostRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much of a pending transfer is to happen; null: all."""

    amount: int | None = None


class Balance(msgspec.Struct, frozen=True):
    """What is left on one side of a transfer."""

    id: str
    balance: int


class TransferAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a transfer, the same however often it is asked for."""

    id: str
    state: str  # posted, pending or voided
    amount: int  # what has moved; while it is pending, what is held
    debit: Balance
    credit: Balance
    expires_ms: int | None = None  # Unix time from which a pending transfer counts for nothing


class HistoryQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of a history, from the cursor on."""

    limit: int = 50
    cursor: str | None = None


class MovementItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A transfer as it stands."""

    id: str
    debit: str
    credit: str
    amount: int
    state: str  # pending, posted, voided or expired
    posted: int  # what has moved
    created_ms: int  # Unix time
    expires_ms: int | None = None


class MovementAnswer(MovementItem, frozen=True, kw_only=True, omit_defaults=True):
    """A transfer that was read."""

    read: ReadInfo


class MovementsAnswer(msgspec.Struct, frozen=True):
    """Part of an account's history, newest first."""

    transfers: list[MovementItem]
    next: str | None  # cursor to the older ones; null at the end
    read: ReadInfo


# --- outcomes of writes ---------------------------------------------------------------------------


class ChangedAnswer(msgspec.Struct, frozen=True):
    """Outcome of one write on an edge or a tally."""

    changed: bool


class VersionAnswer(msgspec.Struct, frozen=True):
    """Outcome of one write on an object."""

    version: int
    changed: bool


class WritesRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Up to 10,000 writes; with `atomic` all of them or none."""

    writes: list[Write]
    atomic: bool = False


class OutcomeItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Outcome of one write of many: `changed` and what there is to tell, or `code` and `detail`."""

    changed: bool
    version: int | None = None  # of an object
    code: str | None = None
    detail: str | None = None
    transfer: TransferAnswer | None = None
    account: AccountItem | None = None


class WritesAnswer(msgspec.Struct, frozen=True):
    """Outcomes, one per write, in order."""

    outcomes: list[OutcomeItem]


# --- the node itself ------------------------------------------------------------------------------


class ReplicaStatus(msgspec.Struct, frozen=True):
    """Where one replica stands."""

    name: str
    rollup: int
    revision: str  # xmin:xmax:xip
    age_ms: float | None
    delay_ms: float  # injected
    following: bool  # the feed; false: it was told to stand still


class StatusAnswer(msgspec.Struct, frozen=True):
    """The state of a node."""

    version: str
    store: str  # what kind of store, and its identity
    epoch: int
    revision: str  # all that is committed
    rollup: int
    backlog: int  # events that wait for a rollup
    replicas: list[ReplicaStatus]
    kinds: list[dict[str, Any]]
    uptime_s: float


class HealthAnswer(msgspec.Struct, frozen=True):
    """Whether all is well."""

    ok: bool


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error, as application/problem+json (RFC 9457)."""

    title: str
    status: int
    code: str
    detail: str
    type: str = "about:blank"
    version: int | None = None  # with version-conflict: where the object stands
    index: int | None = None  # in a batch: the write that is at fault
    read: dict[str, Any] | None = None  # of a read that found nothing: how it was served
