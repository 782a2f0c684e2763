"""The values that the program is about. Frozen, and without I/O."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

ID_CHARS_MAX: Final = 128
OBJECT_BYTES_MAX: Final = 64 * 1024
EDGE_DATA_BYTES_MAX: Final = 4 * 1024
WRITES_MAX: Final = 10_000  # in one call
KEYS_MAX: Final = 1_000  # in one read
STREAM_KEYS_MAX: Final = 100  # of one stream of counts
TRENDS_MAX: Final = 100  # targets in one answer
PAGE_MAX: Final = 1_000  # edges in one page of a list
ITEMS_MAX: Final = 200  # keys in one page of a feed
NEWEST_MAX: Final = 50  # edges listed with each of them
VALUE_MAX: Final = 2**31 - 1  # of an edge or a tally: 2**32 of them still fit a 64-bit sum
INT_MAX: Final = 2**63 - 1
EXPIRES_S_MAX: Final = 10 * 366 * 86_400  # of a hold or a claim
ACCOUNT: Final = "account:"  # an account's state flows to the replicas as the object of this name

if TYPE_CHECKING:
    Data = msgspec.Raw | None
else:  # msgspec would read `Raw | None` as "nothing but null"; what is absent is None all the same
    Data = msgspec.Raw

Moved = Annotated[int, msgspec.Meta(ge=-(2**48), le=2**48)]  # more than WRITES_MAX writes can do

Id = int | str
Key = tuple[str, Id]  # (kind, target) of a count


class Level(enum.StrEnum):
    """How consistent a read has to be, weakest first.

    The session guarantees are those of Terry et al., "Session Guarantees for Weakly Consistent
    Replicated Data" (1994).
    """

    EVENTUAL = "eventual"
    READ_YOUR_WRITES = "read_your_writes"
    MONOTONIC = "monotonic"
    CAUSAL = "causal"
    LINEARIZABLE = "linearizable"


class Effect(msgspec.Struct, frozen=True, array_like=True):
    """What one write did to one count."""

    kind: str
    target: Id
    count: Moved  # added to the number of edges
    sum: Moved = 0  # added to the sum of their values


class Edge(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One stored edge."""

    kind: str
    target: Id
    source: Id
    created_ms: int  # Unix time; edges of later commits are never older
    value: int | None = None
    data: Data = None
    expires_ms: int | None = None  # Unix time from which a claim counts for nothing


class Newest(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One of the newest edges of a target that is named beside them."""

    source: Id
    created_ms: int  # Unix time
    value: int | None = None
    data: Data = None


class Counter(msgspec.Struct, frozen=True, array_like=True):
    """The count of one (kind, target) in some state."""

    count: int
    sum: int = 0


class Document(msgspec.Struct, frozen=True, array_like=True):
    """One version of an object; `data` None is the mark of its deletion."""

    id: str
    type: str
    version: int
    xid: int  # the transaction that wrote this version
    data: msgspec.Raw | None


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A balance in some state, in minor units, and what bounds it.

    `floor <= balance - held` and `balance + expected <= ceiling` always hold; None: no bound.
    """

    id: str
    balance: int = 0
    held: int = 0  # of it, kept for transfers out of here that are pending
    expected: int = 0  # kept free below the ceiling for transfers to here that are pending
    floor: int | None = 0
    ceiling: int | None = None
    version: int = 0
    xid: int = 0  # the transaction that wrote this version

    @property
    def available(self) -> int | None:
        """How much may go out now; None where there is no floor."""
        return None if self.floor is None else self.balance - self.held - self.floor


class Movement(msgspec.Struct, frozen=True, kw_only=True):
    """A transfer as it is stored."""

    id: str
    debit: str  # account that it takes from
    credit: str  # account that it gives to
    amount: int
    pending: bool  # whether it was made as a hold
    state: Literal["pending", "posted", "voided", "expired"]
    posted: int  # what has moved
    created_ms: int  # Unix time, as for edges
    expires_ms: int | None  # from here on a hold that is still pending counts for nothing
    debit_balance: int  # right after it was made
    credit_balance: int
    place: int = 0  # rises with every transfer from or to an account, in the order they happened
    debit_open: bool = False  # whether `held` of its account still counts it
    credit_open: bool = False  # the same for `expected`


# --- writes -------------------------------------------------------------------------------------


class Add(
    msgspec.Struct,
    frozen=True,
    tag="add",
    tag_field="op",
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    """Let the edge exist, with this value and data; replaces another value or data."""

    kind: str
    target: Id
    source: Id
    value: int | None = None
    data: Data = None  # JSON object, canonical once checked
    expires_in_s: float | None = None  # of a claim on an exclusive kind


class Remove(msgspec.Struct, frozen=True, tag="remove", tag_field="op", forbid_unknown_fields=True):
    """Let the edge not exist."""

    kind: str
    target: Id
    source: Id


class Tally(msgspec.Struct, frozen=True, tag="tally", tag_field="op", forbid_unknown_fields=True):
    """Add `by` to the count of a kind without edges; the same `id` counts once."""

    kind: str
    target: Id
    by: int = 1
    id: str | None = None


class Put(msgspec.Struct, frozen=True, tag="put", tag_field="op", forbid_unknown_fields=True):
    """Store an object whole; with `if_version` only over that version (0: only if there is none)."""

    id: str
    type: str
    data: msgspec.Raw
    if_version: int | None = None


class Delete(msgspec.Struct, frozen=True, tag="delete", tag_field="op", forbid_unknown_fields=True):
    """Let the object not exist; with `if_version` only at that version."""

    id: str
    if_version: int | None = None


class Open(msgspec.Struct, frozen=True, tag="account", tag_field="op", forbid_unknown_fields=True):
    """Let the account exist, with these bounds."""

    id: str
    floor: int | None = 0
    ceiling: int | None = None


class Transfer(
    msgspec.Struct,
    frozen=True,
    tag="transfer",
    tag_field="op",
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    """Move an amount between two accounts, once per id; `pending` only holds it for a `Post`."""

    id: str
    debit: str
    credit: str
    amount: int
    pending: bool = False
    expires_in_s: float | None = None


class Post(msgspec.Struct, frozen=True, tag="post", tag_field="op", forbid_unknown_fields=True):
    """Let a pending transfer happen, whole or with a smaller amount; the rest is free again."""

    id: str
    amount: int | None = None


class Void(msgspec.Struct, frozen=True, tag="void", tag_field="op", forbid_unknown_fields=True):
    """Let a pending transfer not happen."""

    id: str


Write = Add | Remove | Tally | Put | Delete | Open | Transfer | Post | Void


class SettleAccount(msgspec.Struct, frozen=True):
    """Let go of what the account's expired holds keep; of nodes alone, as is the next one."""

    id: str


class SettleClaim(msgspec.Struct, frozen=True):
    """Let go of the target of an exclusive kind if the claim on it has expired."""

    kind: str
    target: Id


Settle = SettleAccount | SettleClaim
