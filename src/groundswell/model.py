"""The values that the program is about. Frozen, and without I/O."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

ID_CHARS_MAX: Final = 128
OBJECT_BYTES_MAX: Final = 64 * 1024
EDGE_DATA_BYTES_MAX: Final = 4 * 1024
WRITES_MAX: Final = 10_000  # in one call
KEYS_MAX: Final = 1_000  # in one read
PAGE_MAX: Final = 1_000  # edges in one page of a list
ITEMS_MAX: Final = 200  # keys in one page of a feed
NEWEST_MAX: Final = 50  # edges listed with each of them
VALUE_MAX: Final = 2**31 - 1  # of an edge or a tally: 2**32 of them still fit a 64-bit sum
INT_MAX: Final = 2**63 - 1

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


Write = Add | Remove | Tally | Put | Delete
