"""Speed of one node over HTTP, SQLite store, load from wrk on the same machine.

    python benchmarks/speed.py [--runs 3] [--seconds 5] [--json FILE]

Prints medians with minimum and maximum, beside the targets. Needs wrk.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.common import Figure, Wrk, conclude, machine, missing

from groundswell.bench.servers import listening
from groundswell.bench.systems import program
from groundswell.demo import child
from groundswell.model import Add, Level
from groundswell.server.run import free_port
from groundswell.session import Groundswell
from groundswell.wiring import connect

COUNTERS = 120_000
BULK = 1_000
KEYS = 100
PROBES = 150

SINGLE_LIKES = """
math.randomseed(os.time() * 1000 + {salt})
local n, base = 0, math.random(1, 1000000)
function request()
  n = n + 1
  return wrk.format("PUT", string.format("/v1/edges/like/%d/%d%07d", n % 100, base, n))
end
"""
BULK_LIKES = """
math.randomseed(os.time() * 1000 + {salt})
local n = math.random(1, 1000000) * 10000000
function request()
  local rows = {{}}
  for i = 1, {bulk} do
    n = n + 1
    rows[i] = string.format('{{"op":"add","kind":"like","target":%d,"source":%d}}', i % 50, n)
  end
  return wrk.format("POST", "/v1/writes", {{["Content-Type"] = "application/json"}},
    '{{"writes":[' .. table.concat(rows, ",") .. ']}}')
end
"""
MANY_COUNTS = """
local keys = {{}}
for i = 1, {keys} do keys[i] = string.format('["like",%d]', i) end
wrk.method, wrk.body = "POST", '{{"keys":[' .. table.concat(keys, ",") .. ']}}'
wrk.headers["Content-Type"] = "application/json"
"""


class Bench:
    """A folder for scripts and stores, and the settings of the run."""

    def __init__(self, folder: Path, seconds: int, runs: int) -> None:
        self.folder = folder
        self.seconds = seconds
        self.runs = runs
        self._wrk = Wrk(folder)
        self._stores = 0

    @contextlib.asynccontextmanager
    async def node(self) -> AsyncIterator[child.Child]:
        """A node with three undelayed replicas on a new store."""
        self._stores += 1
        store = f"sqlite:///{self.folder / f'{self._stores}.db'}"
        async with child.node(["--store", store, "--replicas", "3"]) as running:
            yield running

    async def wrk(
        self, url: str, connections: int, script: str | None = None, seconds: int | None = None
    ) -> float:
        """Requests per second; raises if any was refused."""
        done = await self._wrk(
            url, connections, seconds or self.seconds, script, bulk=BULK, keys=KEYS
        )
        return done.rate

    async def repeat(self, measure: Callable[[], Awaitable[float]]) -> list[float]:
        return [await measure() for _ in range(self.runs)]


@contextlib.asynccontextmanager
async def bare() -> AsyncIterator[str]:
    """The address of an endpoint that does nothing."""
    port = free_port("127.0.0.1", 0)
    async with program("bare", ["--port", str(port)]):
        await listening(port)
        yield f"http://127.0.0.1:{port}/v1/counts/like/1"


async def yardstick(bench: Bench) -> list[Figure]:
    """What the machine gives in this hour; targets were set where this is 50,000."""
    async with bare() as url:
        rates = await bench.repeat(lambda: bench.wrk(url, 64))
    return [Figure("an endpoint that does nothing", "requests/s", None, rates)]


async def reads(bench: Bench) -> list[Figure]:
    """Counts from replicas, with 10,000 counters held."""
    async with bench.node() as node, connect(node.url) as gs:
        await fill(gs, 10_000)
        one = f"{node.url}/v1/counts/like/42"
        single = await bench.repeat(lambda: bench.wrk(one, 64))
        eventual = await bench.repeat(lambda: bench.wrk(f"{one}?consistency=eventual", 64))
        many = await bench.repeat(lambda: bench.wrk(f"{node.url}/v1/counts", 64, MANY_COUNTS))
    return [
        Figure("single-count reads, causal", "reads/s", 25_000, single),
        Figure("single-count reads, eventual", "reads/s", 25_000, eventual),
        Figure(f"{KEYS}-key reads", "counts/s", 300_000, [rate * KEYS for rate in many]),
    ]


async def writes(bench: Bench) -> list[Figure]:
    """Likes one by one and in bulk; a new store for each run."""

    async def single() -> float:
        async with bench.node() as node:
            return await bench.wrk(node.url, 256, SINGLE_LIKES)

    async def bulk() -> float:
        async with bench.node() as node:
            return BULK * await bench.wrk(node.url, 4, BULK_LIKES)

    return [
        Figure("single-like writes", "writes/s", 8_000, await bench.repeat(single)),
        Figure(f"bulk writes, {BULK:,} each", "edges/s", 40_000, await bench.repeat(bulk)),
    ]


async def visibility(bench: Bench) -> list[Figure]:
    """From the acknowledgement of a like to its sight on all three replicas, under write load."""

    async def run() -> float:
        async with bench.node() as node, connect(node.url) as gs:
            seconds = max(bench.seconds, 6)
            load = asyncio.create_task(bench.wrk(node.url, 256, SINGLE_LIKES, seconds))
            await asyncio.sleep(0.5)
            took_ms: list[float] = []
            while len(took_ms) < PROBES and not load.done():
                took_ms.append(await probe(gs, 1_000_000 + len(took_ms)))
            await load
        took_ms.sort()
        return took_ms[int(len(took_ms) * 0.99)]

    return [
        Figure("acknowledged to visible everywhere, p99", "ms", 150, await bench.repeat(run), True)
    ]


async def probe(gs: Groundswell, target: int) -> float:
    session = gs.session()
    await session.add("like", target, 1)
    acknowledged_s = time.perf_counter()
    seen: set[str] = set()
    while len(seen) < 3:
        count = await session.count("like", target, level=Level.EVENTUAL)
        if count.value:
            seen.add(count.served_by)
    return (time.perf_counter() - acknowledged_s) * 1000


async def memory(bench: Bench) -> list[Figure]:
    """Resident memory with all counters held by all three replicas."""

    async def run() -> float:
        async with bench.node() as node, connect(node.url) as gs:
            await fill(gs, COUNTERS)
            session = gs.session()
            for start in range(0, COUNTERS, 1_000):
                keys = [("like", target) for target in range(start, start + 1_000)]
                await session.counts(keys, level=Level.EVENTUAL)
            status = Path(f"/proc/{node.pid}/status").read_text()
        resident = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert resident
        return int(resident[1]) / 1024

    what = f"resident memory, {COUNTERS:,} counters on 3 replicas"
    return [Figure(what, "MiB", 250, await bench.repeat(run), True)]


async def fill(gs: Groundswell, counters: int) -> None:
    session = gs.session()
    for start in range(0, counters, 10_000):
        await session.write([Add("like", target, 1) for target in range(start, start + 10_000)])
    await session.count("like", 0, level=Level.LINEARIZABLE)


async def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if why := missing():
        print(why, file=sys.stderr)
        return 2
    print(
        f"{machine()}; load generator on the same machine; {arguments.runs} runs of "
        f"{arguments.seconds} s each"
    )
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="groundswell-") as folder:
        bench = Bench(Path(folder), arguments.seconds, arguments.runs)
        for measure in (yardstick, reads, writes, visibility, memory):
            figures += await measure(bench)
    return conclude(figures, arguments.json)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
