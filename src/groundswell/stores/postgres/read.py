"""Reads, each one statement and hence one state.

What a statement has seen is `groundswell.state`: where no event is waiting, it sees the same of ours as
the newest rollup and says so, since a replica that has applied that rollup need not wait for more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from groundswell.kinds import Kind
from groundswell.model import ACCOUNT, Counter, Document, Id, Key, SettleClaim
from groundswell.revision import Revision
from groundswell.store import (
    CountChange,
    CounterRow,
    Counters,
    Documents,
    Feed,
    Head,
    Rollup,
)
from groundswell.stores.postgres.rows import SQL_TYPE, out, raw
from groundswell.stores.postgres.server import Connection
from groundswell.stores.postgres.snapshots import parse
from groundswell.stores.postgres.statements import fetch_all, fetch_one

CURRENT_MAX: Final = 10_000  # events that `current` looks through
BACKLOG_MAX: Final = 1_000_000  # counted; beyond it is that

_ABSENT: Final = CounterRow(Counter(0), 0, 0)
_COUNTS: Final = msgspec.json.Decoder(tuple[CountChange, ...])
_DOCUMENTS: Final = msgspec.json.Decoder(tuple[tuple[str, str, int, int, msgspec.Raw], ...])

STATE: Final = (
    "s.number, s.epoch, s.snapshot::text, s.head::text, s.waiting"  # of groundswell.state AS s
)
WIDTH: Final = 5
STANDING: Final = f"SELECT {STATE} FROM groundswell.state AS s"


class State(NamedTuple):
    """What a statement has seen."""

    rollup: int  # the newest one
    epoch: int  # on which that was made
    rolled: Revision  # its own
    now: Revision  # what is committed now; on a standby, which cannot know that, the same as `rolled`

    @classmethod
    def of(cls, row: Sequence[Any], *, standby: bool) -> State:
        """From a row that begins with the columns of STATE."""
        number, epoch, snapshot, head, waiting = row[:WIDTH]
        rolled = parse(snapshot)
        return cls(number, epoch, rolled, parse(head) if waiting and not standby else rolled)


async def standing(connection: Connection) -> Revision:
    """What is committed now."""
    return State.of(await fetch_one(connection, STANDING), standby=False).now


async def head(connection: Connection, epoch: int) -> Head:
    """Where the store stands."""
    number, snapshot = await fetch_one(
        connection, "SELECT number, head::text FROM groundswell.state"
    )
    return Head(epoch, parse(snapshot), number)


async def backlog(connection: Connection) -> int:
    """How many events wait for a rollup, up to BACKLOG_MAX."""
    [events] = await fetch_one(
        connection,
        """
        SELECT count(*) FROM (
            SELECT FROM groundswell.state AS s, groundswell.unfolded(s.snapshot) AS e
            LIMIT %s) AS counted
        """,
        [BACKLOG_MAX],
    )
    return int(events)


_FEED: Final = f"""
    SELECT {STATE}, r.number, r.snapshot::text, r.counts, r.documents
    FROM groundswell.state AS s LEFT JOIN LATERAL (
        SELECT number, snapshot, counts, documents,
               sum(greatest(changes, 1)) OVER (ORDER BY number) AS total
        FROM groundswell.rollup WHERE number > %s AND number <= %s
    ) AS r ON r.total <= %s OR r.number = %s
    ORDER BY r.number
"""


async def feed(connection: Connection, epoch: int | None, after: int, changes_max: int) -> Feed:
    """The rollups after number `after`; `epoch` None stands for a standby, here and below."""
    bound = [after, after + max(changes_max, 1), changes_max, after + 1]
    found = await fetch_all(connection, _FEED, bound)
    state, first = State.of(found[0], standby=epoch is None), found[0][WIDTH]
    epoch = state.epoch if epoch is None else epoch
    latest = Rollup(state.rollup, state.rolled)
    if after < 0 or after > state.rollup or (after < state.rollup and first != after + 1):
        return Feed(epoch, state.now, latest, (), behind=True)
    rollups = tuple(_rollup(row[WIDTH:]) for row in found if row[WIDTH] is not None)
    return Feed(epoch, state.now, latest, rollups)


def _rollup(row: Sequence[Any]) -> Rollup:
    number, snapshot, counts, documents = row
    return Rollup(
        number,
        parse(snapshot),
        () if counts is None else _COUNTS.decode(counts),
        () if documents is None else tuple(map(_published, _DOCUMENTS.decode(documents))),
    )


def _published(row: tuple[str, str, int, int, msgspec.Raw]) -> Document:
    id_, type_, version, xid, data = row
    return Document(id_, type_, version, xid, None if bytes(data) == b"null" else data)


async def counters(connection: Connection, epoch: int | None, keys: Sequence[Key]) -> Counters:
    """Counters as of the newest rollup."""
    found = await fetch_all(
        connection,
        f"""
        SELECT {STATE}, c.place, c.count, c.sum, c.born, c.changed
        FROM groundswell.state AS s LEFT JOIN LATERAL (
            SELECT w.place, k.* FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY
                AS w (kind, target, place)
            JOIN groundswell.counter AS k ON k.target = w.target AND k.kind = w.kind
        ) AS c ON true
        """,
        [[kind for kind, _ in keys], [str(target) for _, target in keys]],
    )
    state = State.of(found[0], standby=epoch is None)
    rows = [_ABSENT] * len(keys)
    for *_, place, count, sum_, born, changed in found:
        if place is not None:
            rows[place - 1] = CounterRow(Counter(count, sum_), born, changed)
    return Counters(
        tuple(rows), state.epoch if epoch is None else epoch, state.rollup, state.rolled
    )


# What a statement has seen (s), the events that wait for a rollup, at most one more than are looked
# through (waiting), and what those of counts come to (queued): for after WITH.
QUEUED: Final = f"""
    s AS MATERIALIZED (SELECT * FROM groundswell.state), waiting AS MATERIALIZED (
        SELECT e.type, e.kind, e.target, e.count, e.sum
        FROM s, groundswell.unfolded(s.snapshot) AS e LIMIT {CURRENT_MAX} + 1
    ), queued AS MATERIALIZED (
        SELECT kind, target, sum(count)::bigint AS count, sum(sum)::bigint AS sum
        FROM waiting WHERE type = 'count' GROUP BY kind, target
    )"""
_CURRENT: Final = f"""
    WITH {QUEUED}
    SELECT {STATE}, (SELECT count(*) FROM waiting),
           coalesce(c.count, 0) + coalesce(q.count, 0), coalesce(c.sum, 0) + coalesce(q.sum, 0)
    FROM s, unnest(%s::text[], %s::text[]) WITH ORDINALITY AS w (kind, target, place)
    LEFT JOIN groundswell.counter AS c ON c.target = w.target AND c.kind = w.kind
    LEFT JOIN queued AS q ON q.target = w.target AND q.kind = w.kind
    ORDER BY w.place
"""


async def current(
    connection: Connection, keys: Sequence[Key]
) -> tuple[tuple[Counter, ...], Revision] | None:
    """Counters with all that is committed; None where more than CURRENT_MAX events wait."""
    wanted = [[kind for kind, _ in keys], [str(target) for _, target in keys]]
    found = await fetch_all(connection, _CURRENT, wanted)
    if found[0][WIDTH] > CURRENT_MAX:
        return None
    rows = tuple(Counter(count, sum_) for *_, count, sum_ in found)
    return rows, State.of(found[0], standby=False).now


# Of the ids in one parameter: objects, and accounts as the objects that they are shown as.
OBJECTS: Final = """
            SELECT id, type, version, xid, data::text FROM groundswell.object
            WHERE id = ANY (%s::text[])"""
ACCOUNTS: Final = f"""
            SELECT '{ACCOUNT}' || id, 'account', version, xid, format(
                '{{"balance":%%s,"held":%%s,"expected":%%s,"floor":%%s,"ceiling":%%s}}', balance, held,
                expected, coalesce(floor::text, 'null'), coalesce(ceiling::text, 'null'))
            FROM groundswell.account WHERE id = ANY (%s::text[])"""


async def documents(connection: Connection, epoch: int | None, ids: Sequence[str]) -> Documents:
    """Objects as they are now."""
    found = await fetch_all(
        connection,
        f"""
        SELECT {STATE}, o.id, o.type, o.version, o.xid, o.data
        FROM groundswell.state AS s LEFT JOIN ({OBJECTS}
            UNION ALL{ACCOUNTS}
        ) AS o ON true
        """,
        [*stored_as(ids)],
    )
    state = State.of(found[0], standby=epoch is None)
    return to_documents(ids, [row[WIDTH:] for row in found], state, epoch)


def stored_as(ids: Sequence[str]) -> tuple[list[str], list[str]]:
    """The ids of objects, and those of accounts as these have them."""
    return (
        [id_ for id_ in ids if not id_.startswith(ACCOUNT)],
        [id_.removeprefix(ACCOUNT) for id_ in ids if id_.startswith(ACCOUNT)],
    )


def to_documents(
    ids: Sequence[str], found: Iterable[Sequence[Any]], state: State, epoch: int | None
) -> Documents:
    """The answer, from rows of OBJECTS and ACCOUNTS."""
    rows = {
        id_: Document(id_, type_, version, xid, raw(data))
        for id_, type_, version, xid, data in found
        if id_ is not None
    }
    return Documents(
        tuple(rows.get(id_) for id_ in ids),
        state.epoch if epoch is None else epoch,
        state.rollup,
        state.now,
    )


async def expired_claims(
    connection: Connection, kind: Kind, at_most: int, now_ms: int | None, floor_ms: int
) -> list[SettleClaim]:
    """The targets of an exclusive kind whose claims are over."""
    found = await fetch_all(
        connection,
        f"""
        SELECT {out("e.target", kind.target)}
        FROM (SELECT groundswell.moment(%s, %s) AS at) AS n JOIN groundswell.edge_{kind.name} AS e
        ON e.expires_at <= n.at ORDER BY e.expires_at LIMIT %s
        """,
        [now_ms, floor_ms, at_most],
    )
    return [SettleClaim(kind.name, target) for (target,) in found]


async def recount(connection: Connection, kind: Kind, target: Id) -> Counter:
    """The truth behind a counter."""
    if kind.unique:
        sql = (
            f"SELECT count(*), coalesce(sum(value), 0)::bigint FROM groundswell.edge_{kind.name} "
            f"WHERE target = %s::{SQL_TYPE[kind.target]}"
        )
        bound: list[Any] = [target]
    else:
        sql = """
            SELECT coalesce(sum(count), 0)::bigint, 0 FROM (
                SELECT count FROM groundswell.counter WHERE kind = %s AND target = %s
                UNION ALL
                SELECT e.count FROM groundswell.state AS s, groundswell.unfolded(s.snapshot) AS e
                WHERE e.type = 'count' AND e.kind = %s AND e.target = %s) AS parts
        """
        bound = [kind.name, str(target)] * 2
    count, sum_ = await fetch_one(connection, sql, bound)
    return Counter(count, sum_)


async def recount_value(connection: Connection, kind: Kind, target: Id, value: int) -> Counter:
    """The truth behind the counter of one value."""
    sql = (
        f"SELECT count(*) FROM groundswell.edge_{kind.name} "
        f"WHERE target = %s::{SQL_TYPE[kind.target]} AND value = %s"
    )
    [count] = await fetch_one(connection, sql, [target, value])
    return Counter(count)
