"""The peer of benchmarks/postgres.py: likes the naive way, each in one transaction with its post's count.

    python benchmarks/postgres_peer.py --store URL --pool 8 [--one-statement]

An ASGI endpoint on the same server program as a node, as short as it can be: no checks, no router.
`PUT /likes/{post}/{user}` answers {"changed": true | false}. Needs the tables of `SCHEMA`.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Any, Final

import asyncpg  # type: ignore[import-untyped]
import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

from groundswell.server.run import collecting_rarely, free_port

HOST: Final = "127.0.0.1"
SCHEMA: Final = """
    CREATE TABLE posts (id bigint PRIMARY KEY, like_count bigint NOT NULL DEFAULT 0);
    CREATE TABLE likes (
        post_id bigint NOT NULL, user_id bigint NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (post_id, user_id));
    INSERT INTO posts (id) SELECT generate_series(1, 100);
"""

INSERT: Final = "INSERT INTO likes (post_id, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING"
UPDATE: Final = "UPDATE posts SET like_count = like_count + 1 WHERE id = $1"
ONE_STATEMENT: Final = f"""
    WITH born AS ({INSERT} RETURNING post_id)
    UPDATE posts SET like_count = like_count + 1 FROM born WHERE id = born.post_id
"""

Like = Callable[[Any, int, int], Awaitable[bool]]


async def like(pool: Any, post: int, user: int) -> bool:
    """What everybody writes first."""
    async with pool.acquire() as connection, connection.transaction():
        changed: bool = await connection.execute(INSERT, post, user) == "INSERT 0 1"
        if changed:
            await connection.execute(UPDATE, post)
        return changed


async def like_at_once(pool: Any, post: int, user: int) -> bool:
    """The same in one round trip, for whoever knows how; the row is locked for as long as it must."""
    async with pool.acquire() as connection:
        changed: bool = await connection.execute(ONE_STATEMENT, post, user) == "UPDATE 1"
        return changed


class App:
    """The endpoint."""

    def __init__(self, pool: Any, like: Like) -> None:
        self._pool = pool
        self._like = like

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        _, _, post, user = scope["path"].split("/")
        changed = await self._like(self._pool, int(post), int(user))
        body = b'{"changed":true}' if changed else b'{"changed":false}'
        headers = ((b"content-type", b"application/json"),)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def serve(url: str, connections: int, like: Like) -> None:
    pool = await asyncpg.create_pool(url, min_size=connections, max_size=connections)
    await listen(App(pool, like))
    pool.terminate()


async def listen(app: Any) -> None:
    """Serve an endpoint on a free port until told to stop."""
    port = free_port(HOST, 0)
    server = Server(
        app,
        address=HOST,
        port=port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=False,
        log_enabled=False,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, server.stop)
    print(f"listens on http://{HOST}:{port}", flush=True)
    with collecting_rarely():
        await server.serve()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--store", required=True)
    parser.add_argument("--pool", type=int, default=8)
    parser.add_argument("--one-statement", action="store_true")
    arguments = parser.parse_args()
    how = like_at_once if arguments.one_statement else like
    uvloop.run(serve(arguments.store, arguments.pool, how))
