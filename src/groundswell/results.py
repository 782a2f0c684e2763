"""What a session's calls give back, and how it is made from a node's answers."""

from __future__ import annotations

from typing import Any, TypedDict

import msgspec

from groundswell.model import Edge, Id, Level
from groundswell.wire import (
    AccountAnswer,
    CountAnswer,
    CountItem,
    EdgeAnswer,
    EdgeItem,
    EdgesAnswer,
    MovementItem,
    MovementsAnswer,
    ObjectAnswer,
    PageItem,
    RatingAnswer,
    ReadInfo,
    StreamEvent,
    TrendingAnswer,
    TrendItem,
)

Trend = TrendItem


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """A count, and how it was read."""

    kind: str
    target: Id
    value: int
    sum: int | None  # of the edges' values, for kinds that have them
    pending: int  # how much of it is the session's own writes that the replica had not seen
    level: Level  # the level that was met
    served_by: str
    age_ms: float | None  # everything acknowledged longer ago is in it; None: not known


class Rating(msgspec.Struct, frozen=True, kw_only=True):
    """What the values of a target's edges come to, and how it was read."""

    kind: str
    target: Id
    count: int
    sum: int
    average: float | None  # None: there are none
    histogram: dict[int, int] | None  # how many edges have each value; None: the kind counts none
    pending: int  # how much of the count is the session's own writes that the replica had not seen
    level: Level
    served_by: str
    age_ms: float | None


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One (kind, target) of a page, and how it was read."""

    kind: str
    target: Id
    value: int
    sum: int | None  # of the edges' values, for kinds that have them
    viewer: bool | None  # whether the viewer's edge exists; None: nobody asked, or it is a tally
    newest: list[Edge]  # newest first
    level: Level
    served_by: str
    age_ms: float | None


class Object(msgspec.Struct, frozen=True, kw_only=True):
    """An object, and how it was read."""

    id: str
    type: str
    version: int
    data: dict[str, Any]
    level: Level
    served_by: str
    age_ms: float | None


class AccountState(msgspec.Struct, frozen=True, kw_only=True):
    """An account in minor units, and how it was read."""

    id: str
    balance: int
    held: int  # of it, kept for pending transfers out of here
    expected: int  # kept free below the ceiling for pending transfers to here
    available: int | None  # what may go out; None: there is no floor
    floor: int | None
    ceiling: int | None
    level: Level
    served_by: str
    age_ms: float | None


class TransferPage(msgspec.Struct, frozen=True, kw_only=True):
    """Part of an account's history, newest first."""

    transfers: list[MovementItem]
    next: str | None  # cursor to the older ones; None at the end


class EdgePage(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a list, newest first."""

    edges: list[Edge]
    next: str | None  # cursor to the older ones; None at the end
    prev: str | None  # cursor to the newer ones, also those still to come


class Trending(msgspec.Struct, frozen=True, kw_only=True):
    """What grew most, and what that is based on."""

    kind: str
    trends: list[Trend]  # by growth, then by target
    window_s: int
    since_s: float  # how long the node has watched
    exact: bool  # whether no growth in the window is unknown or was forgotten
    level: Level
    served_by: str
    age_ms: float | None


# --- from a node's answers ------------------------------------------------------------------------


class _Reading(TypedDict):
    level: Level
    served_by: str
    age_ms: float | None


def _reading(read: ReadInfo) -> _Reading:
    """The members with which every result says how it was read."""
    return {"level": read.consistency, "served_by": read.served_by, "age_ms": read.age_ms}


def count(kind: str, target: Id, found: CountAnswer | CountItem, read: ReadInfo) -> Count:
    """One count, alone or of many."""
    return Count(
        kind=kind,
        target=target,
        value=found.count,
        sum=found.sum,
        pending=found.pending,
        level=read.consistency,
        served_by=read.served_by,
        age_ms=read.age_ms,
    )


def told(event: StreamEvent) -> list[Count]:
    """The counts of one event of a stream."""
    return [
        Count(
            kind=item.kind,
            target=item.target,
            value=item.count,
            sum=item.sum,
            pending=0,
            level=Level.EVENTUAL,
            served_by=event.served_by,
            age_ms=event.age_ms,
        )
        for item in event.counts
    ]


def rating(kind: str, target: Id, found: RatingAnswer) -> Rating:
    """What the values come to."""
    return Rating(
        kind=kind,
        target=target,
        count=found.count,
        sum=found.sum,
        average=found.average,
        histogram=found.histogram,
        pending=found.pending,
        **_reading(found.read),
    )


def item(found: PageItem, read: ReadInfo) -> Item:
    """One item of a page."""
    newest = [
        Edge(
            kind=found.kind,
            target=found.target,
            source=edge.source,
            created_ms=edge.created_ms,
            value=edge.value,
            data=edge.data,
        )
        for edge in found.newest
    ]
    return Item(
        kind=found.kind,
        target=found.target,
        value=found.count,
        sum=found.sum,
        viewer=found.viewer,
        newest=newest,
        **_reading(read),
    )


def edge(kind: str, found: EdgeAnswer | EdgeItem) -> Edge:
    """One edge, alone or of a list."""
    return Edge(
        kind=kind,
        target=found.target,
        source=found.source,
        created_ms=found.created_ms,
        value=found.value,
        data=found.data,
        expires_ms=found.expires_ms,
    )


def edge_page(kind: str, found: EdgesAnswer) -> EdgePage:
    """Part of a list."""
    edges = [edge(kind, item) for item in found.edges]
    return EdgePage(edges=edges, next=found.next, prev=found.prev)


def object_(found: ObjectAnswer) -> Object:
    """One object, its data decoded."""
    return Object(
        id=found.id,
        type=found.type,
        version=found.version,
        data=msgspec.json.decode(found.data),
        **_reading(found.read),
    )


def account_state(found: AccountAnswer) -> AccountState:
    """One account."""
    return AccountState(
        id=found.id,
        balance=found.balance,
        held=found.held,
        expected=found.expected,
        available=found.available,
        floor=found.floor,
        ceiling=found.ceiling,
        **_reading(found.read),
    )


def transfer_page(found: MovementsAnswer) -> TransferPage:
    """Part of a history."""
    return TransferPage(transfers=found.transfers, next=found.next)


def trending(kind: str, found: TrendingAnswer) -> Trending:
    """What grew most."""
    return Trending(
        kind=kind,
        trends=found.trending,
        window_s=found.window_s,
        since_s=found.since_s,
        exact=found.exact,
        **_reading(found.read),
    )
