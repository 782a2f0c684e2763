"""Items of a page: counters, newest edges and single edges of many targets in one statement.

Each kind has a table of its own, so the statement is put together from the kinds that are asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from groundswell.kinds import Kind, Kinds
from groundswell.model import Counter, Id, Key, Newest
from groundswell.store import CounterRow, Item, ItemRow, Items, Sight
from groundswell.stores.postgres.read import CURRENT_MAX, QUEUED, STATE, WIDTH, State
from groundswell.stores.postgres.rows import SQL_TYPE, array
from groundswell.stores.postgres.server import Connection
from groundswell.stores.postgres.statements import fetch_one

# source, created_ms, value, data
_Edge = tuple[Id, int, int | None, msgspec.Raw]


class _Row(msgspec.Struct, frozen=True, array_like=True):
    """What the statement returns of one key, as JSON."""

    place: int  # from 1 on
    count: int  # rolled up
    sum: int
    born: int
    changed: int
    moved: int | None  # by what waits; None: nothing waits
    moved_sum: int | None
    edges: tuple[_Edge, ...] | None


_ROWS: Final = msgspec.json.Decoder(list[_Row])
_NO_LISTS: Final = "SELECT NULL::bigint AS place, NULL::json AS edges WHERE false"
_NO_EDGES: Final = "SELECT NULL::bigint AS place WHERE false"


async def items(
    connection: Connection, kinds: Kinds, epoch: int, sights: Sequence[Sight]
) -> Items | None:
    """Items with all that is committed; None where more than CURRENT_MAX events wait."""
    keys = {key: place for place, key in enumerate(dict.fromkeys(s.key for s in sights), 1)}
    listed = {s.key: keys[s.key] for s in sights if s.newest}
    edges = list(dict.fromkeys((s.key, s.viewer) for s in sights if s.viewer is not None))
    bound: list[Any] = []
    list_kinds, edge_kinds = _kinds(kinds, listed), _kinds(kinds, (key for key, _ in edges))
    for kind in list_kinds:
        own = [(target, place) for (name, target), place in listed.items() if name == kind.name]
        bound += [array(kind.target, [t for t, _ in own]), [place for _, place in own]]
    bound += [[kind for kind, _ in keys], [str(target) for _, target in keys]]
    for kind in edge_kinds:
        mine = [
            (target, viewer, place)
            for place, ((name, target), viewer) in enumerate(edges)
            if name == kind.name
        ]
        bound.append(array(kind.target, [target for target, _, _ in mine]))
        bound.append(array(kind.source, [viewer for _, viewer, _ in mine]))
        bound.append([place for _, _, place in mine])
    depth = max((sight.newest for sight in sights), default=0)
    found = await fetch_one(connection, _sql(list_kinds, edge_kinds, depth), bound)
    waiting, rows, places = found[WIDTH:]
    if waiting > CURRENT_MAX:
        return None
    by_key = dict(zip(keys, sorted(_ROWS.decode(rows), key=lambda row: row.place), strict=True))
    existing = {edges[place] for place in places}
    state = State.of(found, standby=False)
    answer = tuple(
        _item_row(by_key[sight.key], sight, (sight.key, sight.viewer) in existing)
        for sight in sights
    )
    return Items(answer, epoch, state.rollup, state.now)


def _kinds(kinds: Kinds, keys: Iterable[Key]) -> tuple[Kind, ...]:
    """The kinds of these keys, in a fixed order, so that the same statements come again."""
    return tuple(kinds[name] for name in sorted({name for name, _ in keys}))


def _item_row(row: _Row, sight: Sight, exists: bool) -> ItemRow:
    counter = Counter(row.count + (row.moved or 0), row.sum + (row.moved_sum or 0))
    newest = tuple(
        Newest(source, created_ms, value, None if bytes(data) == b"null" else data)
        for source, created_ms, value, data in (row.edges or ())[: sight.newest]
    )
    return ItemRow(
        Item(counter, newest, None if sight.viewer is None else exists),
        CounterRow(Counter(row.count, row.sum), row.born, row.changed),
        row.moved is not None,
    )


@lru_cache(maxsize=1_000)
def _sql(list_kinds: tuple[Kind, ...], edge_kinds: tuple[Kind, ...], depth: int) -> str:
    # The limit stands in the text: the planner has to know that it is short. OFFSET 0 keeps it from joining
    # with a whole table, which is small only until the next spike.
    lists = " UNION ALL ".join(_lists_sql(kind, depth) for kind in list_kinds) or _NO_LISTS
    edges = " UNION ALL ".join(map(_edges_sql, edge_kinds)) or _NO_EDGES
    return f"""
        WITH {QUEUED}, lists AS MATERIALIZED ({lists})
        SELECT {STATE}, (SELECT count(*) FROM waiting),
               (SELECT coalesce(json_agg(json_build_array(
                    w.place, coalesce(c.count, 0), coalesce(c.sum, 0), coalesce(c.born, 0),
                    coalesce(c.changed, 0), q.count, q.sum, l.edges)), '[]')::text
                FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS w (kind, target, place)
                LEFT JOIN LATERAL (
                    SELECT * FROM groundswell.counter AS k
                    WHERE k.target = w.target AND k.kind = w.kind OFFSET 0
                ) AS c ON true
                LEFT JOIN queued AS q ON q.target = w.target AND q.kind = w.kind
                LEFT JOIN lists AS l ON l.place = w.place),
               (SELECT coalesce(array_agg(place), '{{}}') FROM ({edges}) AS found)
        FROM s"""


def _lists_sql(kind: Kind, depth: int) -> str:
    return f"""
        SELECT k.place, (
            SELECT json_agg(
                json_build_array(source, groundswell.ms(created_at), value, data)
                ORDER BY created_at DESC, source DESC)
            FROM (
                SELECT source, created_at, value, data FROM groundswell.edge_{kind.name}
                WHERE target = k.target ORDER BY created_at DESC, source DESC LIMIT {depth}
            ) AS e) AS edges
        FROM unnest(%s::{SQL_TYPE[kind.target]}[], %s::bigint[]) AS k (target, place)"""


def _edges_sql(kind: Kind) -> str:
    return f"""
        SELECT w.place
        FROM unnest(%s::{SQL_TYPE[kind.target]}[], %s::{SQL_TYPE[kind.source]}[], %s::bigint[])
            AS w (target, source, place),
            LATERAL (
                SELECT FROM groundswell.edge_{kind.name} AS e
                WHERE e.target = w.target AND e.source = w.source OFFSET 0) AS found"""
