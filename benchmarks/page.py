"""Speed of pages over HTTP on PostgreSQL: 50 posts with counts, newest likes and the viewer's own.

    python benchmarks/page.py [--runs 3] [--seconds 5] [--quick] [--store URL] [--json FILE]

Held: a replica has it all, viewers are drawn from 100. Primary: the same at `linearizable`, one after the
other. Prints medians with minimum and maximum; exit code 1 where a target is missed. Starts a PostgreSQL
server of its own unless `--store` names one whose user may create databases. Needs wrk.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(1, str(Path(__file__).parents[1] / "tests"))

from benchmarks.common import Figure, Wrk, conclude, machine, missing
from benchmarks.postgres_server import Server, running

from groundswell.demo import child
from groundswell.model import Add, Key, Level
from groundswell.session import Groundswell
from groundswell.wiring import connect

POSTS: Final = 50
VIEWERS: Final = 100
LIKES: Final = 40  # of each post, by half of the viewers at most
CLIENTS: Final = 64
COLD_PAGES: Final = 200
SETTLE_S: Final = 1.0  # for the rollup, and the replica to have it
HOT: Final = 3_000

KEYS: Final[list[Key]] = [("like", post) for post in range(1, POSTS + 1)]
SCRIPT: Final = """
math.randomseed(os.time() * 1000 + {salt})
local keys = {{}}
for i = 1, {posts} do keys[i] = string.format('["like",%d]', i) end
local rest = ',"newest":3,"keys":[' .. table.concat(keys, ",") .. ']}}'
local headers = {{["Content-Type"] = "application/json"}}
function request()
  return wrk.format("POST", "/v1/page", headers,
    string.format('{{"viewer":%d', math.random(1, {viewers})) .. rest)
end
"""


@asynccontextmanager
async def filled(server: Server) -> AsyncIterator[tuple[Groundswell, str]]:
    """A node on a new store with the posts and their likes, all rolled up; and its address."""
    async with (
        server.migrated("pgq" if server.pgq else "outbox") as store,
        child.node(["--store", store]) as node,
        connect(node.url) as gs,
    ):
        likes = [
            Add("like", post, (post * 7 + n * 2) % VIEWERS + 1)
            for _, post in KEYS
            for n in range(LIKES)
            if isinstance(post, int)
        ]
        await gs.session().write(likes)
        await asyncio.sleep(SETTLE_S)
        yield gs, node.url


async def hot(server: Server, wrk: Wrk, seconds: int) -> float:
    """Pages per second from the replica; raises if it was not the replica that served."""
    async with filled(server) as (gs, url):
        session = gs.session()
        for _ in range(2):
            for viewer in range(1, VIEWERS + 1):
                page = await session.page(KEYS, viewer=viewer)
                assert [item.value for item in page] == [LIKES] * POSTS
        if page[0].served_by == "primary":
            raise RuntimeError("the replica does not hold the page")
        found = await wrk(url, CLIENTS, seconds, SCRIPT, posts=POSTS, viewers=VIEWERS)
        metrics = await _served(url)
        if metrics["primary"] > VIEWERS:
            raise RuntimeError(f"the primary served hot pages: {metrics}")
        return found.rate


async def _served(url: str) -> dict[str, float]:
    """How many reads at the default level each one served, by the node's own metrics."""
    async with aiohttp.ClientSession() as http, http.get(f"{url}/metrics") as answer:
        text = await answer.text()
    found = {"primary": 0.0}
    for line in text.splitlines():
        if line.startswith("groundswell_reads_total{") and 'level="causal"' in line:
            name = line.split('served_by="')[1].split('"')[0]
            found[name] = found.get(name, 0.0) + float(line.rsplit(" ", 1)[1])
    return found


async def cold(server: Server) -> float:
    """Milliseconds that one page takes from the primary, one after the other, median."""
    async with filled(server) as (gs, _):
        session = gs.session()
        took: list[float] = []
        for n in range(COLD_PAGES):
            began_s = time.perf_counter()
            await session.page(KEYS, viewer=n, level=Level.LINEARIZABLE)
            took.append((time.perf_counter() - began_s) * 1000)
        return sorted(took)[COLD_PAGES // 2]


async def measure(server: Server, wrk: Wrk, runs: int, seconds: int) -> list[Figure]:
    pages = [await hot(server, wrk, seconds) for _ in range(runs)]
    single = [await cold(server) for _ in range(runs)]
    return [
        Figure(f"pages of {POSTS}, held by a replica, {CLIENTS} clients", "pages/s", HOT, pages),
        Figure(f"page of {POSTS} from the primary, alone, p50", "ms", None, single, True, 2),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int)
    parser.add_argument("--seconds", type=int)
    parser.add_argument("--quick", action="store_true", help="one short run: no basis for claims")
    parser.add_argument("--store", help="a server to measure on: postgresql://user@host/database")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    runs = asked.runs or (1 if asked.quick else 3)
    seconds = asked.seconds or (2 if asked.quick else 5)
    if why := missing():
        print(why, file=sys.stderr)
        return 2
    with (
        running(asked.store) as server,
        tempfile.TemporaryDirectory(prefix="groundswell-") as folder,
    ):
        print(f"{machine()}, PostgreSQL {server.version}; load generator on the same machine")
        print(f"{runs} runs of {seconds} s each", flush=True)
        figures = uvloop.run(measure(server, Wrk(Path(folder)), runs, seconds))
    return conclude(figures, asked.json)


if __name__ == "__main__":
    sys.exit(main())
