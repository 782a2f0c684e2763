"""Edges on PostgreSQL: single ones, and lists of them.

Reads of single edges, and of the beginnings of lists, that arrive while a statement runs share the next
one: there are many of them, each is little work, and a statement costs more than what it finds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache, partial
from typing import Any, Final, Protocol, TypeVar

import msgspec

from groundswell.kinds import IdType, Kind, Kinds
from groundswell.model import Data, Edge, Id
from groundswell.revision import Revision
from groundswell.shared import Shared
from groundswell.store import Page, Window, page
from groundswell.stores.postgres.read import STATE, WIDTH, State
from groundswell.stores.postgres.rows import SQL_TYPE, array, out, raw
from groundswell.stores.postgres.server import Connection
from groundswell.stores.postgres.statements import fetch_all, fetch_one

AT_ONCE: Final = 1_000  # edges that one statement may find

T = TypeVar("T")
_Ends = tuple[Id, Id]  # target, source
_Found = tuple[Edge | None, Revision]
_Begin = tuple[Id, int]  # whose list, how many

# created_ms, value, data, expires_ms
_Rest = tuple[int, int | None, msgspec.Raw, int | None]
_ONES: Final = msgspec.json.Decoder(list[tuple[int, _Rest]])  # place
_LISTS: Final = msgspec.json.Decoder(list[tuple[int, list[tuple[Id, _Rest]]]])  # place, other end
_REST: Final = """json_build_array(
    groundswell.ms(e.created_at), e.value, e.data, groundswell.ms(e.expires_at))"""


class Run(Protocol):
    """Has work done with a connection."""

    async def __call__(self, work: Callable[[Connection], Awaitable[T]], /) -> T:
        """What the work returns."""


class Edges:
    """Those of one server, a primary or a standby."""

    def __init__(self, kinds: Kinds, run: Run, *, standby: bool = False) -> None:
        self._run = run
        self._standby = standby
        stored = [kind for kind in kinds if kind.unique]
        self._ones = {
            kind.name: Shared[_Ends, _Found](partial(self._find, kind), lambda _: 1, AT_ONCE)
            for kind in stored
        }
        self._lists = {
            (kind.name, inverse): Shared[_Begin, Page](
                partial(self._begin, kind, inverse), lambda begin: begin[1], AT_ONCE
            )
            for kind in stored
            for inverse in (False, True)
        }

    async def edge(self, kind: str, target: Id, source: Id) -> _Found:
        """One edge as it is now, and the state it was read in."""
        return await self._ones[kind]((target, source))

    async def part(self, kind: Kind, end: Id, window: Window, *, inverse: bool) -> Page:
        """Part of the list of `end`: a target's sources, or the targets of a source if `inverse`."""
        if window == Window(window.limit):
            return await self._lists[kind.name, inverse]((end, window.limit))
        return await self._run(
            lambda connection: part(
                connection, kind, end, window, inverse=inverse, standby=self._standby
            )
        )

    async def _find(self, kind: Kind, group: Sequence[_Ends]) -> Callable[[_Ends], _Found]:
        asked = list(dict.fromkeys(group))
        bound = [
            array(kind.target, [target for target, _ in asked]),
            array(kind.source, [source for _, source in asked]),
        ]
        row = await self._run(lambda connection: fetch_one(connection, _ones_sql(kind), bound))
        seen = State.of(row, standby=self._standby).now
        found = {asked[place - 1]: rest for place, rest in _ONES.decode(row[WIDTH])}

        def answer(ends: _Ends) -> _Found:
            rest = found.get(ends)
            return None if rest is None else _edge(kind, ends, *rest), seen

        return answer

    async def _begin(
        self, kind: Kind, inverse: bool, group: Sequence[_Begin]
    ) -> Callable[[_Begin], Page]:
        asked = list(dict.fromkeys(group))
        type_ = kind.source if inverse else kind.target
        bound = [array(type_, [end for end, _ in asked]), [limit + 1 for _, limit in asked]]
        row = await self._run(
            lambda connection: fetch_one(connection, _lists_sql(kind, inverse), bound)
        )
        seen = State.of(row, standby=self._standby).now
        found = {asked[place - 1]: listed for place, listed in _LISTS.decode(row[WIDTH])}

        def answer(begin: _Begin) -> Page:
            end, limit = begin
            edges = [
                _edge(kind, (other, end) if inverse else (end, other), *rest)
                for other, rest in found.get(begin, ())
            ]
            return page(edges, Window(limit), seen, inverse=inverse)

        return answer


def _edge(
    kind: Kind,
    ends: _Ends,
    created_ms: int,
    value: int | None,
    data: Data,
    expires_ms: int | None,
) -> Edge:
    return Edge(
        kind=kind.name,
        target=ends[0],
        source=ends[1],
        created_ms=created_ms,
        value=value,
        data=None if data is None or bytes(data) == b"null" else data,
        expires_ms=expires_ms,
    )


# OFFSET 0 keeps the planner from joining with a whole table, which is small only until the next spike.
@lru_cache(maxsize=1_000)
def _ones_sql(kind: Kind) -> str:
    return f"""
        SELECT {STATE}, (
            SELECT coalesce(json_agg(json_build_array(w.place, {_REST})), '[]')::text
            FROM unnest(%s::{SQL_TYPE[kind.target]}[], %s::{SQL_TYPE[kind.source]}[])
                WITH ORDINALITY AS w (target, source, place),
                LATERAL (
                    SELECT * FROM groundswell.edge_{kind.name} AS e
                    WHERE e.target = w.target AND e.source = w.source OFFSET 0) AS e)
        FROM groundswell.state AS s"""


@lru_cache(maxsize=1_000)
def _lists_sql(kind: Kind, inverse: bool) -> str:
    end, type_ = ("source", kind.source) if inverse else ("target", kind.target)
    other, _ = _other(kind, inverse=inverse)
    order = f"e.created_at DESC, e.{other} DESC"
    return f"""
        SELECT {STATE}, (
            SELECT coalesce(json_agg(json_build_array(w.place, l.listed)), '[]')::text
            FROM unnest(%s::{SQL_TYPE[type_]}[], %s::bigint[])
                WITH ORDINALITY AS w (id, wanted, place),
                LATERAL (
                    SELECT json_agg(json_build_array(e.{other}, {_REST}) ORDER BY {order}) AS listed
                    FROM (
                        SELECT * FROM groundswell.edge_{kind.name} AS e WHERE e.{end} = w.id
                        ORDER BY {order} LIMIT w.wanted) AS e) AS l
            WHERE l.listed IS NOT NULL)
        FROM groundswell.state AS s"""


def edge_columns(kind: Kind) -> str:
    """What is selected of an edge e."""
    return (
        f"{out('e.target', kind.target)}, {out('e.source', kind.source)}, "
        "groundswell.ms(e.created_at), e.value, e.data::text, groundswell.ms(e.expires_at)"
    )


def to_edge(kind: Kind, row: Sequence[Any]) -> Edge:
    """An edge from a row of `edge_columns`."""
    target, source, created_ms, value, data, expires_ms = row
    return _edge(kind, (target, source), created_ms, value, raw(data), expires_ms)


async def part(
    connection: Connection,
    kind: Kind,
    end: Id,
    window: Window,
    *,
    inverse: bool,
    standby: bool = False,
) -> Page:
    """Part of the list of `end`: a target's sources, or the targets of a source if `inverse`."""
    where, bound = where_of(kind, end, window, inverse=inverse)
    other = "target" if inverse else "source"
    newer = window.cursor is not None and window.cursor.newer
    order = "ASC" if newer else "DESC"
    found = await fetch_all(
        connection,
        f"""
        SELECT {STATE}, {edge_columns(kind)}
        FROM groundswell.state AS s LEFT JOIN LATERAL (
            SELECT * FROM groundswell.edge_{kind.name} WHERE {where}
            ORDER BY created_at {order}, {other} {order} LIMIT %s
        ) AS e ON true
        ORDER BY e.created_at {order}, e.{other} {order}
        """,
        [*bound, window.limit + 1],
    )
    listed = [to_edge(kind, row[WIDTH:]) for row in found if row[WIDTH] is not None]
    return page(listed, window, State.of(found[0], standby=standby).now, inverse=inverse)


def where_of(kind: Kind, end: Id, window: Window, *, inverse: bool) -> tuple[str, list[Any]]:
    """The condition for the edges of a page, and what is bound to it."""
    end_column, end_type = ("source", kind.source) if inverse else ("target", kind.target)
    other, other_type = _other(kind, inverse=inverse)
    where, bound = [f"{end_column} = %s::{SQL_TYPE[end_type]}"], [end]
    if window.cursor is not None:
        sign = ">" if window.cursor.newer else "<"
        where.append(
            f"(created_at, {other}) {sign} (groundswell.instant(%s), %s::{SQL_TYPE[other_type]})"
        )
        bound += [window.cursor.created_ms, window.cursor.other]
    if window.since_ms is not None:
        where.append("created_at >= groundswell.instant(%s)")
        bound.append(window.since_ms)
    if window.until_ms is not None:
        where.append("created_at < groundswell.instant(%s)")
        bound.append(window.until_ms)
    return " AND ".join(where), bound


def _other(kind: Kind, *, inverse: bool) -> tuple[str, IdType]:
    return ("target", kind.target) if inverse else ("source", kind.source)
