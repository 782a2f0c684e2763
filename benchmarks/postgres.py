"""Speed on PostgreSQL over HTTP, beside the naive way of counting, all on one machine.

    python benchmarks/postgres.py [--quick] [--only likes,bulk,latency,rollups,stall] [--store URL]

Prints medians with minimum and maximum, beside the targets; exit code 1 where one is missed. Every
figure is of this run, the ways that are compared take turns, and all counts are checked at the end of
each. Starts a PostgreSQL server of its own unless `--store` names one whose user may create databases.
Needs wrk, and for PgQ a server that has it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Final

import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(1, str(Path(__file__).parents[1] / "tests"))

from benchmarks import postgres_rollups as rollups
from benchmarks.common import Figure, Wrk, conclude, machine, missing
from benchmarks.postgres_bulk import bulk
from benchmarks.postgres_http import CLIENTS, Bench, latencies, single_likes
from benchmarks.postgres_server import Server, running

from groundswell.bench.servers import sync_ms

PARTS: Final = ("likes", "bulk", "latency", "rollups", "stall")

TIMES_THE_PEER: Final = 8
SHARE_OF_INSERT: Final = 75
LINEARIZABLE_MS: Final = 5
VISIBLE_MS: Final = 200


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, help="of each (default: 3)")
    parser.add_argument("--seconds", type=int, help="of load in each run (default: 5)")
    parser.add_argument("--stop-s", type=float, help="how long the worker stands still (60)")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument(
        "--quick", action="store_true", help="one short run: no fit basis for claims"
    )
    parser.add_argument("--store", help="a server to measure on: postgresql://user@host/database")
    parser.add_argument("--json", type=Path)
    found = parser.parse_args()
    found.runs = found.runs or (1 if found.quick else 3)
    found.seconds = found.seconds or (2 if found.quick else 5)
    found.stop_s = found.stop_s or (5.0 if found.quick else 60.0)
    found.only = found.only.split(",")
    if unknown := set(found.only) - set(PARTS):
        parser.error(f"there is no part {sorted(unknown)[0]!r}; there are {', '.join(PARTS)}")
    return found


async def measure(server: Server, wrk: Wrk, asked: argparse.Namespace) -> list[Figure]:
    bench = Bench(server, wrk, asked.seconds, asked.runs)
    figures: list[Figure] = []
    if "likes" in asked.only:
        figures += await single_likes(bench, TIMES_THE_PEER)
    if "bulk" in asked.only:
        figures += await bulk(bench, 2 if asked.quick else 5, SHARE_OF_INSERT)
    if "latency" in asked.only:
        for clients in CLIENTS:
            figures += await latencies(bench, clients, LINEARIZABLE_MS, VISIBLE_MS)
    if "rollups" in asked.only:
        sizes = (10_000, 100_000) if asked.quick else (10_000, 100_000, 1_000_000)
        rollups.show_costs(await rollups.costs(server, sizes))
    if "stall" in asked.only:
        figures += rollups.stall_figures(await rollups.stall(server, asked.stop_s))
    return figures


def main() -> int:
    asked = _arguments()
    if why := missing():
        print(why, file=sys.stderr)
        return 2
    with (
        running(asked.store) as server,
        tempfile.TemporaryDirectory(prefix="groundswell-") as folder,
    ):
        said = ", ".join(f"{name} {value}" for name, value in server.durability.items())
        where = "a named server" if asked.store else f"fdatasync {sync_ms():.2f} ms"
        print(f"{machine()}, PostgreSQL {server.version}, {said}; {where}; all on this machine")
        print(f"{asked.runs} runs of {asked.seconds} s each", flush=True)
        if set(server.durability.values()) != {"on"}:
            print("The server is not set up to be durable.", file=sys.stderr)
            return 2
        figures = uvloop.run(measure(server, Wrk(Path(folder)), asked))
    return conclude(figures, asked.json)


if __name__ == "__main__":
    sys.exit(main())
