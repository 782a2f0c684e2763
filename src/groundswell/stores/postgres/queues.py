"""How a commit puts its events on each of the queues, and how a store chooses between them.

A queue is the relation `groundswell.event` and the functions `tick` and `finish`, made by one of the
migrations 0002_queue.*.sql; here is what stands in a commit's statements.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

import msgspec
from psycopg import AsyncCursor
from psycopg.rows import TupleRow

from groundswell.model import Document, Key
from groundswell.stores.postgres.rows import json
from groundswell.stores.postgres.server import Connection
from groundswell.stores.postgres.statements import execute

Queue = Literal["pgq", "outbox"]

# Each takes rows (type, kind, target, count, sum, data, seen) from the common table expression `events`
# and returns one row per event. `seen` is the state that the transaction found, before it had an id.
PUT: Final[dict[Queue, str]] = {
    "pgq": (
        "SELECT pgq.insert_event('groundswell', type, coalesce(data, sum::text), kind, target, "
        "count::text, seen::text) FROM events"
    ),
    "outbox": (
        "INSERT INTO groundswell.event (xid, seen, type, kind, target, count, sum, data) "
        "SELECT pg_current_xact_id()::text::bigint, seen, type, kind, target, count, sum, data "
        "FROM events RETURNING 1"
    ),
}


async def put(
    connection: Connection,
    queue: Queue,
    counts: Mapping[Key, tuple[int, int]],
    documents: Iterable[Document],
    seen: str,
) -> AsyncCursor[TupleRow]:
    """Queue one event per count and per document; the answer is what the commit has seen."""
    events = [
        _Event("count", kind, str(target), count, sum_)
        for (kind, target), (count, sum_) in sorted(counts.items(), key=_by_text)
    ]
    events += [_Event("object", d.type, d.id, d.version, None, json(d.data)) for d in documents]
    return await execute(
        connection,
        f"""
        WITH events AS (
            SELECT *, %s::pg_snapshot AS seen FROM json_to_recordset(%s::json)
                AS w (type text, kind text, target text, count bigint, sum bigint, data text)
        ), queued AS ({PUT[queue]})
        SELECT pg_current_snapshot()::text, count(*) FROM queued
        """,
        [seen, msgspec.json.encode(events).decode()],
    )


class _Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """As the queue has it."""

    type: str
    kind: str | None = None
    target: str | None = None
    count: int | None = None
    sum: int | None = None
    data: str | None = None


def _by_text(event: tuple[Key, tuple[int, int]]) -> tuple[str, str]:
    return event[0][0], str(event[0][1])
