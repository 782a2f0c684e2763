"""`inline`: the like and its post's counter in one transaction; `inline-cte`: in one statement."""

from __future__ import annotations

from typing import Final

from groundswell.bench.peers.endpoint import INSERT, LIKES, POSTS, Likes

UPDATE: Final = "UPDATE posts SET like_count = like_count + 1 WHERE id = $1"
AT_ONCE: Final = f"""
    WITH born AS ({INSERT} RETURNING post_id)
    UPDATE posts SET like_count = like_count + 1 FROM born WHERE id = born.post_id
"""


class Inline(Likes):
    """What everybody writes first."""

    SCHEMA = LIKES + POSTS
    COUNT = "coalesce((SELECT like_count FROM posts WHERE posts.id = k.id), 0)"

    async def like(self, post: int, user: int) -> bool:
        """BEGIN, INSERT, UPDATE, COMMIT."""
        async with self._pool.acquire() as connection, connection.transaction():
            changed: bool = await connection.execute(INSERT, post, user) == "INSERT 0 1"
            if changed:
                await connection.execute(UPDATE, post)
            return changed


class InlineCte(Inline):
    """The same in one round trip, for whoever knows how; the row is locked for as long as it must."""

    async def like(self, post: int, user: int) -> bool:
        """One statement."""
        async with self._pool.acquire() as connection:
            changed: bool = await connection.execute(AT_ONCE, post, user) == "UPDATE 1"
            return changed
