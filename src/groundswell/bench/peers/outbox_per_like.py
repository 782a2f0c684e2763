"""`outbox-per-like`: a like leaves one event, and a worker in Python folds the events into counters."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Final

from groundswell.bench.peers.endpoint import INSERT, LIKES, POSTS, Likes

BATCH: Final = 1_000
IDLE_S: Final = 0.02
AT_ONCE: Final = f"""
    WITH born AS ({INSERT} RETURNING post_id)
    INSERT INTO outbox (post_id) SELECT post_id FROM born
"""
TAKE: Final = """
    DELETE FROM outbox WHERE id IN (
        SELECT id FROM outbox ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED)
    RETURNING post_id
"""
FOLD: Final = """
    INSERT INTO posts (id, like_count)
    SELECT * FROM unnest($1::bigint[], $2::bigint[]) AS u (id, likes) ORDER BY id
    ON CONFLICT (id) DO UPDATE SET like_count = posts.like_count + excluded.like_count
"""


class OutboxPerLike(Likes):
    """Likes never wait for the counter's row; counts are as late as the worker."""

    SCHEMA = (
        LIKES + POSTS + "CREATE TABLE outbox ("
        "id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, post_id bigint NOT NULL);"
    )
    COUNT = "coalesce((SELECT like_count FROM posts WHERE posts.id = k.id), 0)"

    async def like(self, post: int, user: int) -> bool:
        """The like and its event, in one statement."""
        async with self._pool.acquire() as connection:
            changed: bool = await connection.execute(AT_ONCE, post, user) == "INSERT 0 1"
            return changed


async def work(connection: Any) -> None:
    """Fold batch after batch, for ever."""
    while True:
        if not await fold(connection):
            await asyncio.sleep(IDLE_S)


async def fold(connection: Any) -> int:
    """Take a batch of events and fold them, in one transaction; how many there were."""
    async with connection.transaction():
        events = Counter(row[0] for row in await connection.fetch(TAKE, BATCH))
        if events:
            await connection.execute(FOLD, list(events), list(events.values()))
    return events.total()
