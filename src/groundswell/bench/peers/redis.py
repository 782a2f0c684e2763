"""`redis`: SADD and INCR in a pipeline, behind FastAPI.

With `appendfsync everysec`, as Redis is shipped and used, a like that was acknowledged may be lost: up to
a second of them with the machine. Between a repeated like and its DECR the count is one too high, and
stays so if the process ends there.
"""

from __future__ import annotations

import os
from typing import Any, Final

from fastapi import FastAPI
from pydantic import BaseModel
from redis.asyncio import ConnectionPool, Redis

pool: Final = ConnectionPool.from_url(os.environ["PEER_STORE"], max_connections=1024)
redis: Final = Redis(connection_pool=pool)
app: Final = FastAPI()


class Keys(BaseModel):
    """A request for several counts."""

    keys: list[tuple[str, int]]


@app.put("/v1/edges/like/{post}/{user}")
async def like(post: int, user: int) -> dict[str, bool]:
    """Let the like exist, and count it if it did not."""
    async with redis.pipeline(transaction=True) as pipeline:
        pipeline.sadd(f"likes:{post}", user)
        pipeline.incr(f"count:{post}")
        added, _ = await pipeline.execute()
    if not added:
        await redis.decr(f"count:{post}")
    return {"changed": bool(added)}


@app.get("/v1/counts/like/{post}")
async def count(post: int) -> dict[str, int]:
    """Of one post."""
    return {"count": int(await redis.get(f"count:{post}") or 0)}


@app.post("/v1/counts")
async def counts(asked: Keys) -> dict[str, Any]:
    """Of several."""
    found = await redis.mget([f"count:{post}" for _, post in asked.keys])
    return {"counts": [{"count": int(one or 0)} for one in found]}
