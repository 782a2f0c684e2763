"""`inline` with objects, edges that carry data, and transactions over both: TAOBench's peer."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from groundswell.bench.peers.endpoint import App, body_of
from groundswell.bench.peers.inline import UPDATE, Inline

PUT_OBJECT: Final = """
    INSERT INTO objects (id, type, data) VALUES ($1, $2, $3)
    ON CONFLICT (id) DO UPDATE SET data = excluded.data, version = objects.version + 1
    RETURNING version
"""
# Whether the row was inserted is what says that nobody has updated it.
PUT_EDGE: Final = """
    INSERT INTO likes (post_id, user_id, data) VALUES ($1, $2, $3)
    ON CONFLICT (post_id, user_id) DO UPDATE SET data = excluded.data
    RETURNING xmax = 0
"""
EDGE: Final = "SELECT created_at, data FROM likes WHERE post_id = $1 AND user_id = $2"
NEWEST: Final = """
    SELECT user_id, created_at, data FROM likes WHERE post_id = $1
    ORDER BY created_at DESC, user_id DESC LIMIT 50
"""


class Write(msgspec.Struct):
    """A member of POST /v1/writes."""

    op: str
    data: dict[str, Any]
    target: int = 0
    source: int = 0
    id: str = ""
    type: str = ""


class Writes(msgspec.Struct):
    """Its body."""

    writes: list[Write]


class Graph(Inline):
    """Objects and edges, the counter updated in the transaction of its edge."""

    SCHEMA = (
        Inline.SCHEMA
        + """
    ALTER TABLE likes ADD COLUMN data text;
    CREATE TABLE objects (
        id text PRIMARY KEY, type text NOT NULL, data text NOT NULL, version bigint NOT NULL DEFAULT 1);
"""
    )

    async def object(self, id_: str) -> Any:
        """A row, or None."""
        async with self._pool.acquire() as connection:
            return await connection.fetchrow("SELECT * FROM objects WHERE id = $1", id_)

    async def edge(self, post: int, user: int) -> Any:
        """A row, or None."""
        async with self._pool.acquire() as connection:
            return await connection.fetchrow(EDGE, post, user)

    async def newest(self, post: int) -> Any:
        """Rows."""
        async with self._pool.acquire() as connection:
            return await connection.fetch(NEWEST, post)

    async def write(self, writes: list[Write]) -> None:
        """All of them in one transaction, in the order of their keys, so that none wait in a circle."""
        writes.sort(key=lambda write: (write.op, write.target, write.source, write.id))
        async with self._pool.acquire() as connection, connection.transaction():
            for one in writes:
                data = msgspec.json.encode(one.data).decode()
                if one.op == "put":
                    await connection.fetchval(PUT_OBJECT, one.id, one.type, data)
                elif await connection.fetchval(PUT_EDGE, one.target, one.source, data):
                    await connection.execute(UPDATE, one.target)


class GraphApp(App):
    """The endpoint of it."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self._graph = graph
        self._writes = msgspec.json.Decoder(Writes)

    async def answer(self, method: str, path: list[str], receive: Any) -> Any:
        """What to say."""
        match method, path[2:]:
            case "GET", ["objects", id_]:
                return _plain(await self._graph.object(id_))
            case "GET", ["edges", _, post, user]:
                return _plain(await self._graph.edge(int(post), int(user)))
            case "GET", ["edges", _, post]:
                return {"edges": [_plain(row) for row in await self._graph.newest(int(post))]}
            case "POST", ["writes"]:
                writes = self._writes.decode(await body_of(receive)).writes
                await self._graph.write(writes)
                return {"outcomes": [{"changed": True} for _ in writes]}
            case "PUT", ["objects" | "edges" as what, *ids] if raw := await body_of(receive):
                body = msgspec.json.decode(raw)
                one = Write("put" if what == "objects" else "add", body["data"])
                if what == "objects":
                    one.id, one.type = ids[0], body["type"]
                else:
                    one.target, one.source = int(ids[1]), int(ids[2])
                await self._graph.write([one])
                return {"changed": True}
        return await super().answer(method, path, receive)


def _plain(row: Any) -> Any:
    if row is None:
        raise LookupError("no such row")
    found = dict(row)
    if found.get("data"):
        found["data"] = msgspec.Raw(found["data"].encode())
    return found
