"""From what the store and the replicas say to what a node answers: shapes, and no decisions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import asdict

from groundswell.errors import BadRequest, NotFound, TooLarge
from groundswell.kinds import IdType, Kind, Kinds, ValueRange, check_id
from groundswell.model import (
    INT_MAX,
    ITEMS_MAX,
    NEWEST_MAX,
    PAGE_MAX,
    Account,
    Counter,
    Edge,
    Id,
    Key,
    Level,
    Movement,
)
from groundswell.reader import Served, Want
from groundswell.store import Before, Cursor, Item, Moved, Movements, Page, Sight, Window
from groundswell.stream import News
from groundswell.trending import Trends
from groundswell.wire import (
    AccountAnswer,
    AccountItem,
    Balance,
    CountItem,
    EdgeAnswer,
    EdgeItem,
    EdgesAnswer,
    HistoryQuery,
    ListQuery,
    MovementAnswer,
    MovementItem,
    MovementsAnswer,
    PageItem,
    RatingAnswer,
    ReadInfo,
    StreamEvent,
    StreamItem,
    TransferAnswer,
    TrendingAnswer,
    TrendingQuery,
    TrendItem,
)

_STRICTNESS: Final = {level: rank for rank, level in enumerate(Level)}


# --- what is asked --------------------------------------------------------------------------------


def strictest(kinds: Iterable[Kind]) -> Level:
    """The level of a read of all these kinds that names none."""
    return max((kind.consistency for kind in kinds), key=_STRICTNESS.__getitem__)


def sights(kinds: Kinds, keys: Sequence[Key], viewer: Id | None, newest: int) -> list[Sight]:
    """What a page asks for, checked; BadRequest and its subclasses."""
    if not keys:
        raise BadRequest("No keys were given.")
    if len(keys) > ITEMS_MAX:
        raise TooLarge(f"{len(keys)} keys in one page; the limit is {ITEMS_MAX}.")
    if not 0 <= newest <= NEWEST_MAX:
        raise BadRequest(f"newest must be from 0 to {NEWEST_MAX}.")
    asked: dict[str, tuple[Kind, Id | None, int]] = {}
    for name in dict.fromkeys(name for name, _ in keys):
        kind = kinds[name]
        mine = None
        if viewer is not None and kind.unique:
            mine = check_id(kind.source, viewer, f"viewer, as a source of kind {name},")
        asked[name] = kind, mine, newest if kind.unique else 0
    found = []
    for name, target in keys:
        kind, mine, listed = asked[name]
        found.append(Sight((name, check_id(kind.target, target, "target")), mine, listed))
    return found


def window(query: ListQuery, other: IdType) -> Window:
    """The part of a list that a query names, whose other ids are of type `other`; BadRequest."""
    _check_limit(query.limit)
    cursor = None if query.cursor is None else Cursor.decode(query.cursor)
    if cursor is not None:
        try:
            check_id(other, cursor.other, "cursor")
        except BadRequest:
            raise BadRequest("The cursor belongs to another list.") from None
    if any(at is not None and abs(at) > INT_MAX for at in (query.since, query.until)):
        raise BadRequest("since and until must be 64-bit integers (Unix time in milliseconds).")
    return Window(query.limit, cursor, query.since, query.until)


def before(query: HistoryQuery) -> Before | None:
    """Where in a history a query begins; BadRequest."""
    _check_limit(query.limit)
    return None if query.cursor is None else Before.decode(query.cursor)


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= PAGE_MAX:
        raise BadRequest(f"limit must be from 1 to {PAGE_MAX}.")


# --- how it was read ------------------------------------------------------------------------------


def info(want: Want, served: Served[Any]) -> ReadInfo:
    """How a read was served."""
    return ReadInfo(
        want.level,
        served.served_by,
        age_ms(served.age_s),
        _milliseconds(served.waited_s) if served.waited_s else 0.0,
    )


def age_ms(age_s: float) -> float | None:
    """An age in milliseconds; None where it says nothing."""
    return None if age_s == math.inf else _milliseconds(age_s)


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1e6) / 1e3  # three digits, at half the cost of asking `round` for them


def missing(error: NotFound, read: ReadInfo, token: str | None) -> NotFound:
    """The error with how the read was served that found nothing, and what the session has learnt."""
    error.read = msgspec.to_builtins(read)
    error.token = token
    return error


# --- counts ---------------------------------------------------------------------------------------


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


def rating_answer(
    values: ValueRange, keys: Sequence[Key], served: Served[Counter], read: ReadInfo
) -> RatingAnswer:
    """What the counters of a target, and then of each value there, come to."""
    found = [overlaid(key, row, served) for key, row in zip(keys, served.rows, strict=True)]
    count, sum_, pending = found[0]
    histogram = {v: row[0] for v, row in zip(values.buckets, found[1:], strict=True)}
    average = sum_ / count if count else None
    return RatingAnswer(count, sum_, average, histogram or None, pending, read)


def page_item(sight: Sight, item: Item, *, valued: bool) -> PageItem:
    """One item of a page; `valued` says that its kind has values."""
    name, target = sight.key
    return PageItem(
        kind=name,
        target=target,
        count=item.counter.count,
        pending=0,
        newest=item.newest,
        sum=item.counter.sum if valued else None,
        viewer=item.viewer,
    )


# --- what goes on ---------------------------------------------------------------------------------


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


# --- edges ----------------------------------------------------------------------------------------


def edge_answer(edge: Edge, read: ReadInfo) -> EdgeAnswer:
    """One edge that was read."""
    return EdgeAnswer(**asdict(edge_item(edge)), kind=edge.kind, read=read)


def edge_item(edge: Edge) -> EdgeItem:
    """One edge of a list."""
    return EdgeItem(
        target=edge.target,
        source=edge.source,
        created_ms=edge.created_ms,
        value=edge.value,
        data=edge.data,
        expires_ms=edge.expires_ms,
    )


def edges_answer(page: Page, read: ReadInfo) -> EdgesAnswer:
    """Part of a list."""
    edges = [edge_item(edge) for edge in page.edges]
    return EdgesAnswer(edges, _encoded(page.next), _encoded(page.prev), read)


def _encoded(cursor: Cursor | Before | None) -> str | None:
    return None if cursor is None else cursor.encode()


# --- accounts -------------------------------------------------------------------------------------


def account_answer(account: Account, read: ReadInfo) -> AccountAnswer:
    """An account that was read."""
    return AccountAnswer(**asdict(account_item(account)), read=read)


def account_item(account: Account) -> AccountItem:
    """An account without how it was read."""
    return AccountItem(
        id=account.id,
        balance=account.balance,
        held=account.held,
        expected=account.expected,
        available=account.available,
        floor=account.floor,
        ceiling=account.ceiling,
    )


def transfer_answer(moved: Moved) -> TransferAnswer:
    """What became of a transfer."""
    return TransferAnswer(
        moved.id,
        moved.state,
        moved.amount,
        Balance(moved.debit, moved.debit_balance),
        Balance(moved.credit, moved.credit_balance),
        moved.expires_ms,
    )


def movement_answer(movement: Movement, read: ReadInfo) -> MovementAnswer:
    """A transfer that was read."""
    return MovementAnswer(**asdict(movement_item(movement)), read=read)


def movement_item(movement: Movement) -> MovementItem:
    """A transfer without how it was read."""
    return MovementItem(
        id=movement.id,
        debit=movement.debit,
        credit=movement.credit,
        amount=movement.amount,
        state=movement.state,
        posted=movement.posted,
        created_ms=movement.created_ms,
        expires_ms=movement.expires_ms,
    )


def movements_answer(found: Movements, read: ReadInfo) -> MovementsAnswer:
    """Part of an account's history."""
    rows = [movement_item(movement) for movement in found.rows]
    return MovementsAnswer(rows, _encoded(found.next), read)
