"""What it takes to serve given rates: a plan from unit costs, as docs/scale.md explains.

    python benchmarks/unit_costs.py > costs.toml
    python benchmarks/scale.py costs.toml --likes 100000 --reads 1000000 --changes 0.2

Rates are per second. Nothing here is measured; everything follows from the file and the options.
"""

from __future__ import annotations

import argparse
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

MONTH_S: Final = 30 * 86_400
MB: Final = 1e6

Costs = Mapping[str, Mapping[str, float]]


class Load(NamedTuple):
    """What is to be served."""

    likes: float
    reads: float  # of counts
    changes: float  # counts that a rollup changes, per like in it
    bulk: bool  # likes come by thousands in a request, from gateways
    by_100: bool  # counts are read by a hundred in a request
    cores: int  # of a database server
    busy: float  # how much of a core may be used


class Line(NamedTuple):
    """One line of the plan."""

    what: str
    many: float
    unit: str
    why: str


def plan(costs: Costs, load: Load) -> Iterator[Line]:
    """What is needed, line by line; where something stands beyond its limit a line says so."""
    name = "bulk_like" if load.bulk else "like"
    like, rollup = costs[name], costs["rollup"]
    changes = load.likes * load.changes
    yield Line("counts that change", changes, "/s", f"{load.changes:g} per like")
    nodes = load.likes * like["node_us"] / 1e6 / load.busy
    yield Line("node processes that write", math.ceil(nodes), "", f"{name}.node_us")
    yield from _database(like, rollup, load, changes)
    yield from _stored(like, rollup, load, changes)
    yield from _reads(costs, load, changes)


def _database(
    like: Mapping[str, float], rollup: Mapping[str, float], load: Load, changes: float
) -> Iterator[Line]:
    inserts = load.likes * like["database_us"] / 1e6 / load.busy
    yield Line("cores for commits", math.ceil(inserts), "", "database_us of a like")
    servers = math.ceil(inserts / load.cores)
    if servers > 1:
        yield Line("servers for edges (Citus)", servers, "", f"of {load.cores} cores")
    folding = changes * rollup["database_us"] / 1e6
    yield Line("of one core for rollups", 100 * folding, "%", "rollup.database_us")
    if folding > load.busy:
        most = load.busy * 1e6 / rollup["database_us"] / load.changes
        yield Line("LIMIT: one rollup at a time", most, "likes/s", "rollups fall behind beyond it")


def _stored(
    like: Mapping[str, float], rollup: Mapping[str, float], load: Load, changes: float
) -> Iterator[Line]:
    log = (load.likes * like["log_bytes"] + changes * rollup["log_bytes"]) / MB
    yield Line("write-ahead log", log, "MB/s", "log_bytes: to disk, and to each standby")
    kept = load.likes * like["disk_bytes"] * MONTH_S / 1e12
    yield Line("edges of a month", kept, "TB", "disk_bytes; twice with a standby")


def _reads(costs: Costs, load: Load, changes: float) -> Iterator[Line]:
    read, replica = costs["read_100" if load.by_100 else "read"], costs["replica"]
    following = changes * replica["node_us"] / 1e6
    yield Line("of one core to follow", 100 * following, "%", "replica.node_us, each process")
    left = load.busy - following
    if left <= 0:
        most = load.busy * 1e6 / replica["node_us"] / load.changes
        yield Line("LIMIT: a replica per process", most, "likes/s", "share one in Redis beyond it")
        left = load.busy
    processes = math.ceil(load.reads * read["node_us"] / 1e6 / left)
    yield Line("node processes that read", processes, "", "read.node_us, beside the following")
    feed = processes * changes * costs["rollup"]["feed_bytes"] / MB
    yield Line("feed to all of them", feed, "MB/s", "rollup.feed_bytes; from standbys")


def show(lines: Sequence[Line]) -> str:
    """The plan as a table."""
    width = max(len(line.what) for line in lines)
    return "\n".join(
        f"{line.what:{width}}  {_number(line.many):>12} {line.unit:8} {line.why}".rstrip()
        for line in lines
    )


def _number(value: float) -> str:
    return f"{value:,.1f}" if value < 100 and value != int(value) else f"{value:,.0f}"


def load_of(arguments: Sequence[str] | None = None) -> tuple[Path, Load]:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("costs", type=Path, help="what unit_costs.py has printed")
    parser.add_argument("--likes", type=float, required=True)
    parser.add_argument("--reads", type=float, required=True)
    parser.add_argument("--changes", type=float, default=0.35)
    parser.add_argument("--bulk", action="store_true")
    parser.add_argument("--by-100", action="store_true")
    parser.add_argument("--cores", type=int, default=32)
    parser.add_argument("--busy", type=float, default=0.5)
    asked = vars(parser.parse_args(arguments))
    return asked.pop("costs"), Load(**asked)


if __name__ == "__main__":
    file, asked = load_of()
    print(show(list(plan(tomllib.loads(file.read_text()), asked))))
