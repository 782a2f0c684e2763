"""What the leanest peers share: asyncpg behind an ASGI endpoint that is as short as it can be.

It runs on the same server program and event loop as a node, without checks or a router, and answers the
paths of a node, so that the same client asks all.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import asyncpg  # type: ignore[import-untyped]
import msgspec

from groundswell.server.run import listening

HOST: Final = "127.0.0.1"
HEADERS: Final = ((b"content-type", b"application/json"),)

LIKES: Final = """
    CREATE TABLE likes (
        post_id bigint NOT NULL, user_id bigint NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (post_id, user_id));
"""
POSTS: Final = "CREATE TABLE posts (id bigint PRIMARY KEY, like_count bigint NOT NULL DEFAULT 0);"
INSERT: Final = "INSERT INTO likes (post_id, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING"
_PAGE: Final = """
    SELECT {count} AS count,
           EXISTS (SELECT FROM likes WHERE post_id = k.id AND user_id = $2) AS viewer,
           ARRAY (SELECT user_id FROM likes WHERE post_id = k.id
                  ORDER BY created_at DESC, user_id DESC LIMIT $3) AS newest
    FROM unnest($1::bigint[]) WITH ORDINALITY AS k (id, n) ORDER BY n
"""


class Likes:
    """Likes in PostgreSQL; peers differ in how they count. `COUNT` is that of the post `k.id`."""

    SCHEMA: ClassVar[str]
    COUNT: ClassVar[str]

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        counts = f"SELECT {self.COUNT} FROM unnest($1::bigint[]) WITH ORDINALITY AS k (id, n)"
        self._counts = f"{counts} ORDER BY n"
        self._page = _PAGE.format(count=self.COUNT)

    async def like(self, post: int, user: int) -> bool:
        """Let the like exist; whether it did not before."""
        raise NotImplementedError

    async def counts(self, posts: Sequence[int]) -> list[int]:
        """In the order of the posts."""
        async with self._pool.acquire() as connection:
            return [row[0] for row in await connection.fetch(self._counts, posts)]

    async def page(self, viewer: int, posts: Sequence[int], newest: int) -> list[dict[str, Any]]:
        """Counts, whether the viewer likes them, and who did last: in one statement."""
        async with self._pool.acquire() as connection:
            return [dict(row) for row in await connection.fetch(self._page, posts, viewer, newest)]


class Keys(msgspec.Struct):
    """A request for several counts, or for a page."""

    keys: list[tuple[str, int]]
    viewer: int = 0
    newest: int = 3


class App:
    """The endpoint."""

    def __init__(self, likes: Likes) -> None:
        self._likes = likes
        self._keys = msgspec.json.Decoder(Keys)
        self._encode = msgspec.json.Encoder().encode

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        body = self._encode(await self.answer(scope["method"], scope["path"].split("/"), receive))
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": body})

    async def answer(self, method: str, path: list[str], receive: Any) -> Any:
        """What to say; `path` begins with an empty part."""
        match method, path[2:]:
            case "PUT", ["edges", _, post, user]:
                return {"changed": await self._likes.like(int(post), int(user))}
            case "GET", ["counts", _, post]:
                [count] = await self._likes.counts([int(post)])
                return {"count": count}
            case "POST", ["counts"]:
                asked = self._keys.decode(await body_of(receive))
                counts = await self._likes.counts([post for _, post in asked.keys])
                return {"counts": [{"count": count} for count in counts]}
            case "POST", ["page"]:
                asked = self._keys.decode(await body_of(receive))
                posts = [post for _, post in asked.keys]
                return {"items": await self._likes.page(asked.viewer, posts, asked.newest)}
        return {}


async def body_of(receive: Any) -> bytes:
    """The body of a request, whole."""
    parts = []
    more = True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


async def pool_of(url: str, connections: int) -> Any:
    """Connections to the store, all open."""
    return await asyncpg.create_pool(url, min_size=connections, max_size=connections)


async def listen(app: Any, port: int) -> None:
    """Serve an endpoint until told to stop."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with listening(app, HOST, port):
        await stop.wait()
