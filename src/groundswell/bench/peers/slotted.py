"""`slotted`: a hundred rows per counter, of which each like moves one at random."""

from __future__ import annotations

import random
from typing import Final

from groundswell.bench.peers.endpoint import INSERT, LIKES, Likes

SLOTS: Final = 100
BUMP: Final = """
    INSERT INTO slots (post_id, slot, likes) VALUES ($1, $2, 1)
    ON CONFLICT (post_id, slot) DO UPDATE SET likes = slots.likes + 1
"""


class Slotted(Likes):
    """Likes wait for each other a hundred times more seldom; a read sums a hundred rows."""

    SCHEMA = (
        LIKES
        + """
    CREATE TABLE slots (
        post_id bigint NOT NULL, slot int NOT NULL, likes bigint NOT NULL, PRIMARY KEY (post_id, slot))
        WITH (fillfactor = 50);
"""
    )
    COUNT = "coalesce((SELECT sum(likes)::bigint FROM slots WHERE post_id = k.id), 0)"

    async def like(self, post: int, user: int) -> bool:
        """BEGIN, INSERT, upsert of a slot, COMMIT."""
        async with self._pool.acquire() as connection, connection.transaction():
            changed: bool = await connection.execute(INSERT, post, user) == "INSERT 0 1"
            if changed:
                await connection.execute(BUMP, post, random.randrange(SLOTS))
            return changed
