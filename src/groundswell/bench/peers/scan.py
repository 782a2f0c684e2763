"""`scan`: no counter at all, every read counts the rows."""

from __future__ import annotations

from groundswell.bench.peers.endpoint import INSERT, LIKES, Likes


class Scan(Likes):
    """SELECT count(*), over an index alone."""

    SCHEMA = LIKES
    COUNT = "(SELECT count(*) FROM likes WHERE post_id = k.id)"

    async def like(self, post: int, user: int) -> bool:
        """One INSERT."""
        async with self._pool.acquire() as connection:
            changed: bool = await connection.execute(INSERT, post, user) == "INSERT 0 1"
            return changed
