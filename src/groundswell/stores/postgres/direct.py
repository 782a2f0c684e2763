"""Commits that the database decides alone: one statement per kind looks, writes and queues.

Adds and removes of kinds without values and seats, no edge written in two ways, tallies without ids, and
objects put whatever their version: what a spike is made of. What each write came to is read off the rows
that the statement returned. Everything else is `planned`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, cast

from psycopg import AsyncCursor
from psycopg.rows import TupleRow

from groundswell.kinds import IdType, Kind, Kinds
from groundswell.model import Add, Effect, Id, Key, Put, Remove, Tally
from groundswell.revision import Revision
from groundswell.store import Batch, Changed, Committed, Outcome, Stored
from groundswell.stores.postgres import citus, read
from groundswell.stores.postgres.queues import PUT, Queue
from groundswell.stores.postgres.rows import SQL_TYPE, array, json, out
from groundswell.stores.postgres.server import Connection
from groundswell.stores.postgres.snapshots import including, parse
from groundswell.stores.postgres.statements import execute, fetch_all, fetch_one, one

CHANGED: Final = Changed(True)
UNCHANGED: Final = Changed(False)
_CHANGED: Final = attrgetter("changed")

Pair = tuple[Id, Id]  # target, source


class Edges:
    """What a group writes to the edges of one kind, and what came of it."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.adds: list[Add] = []
        self.removes: list[Remove] = []
        self.repeated = False  # whether a write was left out as a repetition
        self.open: set[Pair] = set()  # edges whose first write has not been answered yet
        # Once done. `born`: added where there was none; `gone`: removed; None stands for all of them.
        self.born: set[Pair] | None = None
        self.replaced: set[Pair] = set()  # added over other data
        self.gone: set[Pair] | None = None

    def settle(self) -> bool:
        """Leave out repetitions, which change nothing; False where an edge is written in two ways."""
        adds = {(write.target, write.source): write for write in self.adds}
        removes = {(write.target, write.source): write for write in self.removes}
        self.repeated = len(adds) + len(removes) < len(self.adds) + len(self.removes)
        if self.repeated and any(w.data != adds[w.target, w.source].data for w in self.adds):
            return False
        self.adds, self.removes = list(adds.values()), list(removes.values())
        self.open = {*adds, *removes}
        return len(self.open) == len(adds) + len(removes)

    def statement(self, queue: Queue, start: str) -> tuple[str, list[Any]]:
        """What is to be executed, and its parameters after those of `start`."""
        source, target = self.kind.source, self.kind.target
        bound: list[Any] = []
        data = [json(write.data) for write in self.adds if write.data is not None]
        if self.adds:
            bound.append(array(target, [write.target for write in self.adds]))
            bound.append(array(source, [write.source for write in self.adds]))
            if data:
                bound.append([json(write.data) for write in self.adds])
        if self.removes:
            bound.append(array(target, [write.target for write in self.removes]))
            bound.append(array(source, [write.source for write in self.removes]))
        shape = bool(self.adds), bool(data), bool(self.removes)
        bound += [len(self.adds), len(self.removes)]
        return _edges_sql(self.kind.name, target, source, *shape, queue, start), bound

    def done(self, row: Sequence[Any]) -> None:
        """Take over what the statement returned: lists only where not every write did what it says."""
        targets, sources, births, gone_targets, gone_sources = row
        if births is not None:
            found = list(zip(zip(targets, sources, strict=True), births, strict=True))
            self.born = {pair for pair, new in found if new}
            self.replaced = {pair for pair, new in found if not new}
        if gone_targets is not None:
            self.gone = set(zip(gone_targets, gone_sources, strict=True))

    @property
    def all_born(self) -> bool:
        """Whether there were adds alone, no repetitions, and each added an edge."""
        return self.born is None and not self.removes and not self.repeated

    def effect(self, write: Add | Remove) -> int | None:
        """What the write did to the count, asked in order of the writes; None: it changed nothing."""
        pair = (write.target, write.source)
        if pair not in self.open:
            return None  # it says what another one here has said
        self.open.discard(pair)
        if isinstance(write, Remove):
            return -1 if self.gone is None or pair in self.gone else None
        if self.born is None or pair in self.born:
            return 1
        return 0 if pair in self.replaced else None


class Objects:
    """The objects that a group puts, each once, and what came of it."""

    def __init__(self) -> None:
        self.puts: dict[str, Put] = {}
        self.stored: dict[str, Stored] = {}  # once done

    def add(self, write: Put) -> bool:
        """Take it; False where it needs a plan."""
        alone = write.id not in self.puts
        self.puts[write.id] = write
        return alone and write.if_version is None

    def statement(self, queue: Queue, start: str) -> tuple[str, list[Any]]:
        """As `Edges.statement`."""
        puts = self.puts.values()
        bound: list[Any] = [[*self.puts], [put.type for put in puts], [json(p.data) for p in puts]]
        return _objects_sql(queue, start), bound

    async def done(self, connection: Connection, row: Sequence[Any]) -> None:
        """Take over what the statement returned. What is not in it stood there already, and is locked."""
        self.stored = {id_: Stored(version) for id_, version in zip(*row, strict=True)}
        standing = [id_ for id_ in self.puts if id_ not in self.stored]
        if standing:
            sql = "SELECT id, version FROM groundswell.object WHERE id = ANY (%s::text[])"
            for id_, version in await fetch_all(connection, sql, [standing]):
                self.stored[id_] = Stored(version, changed=False)


class Group:
    """The writes of a group of batches, by kind."""

    def __init__(self, kinds: Kinds) -> None:
        self.edges = {
            kind.name: Edges(kind)
            for kind in kinds
            if kind.unique and kind.value is None and not kind.exclusive
        }
        self.tallies: dict[Key, int] = {}
        self.objects = Objects()

    @classmethod
    def of(
        cls, batches: Sequence[Batch], kinds: Kinds, *, distributed: bool = False
    ) -> Group | None:
        """The group, or None where it needs a plan, as objects do whose shards do not know our xid."""
        group = cls(kinds)
        edges = group.edges
        for batch in batches:
            for write in batch.writes:
                if isinstance(write, Add) and write.kind in edges:
                    edges[write.kind].adds.append(write)
                elif isinstance(write, Remove) and write.kind in edges:
                    edges[write.kind].removes.append(write)
                elif isinstance(write, Tally) and write.id is None:
                    key = (write.kind, write.target)
                    group.tallies[key] = group.tallies.get(key, 0) + write.by
                elif distributed or not isinstance(write, Put) or not group.objects.add(write):
                    return None
        group.edges = {name: one for name, one in edges.items() if one.adds or one.removes}
        return group if all(one.settle() for one in group.edges.values()) else None


async def commit(
    connection: Connection,
    queue: Queue,
    group: Group,
    batches: Sequence[Batch],
    *,
    distributed: bool = False,
    now_ms: int | None,
    floor_ms: int,
) -> tuple[list[Committed], int]:
    """Write the group in one transaction; what its batches came to, and its time."""
    edges = [group.edges[name] for name in sorted(group.edges)]  # a fixed order of locks
    objects = group.objects
    after: AsyncCursor[TupleRow] | None = None
    if len(edges) + bool(group.tallies) == 1 and not objects.puts and not distributed:
        [(sql, bound)] = _statements(group, edges, queue, _ALONE)
        rows = [await fetch_one(connection, sql, [now_ms, floor_ms, *bound])]
    else:
        async with connection.transaction():
            begun = await fetch_one(connection, BEGIN, [now_ms, floor_ms])
            statements = _statements(group, edges, queue, _TOGETHER)
            async with connection.pipeline():
                cursors = [await execute(connection, s, [*begun, *b]) for s, b in statements]
                if objects.puts:
                    after = await execute(connection, "SELECT pg_current_snapshot()::text")
                if distributed:
                    await citus.seal(connection)
            rows = [await one(cursor) for cursor in cursors]
            if objects.puts:
                await objects.done(connection, rows[-1][4:])
    for written, row in zip(edges, rows, strict=False):
        written.done(row[4:])
    xid, snapshot, at_ms = rows[-1][:3]
    plain = all(written.all_born for written in edges) and not group.tallies and not objects.puts
    if plain:
        return _all_added(batches, xid, including(parse(snapshot), xid)), at_ms
    answers = [_answer(group, batch) for batch in batches]
    if after is not None:  # versions tell of whoever was faster, and so does this, under all locks
        seen = including(parse((await one(after))[0]), xid)
    elif all(UNCHANGED not in outcomes for outcomes, _ in answers):
        seen = including(parse(snapshot), xid)
    else:
        seen = await read.standing(connection)  # it covers whoever was faster
    committed = [
        Committed(outcomes, xid if any(map(_CHANGED, outcomes)) else None, slot, effects, seen)
        for slot, (outcomes, effects) in enumerate(answers)
    ]
    return committed, at_ms


def _all_added(batches: Sequence[Batch], xid: int, seen: Revision) -> list[Committed]:
    """What batches came to that held nothing but adds, each of which added an edge.

    A spike is made of batches of one: those with the same target share what they came to.
    """
    of_one: dict[Key, tuple[Effect, ...]] = {}
    committed = []
    for slot, batch in enumerate(batches):
        keys = [(add.kind, add.target) for add in cast("Sequence[Add]", batch.writes)]
        if len(keys) != 1:
            effects = _effects(Counter(keys))
        elif keys[0] in of_one:
            effects = of_one[keys[0]]
        else:
            effects = of_one[keys[0]] = _effects({keys[0]: 1})
        committed.append(Committed((CHANGED,) * len(keys), xid, slot, effects, seen))
    return committed


def _answer(group: Group, batch: Batch) -> tuple[tuple[Outcome, ...], tuple[Effect, ...]]:
    """What one batch came to: its outcomes, and its effects on counts."""
    moved: dict[Key, int] = {}
    outcomes: list[Outcome] = []
    for write in batch.writes:
        if isinstance(write, Put):
            outcomes.append(group.objects.stored[write.id])
            continue
        assert isinstance(write, Add | Remove | Tally)  # noqa: S101 - Group.of took no others
        effect = write.by if isinstance(write, Tally) else group.edges[write.kind].effect(write)
        outcomes.append(UNCHANGED if effect is None else CHANGED)
        if effect:
            key = (write.kind, write.target)
            moved[key] = moved.get(key, 0) + effect
    return tuple(outcomes), _effects(moved)


def _effects(moved: Mapping[Key, int]) -> tuple[Effect, ...]:
    return tuple([Effect(kind, target, by) for (kind, target), by in moved.items() if by])


def _statements(
    group: Group, edges: Iterable[Edges], queue: Queue, start: str
) -> list[tuple[str, list[Any]]]:
    statements = [one.statement(queue, start) for one in edges]
    if group.tallies:
        kinds, targets = zip(*group.tallies, strict=True)
        bound = [list(kinds), [str(target) for target in targets], list(group.tallies.values())]
        statements.append((_tallies_sql(queue, start), bound))
    if group.objects.puts:
        statements.append(group.objects.statement(queue, start))
    return statements


# What every statement begins with: its time, and the state found before the transaction has an id.
_ALONE: Final = "groundswell.moment(%s, %s) AS at, pg_current_snapshot() AS seen"
_TOGETHER: Final = "groundswell.instant(%s) AS at, %s::pg_snapshot AS seen"
BEGIN: Final = "SELECT groundswell.ms(groundswell.moment(%s, %s)), pg_current_snapshot()::text"
_DONE: Final = """
    pg_current_xact_id()::text::bigint, pg_current_snapshot()::text,
    (SELECT groundswell.ms(at) FROM start), (SELECT count(*) FROM queued)"""


@lru_cache(maxsize=1_000)
def _edges_sql(
    kind: str,
    target: IdType,
    source: IdType,
    adds: bool,
    data: bool,
    removes: bool,
    queue: Queue,
    start: str,
) -> str:
    none = f"SELECT NULL::{SQL_TYPE[target]} AS target, NULL::{SQL_TYPE[source]} AS source"
    ends = f"%s::{SQL_TYPE[target]}[], %s::{SQL_TYPE[source]}[]"
    added = _added_sql(kind, ends, data) if adds else f"{none}, false AS born WHERE false"
    removed = _removed_sql(kind, ends) if removes else f"{none} WHERE false"
    pair = {"targets": out("target", target), "sources": out("source", source)}
    return f"""
        WITH start AS MATERIALIZED (SELECT {start}),
        added AS ({added}),
        removed AS ({removed}),
        moved AS (
            SELECT target, sum(n) AS n FROM (
                SELECT target, born::int AS n FROM added
                UNION ALL SELECT target, -1 FROM removed) AS each
            GROUP BY target
        ), events AS (
            SELECT 'count' AS type, '{kind}' AS kind, target::text AS target, n AS count, 0 AS sum,
                   NULL AS data, seen
            FROM moved, start
        ), queued AS ({PUT[queue]})
        SELECT {_DONE}, a.*, r.*
        FROM ({_lists_sql("added", "count(*) FILTER (WHERE born)", pair | {"births": "born"})}) AS a,
             ({_lists_sql("removed", "count(*)", pair)}) AS r"""


def _added_sql(kind: str, ends: str, data: bool) -> str:
    given = f"unnest({ends}{', %s::text[]' if data else ''})"
    return f"""
        INSERT INTO groundswell.edge_{kind} AS e (target, source, created_at, data)
        SELECT w.target, w.source, at, {"w.data::json" if data else "NULL"}
        FROM {given} AS w (target, source{", data" if data else ""}), start
        ORDER BY w.target, w.source
        ON CONFLICT (target, source) DO UPDATE SET data = excluded.data
        WHERE e.data::text IS DISTINCT FROM excluded.data::text
        RETURNING e.target, e.source, e.xmax = 0 AS born"""


def _removed_sql(kind: str, ends: str) -> str:
    return f"""
        DELETE FROM groundswell.edge_{kind} AS e USING unnest({ends}) AS w (target, source)
        WHERE e.target = w.target AND e.source = w.source
        RETURNING e.target, e.source"""


def _lists_sql(rows: str, done: str, columns: Mapping[str, str]) -> str:
    """The columns as lists; NULL instead where `done` comes to the number that was asked for."""
    shown = ", ".join(f"CASE WHEN whole THEN NULL ELSE {name} END" for name in columns)
    listed = ", ".join(
        f"coalesce(array_agg({column}), '{{}}') AS {name}" for name, column in columns.items()
    )
    return f"SELECT {shown} FROM (SELECT {done} = %s AS whole, {listed} FROM {rows}) AS found"


@lru_cache(maxsize=8)
def _tallies_sql(queue: Queue, start: str) -> str:
    return f"""
        WITH start AS MATERIALIZED (SELECT {start}),
        events AS (
            SELECT 'count' AS type, w.kind, w.target, w.n AS count, 0 AS sum, NULL AS data, seen
            FROM unnest(%s::text[], %s::text[], %s::bigint[]) AS w (kind, target, n), start
        ), queued AS ({PUT[queue]})
        SELECT {_DONE}"""


@lru_cache(maxsize=8)
def _objects_sql(queue: Queue, start: str) -> str:
    return f"""
        WITH start AS MATERIALIZED (SELECT {start}),
        stored AS (
            INSERT INTO groundswell.object AS o (id, type, version, xid, data)
            SELECT id, type, 1, pg_current_xact_id()::text::bigint, data::json
            FROM unnest(%s::text[], %s::text[], %s::text[]) AS w (id, type, data) ORDER BY id
            ON CONFLICT (id) DO UPDATE
            SET type = excluded.type, version = o.version + 1, xid = excluded.xid, data = excluded.data
            WHERE (o.type, o.data::text) IS DISTINCT FROM (excluded.type, excluded.data::text)
            RETURNING id, type, version, data::text AS data
        ), events AS (
            SELECT 'object' AS type, s.type AS kind, id AS target, version AS count,
                   NULL::bigint AS sum, data, seen
            FROM stored AS s, start
        ), queued AS ({PUT[queue]})
        SELECT {_DONE}, coalesce(array_agg(id), '{{}}'), coalesce(array_agg(version), '{{}}')
        FROM stored"""
