"""How a commit puts its events on each of the queues, and how a store chooses between them.

A queue is the relation `groundswell.event` and the functions `tick` and `finish`, made by one of the
migrations 0002_queue.*.sql; here is what stands in a commit's statements.
"""

from __future__ import annotations

from typing import Final, Literal

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
