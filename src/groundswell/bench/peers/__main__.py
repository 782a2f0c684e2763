"""Runs one of the lean peers: python -m groundswell.bench.peers NAME --store URL --port N --pool N."""

from __future__ import annotations

import argparse
from typing import Final

import asyncpg  # type: ignore[import-untyped]
import uvloop

from groundswell.bench.peers import outbox_per_like
from groundswell.bench.peers.bare import bare
from groundswell.bench.peers.endpoint import App, Likes, listen, pool_of
from groundswell.bench.peers.graph import Graph, GraphApp
from groundswell.bench.peers.inline import Inline, InlineCte
from groundswell.bench.peers.scan import Scan
from groundswell.bench.peers.slotted import Slotted

LEAN: Final[dict[str, type[Likes]]] = {
    "scan": Scan,
    "inline": Inline,
    "inline-cte": InlineCte,
    "slotted": Slotted,
    "outbox-per-like": outbox_per_like.OutboxPerLike,
}
WORKER: Final = "outbox-worker"


async def _serve(name: str, store: str, port: int, connections: int) -> None:
    if name == "bare":
        await listen(bare, port)
        return
    if name == WORKER:
        await outbox_per_like.work(await asyncpg.connect(store))
        return
    pool = await pool_of(store, connections)
    await listen(GraphApp(Graph(pool)) if name == "graph" else App(LEAN[name](pool)), port)
    pool.terminate()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", choices=[*LEAN, "graph", "bare", WORKER])
    parser.add_argument("--store", default="")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--pool", type=int, default=8)
    asked = parser.parse_args()
    uvloop.run(_serve(asked.name, asked.store, asked.port, asked.pool))
