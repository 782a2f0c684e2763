"""The peer of benchmarks/transfers.py: a transfer as everybody writes it first.

    python benchmarks/transfers_peer.py --store URL --port 8081 --pool 4

One transaction: the id is noted, both accounts are locked with SELECT ... FOR UPDATE in the order of their
ids, the balance is looked at, and two updates move the amount.
`POST /transfers/{id}/{debit}/{credit}/{amount}`.
Needs the tables of `SCHEMA`.
"""

from __future__ import annotations

import argparse
from typing import Any, Final

import uvloop

from groundswell.bench.peers.endpoint import listen, pool_of

SCHEMA: Final = """
    CREATE TABLE accounts (id text PRIMARY KEY, balance bigint NOT NULL, floor bigint);
    CREATE TABLE transfers (
        id text PRIMARY KEY, debit text NOT NULL, credit text NOT NULL, amount bigint NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now());
"""
NOTE: Final = """
    INSERT INTO transfers (id, debit, credit, amount) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
"""
LOCK: Final = "SELECT id, balance, floor FROM accounts WHERE id = ANY ($1) ORDER BY id FOR UPDATE"
MOVE: Final = "UPDATE accounts SET balance = balance + $2 WHERE id = $1"


class App:
    """The endpoint."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        _, _, id_, debit, credit, amount = scope["path"].split("/")
        status = 200 if await self._transfer(id_, debit, credit, int(amount)) else 409
        headers = ((b"content-type", b"application/json"),)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})

    async def _transfer(self, id_: str, debit: str, credit: str, amount: int) -> bool:
        async with self._pool.acquire() as connection, connection.transaction():
            if await connection.execute(NOTE, id_, debit, credit, amount) != "INSERT 0 1":
                return True
            rows = {row["id"]: row for row in await connection.fetch(LOCK, [debit, credit])}
            floor = rows[debit]["floor"]
            if floor is not None and rows[debit]["balance"] - amount < floor:
                return False
            await connection.execute(MOVE, debit, -amount)
            await connection.execute(MOVE, credit, amount)
            return True


async def serve(url: str, port: int, connections: int) -> None:
    pool = await pool_of(url, connections)
    await listen(App(pool), port)
    pool.terminate()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--store", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pool", type=int, default=4)
    arguments = parser.parse_args()
    uvloop.run(serve(arguments.store, arguments.port, arguments.pool))
