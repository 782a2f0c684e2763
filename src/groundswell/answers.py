"""From what the store and the replicas say to what a node answers: shapes, and no decisions."""

from __future__ import annotations

import math
from typing import Any

from groundswell.errors import BadRequest, GroundswellError
from groundswell.kinds import Kind, Kinds
from groundswell.model import INT_MAX, PAGE_MAX, Counter, Edge, Key, Level
from groundswell.reader import Served, Want
from groundswell.store import Cursor, Window
from groundswell.stream import News
from groundswell.trending import Trends
from groundswell.wire import (
    CountItem,
    EdgeItem,
    ListQuery,
    ReadInfo,
    StreamEvent,
    StreamItem,
    TrendingAnswer,
    TrendingQuery,
    TrendItem,
)


def overlaid(key: Key, row: Counter, served: Served[Counter]) -> tuple[int, int, int]:
    """Count and sum with the session's own writes on top, and how much of the count those are."""
    count, sum_ = served.pending.get(key, (0, 0)) if served.pending else (0, 0)
    return row.count + count, row.sum + sum_, count


def item(key: Key, row: Counter, served: Served[Counter], kind: Kind) -> CountItem:
    """One of many counts."""
    count, sum_, pending = overlaid(key, row, served)
    return CountItem(
        kind=key[0],
        target=key[1],
        count=count,
        pending=pending,
        sum=None if kind.value is None else sum_,
    )


def info(want: Want, served: Served[Any]) -> ReadInfo:
    """How a read was served."""
    return ReadInfo(
        want.level,
        served.served_by,
        age_ms(served.age_s),
        _milliseconds(served.waited_s),
    )


def trending_answer(
    found: Trends, query: TrendingQuery, served_by: str, age_s: float
) -> TrendingAnswer:
    """What grew most."""
    return TrendingAnswer(
        [TrendItem(trend.target, trend.growth, trend.count) for trend in found.trends],
        query.window_s,
        round(found.since_s, 3),
        found.exact,
        ReadInfo(Level.EVENTUAL, served_by, age_ms(age_s), 0.0),
    )


def stream_event(news: News, kinds: Kinds, served_by: str, now_s: float) -> StreamEvent:
    """What a stream tells at this monotonic time."""
    at = news.standing
    counts = [
        StreamItem(
            kind=kind,
            target=target,
            count=row.count,
            sum=None if kinds[kind].value is None else row.sum,
        )
        for (kind, target), row in news.rows.items()
    ]
    return StreamEvent(
        counts, at.rollup, str(at.revision), age_ms(now_s - at.fresh_at_s), served_by
    )


def age_ms(age_s: float) -> float | None:
    """An age in milliseconds; None where it says nothing."""
    return None if math.isinf(age_s) else _milliseconds(age_s)


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1e6) / 1e3  # three digits, at half the cost of asking `round` for them


def learnt(error: GroundswellError, token: str | None) -> GroundswellError:
    """The error with what the session has learnt from it."""
    error.token = token
    return error


def edge_item(edge: Edge) -> EdgeItem:
    """One edge of a list."""
    return EdgeItem(
        target=edge.target,
        source=edge.source,
        created_ms=edge.created_ms,
        value=edge.value,
        data=edge.data,
    )


def window(query: ListQuery, other: str) -> Window:
    """The part of a list that a query names, whose other ids are of type `other`; BadRequest."""
    if not 1 <= query.limit <= PAGE_MAX:
        raise BadRequest(f"limit must be from 1 to {PAGE_MAX}.")
    cursor = None if query.cursor is None else Cursor.decode(query.cursor)
    if cursor is not None and isinstance(cursor.other, int) is not (other == "int"):
        raise BadRequest("The cursor belongs to another list.")
    if any(at is not None and abs(at) > INT_MAX for at in (query.since, query.until)):
        raise BadRequest("since and until must be 64-bit integers (Unix time in milliseconds).")
    return Window(query.limit, cursor, query.since, query.until)
