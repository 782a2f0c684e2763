"""Transfers out of one hot account on PostgreSQL, over HTTP, beside SELECT ... FOR UPDATE; and in bulk.

    python benchmarks/transfers.py [--runs 3] [--seconds 5] [--json FILE]

Prints medians with minimum and maximum, beside the targets; exit code 1 where one is missed. The ways
take turns, and after each the balances are checked to the unit. Starts a PostgreSQL server of its own.
Needs wrk.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec
import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(1, str(Path(__file__).parents[1] / "tests"))

from benchmarks.common import Figure, Load, Wrk, conclude, machine, missing
from benchmarks.postgres_http import listens
from benchmarks.postgres_server import Server, running
from benchmarks.transfers_peer import SCHEMA

from groundswell.bench.keepalive import Client, request
from groundswell.bench.servers import sync_ms
from groundswell.bench.systems import process
from groundswell.demo import child
from groundswell.stores.postgres.queues import Queue

CLIENTS: Final = (64, 256)
POOLS: Final = (4, 8)  # sizes that the peer is tried with
BUYERS: Final = 1_000
STOCK: Final = 10**12
BULK: Final = 2_000
CONNECTIONS: Final = 4
TIMES_THE_PEER: Final = 5
BULK_PER_S: Final = 20_000

NODE: Final = """
math.randomseed(os.time() * 1000 + {salt})
local n, base = 0, math.random(1, 1000000)
wrk.headers["Content-Type"] = "application/json"
function request()
  n = n + 1
  return wrk.format("POST", "/v1/transfers", nil, string.format(
    '{{"id":"%d-%d","debit":"stock","credit":"buyer-%d","amount":1}}', base, n, n % {buyers}))
end
"""
PEER: Final = """
math.randomseed(os.time() * 1000 + {salt})
local n, base = 0, math.random(1, 1000000)
function request()
  n = n + 1
  return wrk.format("POST", string.format("/transfers/%d-%d/stock/buyer-%d/1", base, n, n % {buyers}))
end
"""


class Bench:
    """The server, and the settings of the run."""

    def __init__(self, server: Server, wrk: Wrk, seconds: int, runs: int) -> None:
        self.server = server
        self.seconds = seconds
        self.runs = runs
        self._wrk = wrk

    async def node(self, clients: int) -> Load:
        """Through a node on a new store."""
        queue: Queue = "pgq" if self.server.pgq else "outbox"
        async with (
            self.server.migrated(queue) as store,
            child.node(["--store", store]) as node,
        ):
            await asyncio.to_thread(open_accounts, node.url)
            done = await self._wrk(node.url, clients, self.seconds, NODE, buyers=BUYERS)
            await self.check(
                store,
                "SELECT count(*) - 1 FROM groundswell.transfer",
                "SELECT sum(balance), min(balance) FILTER (WHERE id = 'stock') FROM groundswell.account",
                done,
            )
        return done

    async def peer(self, clients: int, pool: int, seconds: float) -> Load:
        """Through the peer's endpoint."""
        with self.server.empty() as url:
            with self.server.connect(url) as connection:
                connection.execute(SCHEMA.encode())
                connection.execute(
                    "INSERT INTO accounts SELECT 'buyer-' || n, 0, 0 FROM generate_series(0, 999) AS n"
                )
                connection.execute(
                    "INSERT INTO accounts VALUES ('stock', %s, 0), ('mint', -%s, NULL)",
                    [STOCK, STOCK],
                )
            script = str(Path(__file__).with_name("transfers_peer.py"))
            arguments = [sys.executable, script, "--store", url, "--pool", str(pool)]
            async with listens(lambda port: process([*arguments, "--port", port])) as address:
                done = await self._wrk(address, clients, seconds, PEER, buyers=BUYERS)
            await self.check(
                url,
                "SELECT count(*) FROM transfers",
                "SELECT sum(balance), min(balance) FILTER (WHERE id = 'stock') FROM accounts",
                done,
            )
        return done

    async def check(self, store: str, transfers: str, balances: str, done: Load) -> None:
        """Raise unless money is conserved, and nothing acknowledged is missing."""
        await asyncio.sleep(0.5)  # what wrk has left behind is still under way
        with self.server.connect(store) as connection:
            [[made]] = connection.execute(transfers.encode()).fetchall()
            [[total, stock]] = connection.execute(balances.encode()).fetchall()
        if total != 0 or stock != STOCK - made or made < done.requests:
            raise RuntimeError(
                f"{done.requests} acknowledged, {made} made, {total} in all, {stock}"
            )

    async def bulk(self) -> float:
        """Transfers per second in requests of BULK."""
        queue: Queue = "pgq" if self.server.pgq else "outbox"
        async with (
            self.server.migrated(queue) as store,
            child.node(["--store", store]) as node,
        ):
            await asyncio.to_thread(open_accounts, node.url)
            rate, made = await asyncio.to_thread(post_bulk, node.url, self.seconds)
            done = Load(made, rate, 0, 0)
            await self.check(
                store,
                "SELECT count(*) - 1 FROM groundswell.transfer",
                "SELECT sum(balance), min(balance) FILTER (WHERE id = 'stock') FROM groundswell.account",
                done,
            )
        return rate


def open_accounts(url: str) -> None:
    """The stock with all there is, and the buyers with nothing."""
    writes: list[dict[str, object]] = [
        {"op": "account", "id": "mint", "floor": None},
        {"op": "account", "id": "stock"},
        {"op": "transfer", "id": "all", "debit": "mint", "credit": "stock", "amount": STOCK},
    ]
    writes += [{"op": "account", "id": f"buyer-{n}"} for n in range(BUYERS)]
    with Client(url) as client:
        client.send(request("POST", "/v1/writes", msgspec.json.encode({"writes": writes})))


def post_bulk(url: str, seconds: float) -> tuple[float, int]:
    """Requests from a few connections, for so long; transfers per second, and how many."""

    def body(name: str, n: int) -> bytes:
        writes = [
            {
                "op": "transfer",
                "id": f"{name}-{n}-{m}",
                "debit": "stock",
                "credit": f"buyer-{m % BUYERS}",
                "amount": 1,
            }
            for m in range(BULK)
        ]
        return request("POST", "/v1/writes", msgspec.json.encode({"writes": writes}))

    ready = [[body(str(c), n) for n in range(int(seconds * 15))] for c in range(CONNECTIONS)]
    deadline_s = time.perf_counter() + seconds

    def work(bodies: list[bytes]) -> int:
        made = 0
        with Client(url) as client:
            for raw in bodies:
                if time.perf_counter() > deadline_s:
                    break
                if client.send(raw).count(b'"changed":true') != BULK:
                    raise RuntimeError("a transfer was refused")
                made += BULK
        return made

    began_s = time.perf_counter()
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        made = sum(threads.map(work, ready))
    return made / (time.perf_counter() - began_s), made


async def measure(bench: Bench) -> list[Figure]:
    figures: list[Figure] = []
    for clients in CLIENTS:
        tried = {pool: (await bench.peer(clients, pool, 2)).rate for pool in POOLS}
        pool = max(tried, key=tried.__getitem__)
        theirs, ours = [], []
        for _ in range(bench.runs):
            theirs.append((await bench.peer(clients, pool, bench.seconds)).rate)
            ours.append((await bench.node(clients)).rate)
        named = f"transfers out of one account, {clients} clients"
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        figures += [
            Figure(f"{named}, peer, pool of {pool}", "/s", None, theirs),
            Figure(f"{named}, node", "/s", None, ours),
            Figure(f"{named}, node / peer", "times", TIMES_THE_PEER, ratios, digits=1),
        ]
    rates = [await bench.bulk() for _ in range(bench.runs)]
    figures.append(Figure(f"transfers in requests of {BULK:,}", "/s", BULK_PER_S, rates))
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    if why := missing():
        print(why, file=sys.stderr)
        return 2
    with running(None) as server, tempfile.TemporaryDirectory(prefix="groundswell-") as folder:
        said = ", ".join(f"{name} {value}" for name, value in server.durability.items())
        print(
            f"{machine()}, PostgreSQL {server.version}, {said}; fdatasync {sync_ms():.2f} ms; all on "
            f"this machine; {asked.runs} runs of {asked.seconds} s each",
            flush=True,
        )
        bench = Bench(server, Wrk(Path(folder)), asked.seconds, asked.runs)
        figures = uvloop.run(measure(bench))
    return conclude(figures, asked.json)


if __name__ == "__main__":
    sys.exit(main())
