"""`trace` and `trace-100x`: a real spike, the announcement of the Higgs boson, as likes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

from groundswell.bench import check, measure
from groundswell.bench.keepalive import request
from groundswell.bench.load import write_requests, wrk
from groundswell.bench.measure import Bench
from groundswell.bench.results import Run
from groundswell.bench.systems import SYSTEMS
from groundswell.bench.workload import Way, Workload, way
from groundswell.demo.trace import Action, read_trace
from groundswell.errors import BadSettings

FILE: Final = "higgs-activity_time.txt.gz"
SINCE_UNIX_S: Final = 1_341_392_400  # 4 July 2012, 09:00 UTC: the busiest minutes follow
FASTER: Final = 100
ACTIONS: Final = 4_000
ACTIONS_QUICK: Final = 2_000
PACED_S: Final = 3.0
CLIENTS: Final = 64
LIMIT_S: Final = 60.0  # the slowest peer is done before
OWN: Final = 10**6  # ids of posts in the trace begin here, so that they are none of the check's


def cut(path: Path, *, actions: int | None = None, seconds: float | None = None) -> list[Action]:
    """So many retweets from the busiest minutes on, or those of so many seconds of the trace."""
    until = None if seconds is None else SINCE_UNIX_S + seconds
    return read_trace(path, since=SINCE_UNIX_S, until=until, only="RT")[:actions]


async def replay(bench: Bench, system: str, *, paced: bool) -> Run:
    """The same actions for everybody, each once; paced: at their own rhythm, compressed."""
    path = bench.file(FILE)
    if path is None:
        raise BadSettings(f"There is no {FILE}. Nothing was measured.")
    if paced:
        actions = cut(path, seconds=PACED_S * FASTER)
    else:
        actions = cut(path, actions=ACTIONS_QUICK if bench.quick else ACTIONS)
    posts = {OWN + int(action.target) for action in actions}
    tuning = bench.tunings.get(system)
    async with SYSTEMS[system].running(bench.databases, tuning, posts=posts) as running:
        await check.before(system, running)
        arguments = [write_requests(bench.folder / "trace", [_request(a) for a in actions])]
        if paced:
            due = bench.folder / "due"
            due.write_text(
                "".join(f"{(a.t - SINCE_UNIX_S) * 1000 / FASTER:.1f}\n" for a in actions)
            )
            arguments.append(due)
        load = wrk(bench.folder, running.url, "trace", *arguments, clients=CLIENTS, seconds=LIMIT_S)
        distinct = len({(action.target, action.source) for action in actions})
        return await measure.likes(system, running, load, len(actions), distinct)


def _request(action: Action) -> bytes:
    return request("PUT", f"/v1/edges/like/{OWN + int(action.target)}/{action.source}")


def _skipped(bench: Bench) -> str:
    if bench.file(FILE):
        return ""
    return f"--data names no folder with {FILE}; docs/performance.md says where it comes from."


def _ways(*systems: str, paced: bool) -> list[Way]:
    return [way(name, partial(replay, system=name, paced=paced)) for name in systems]


TRACE: Final = Workload(
    "trace",
    "A real spike as fast as possible: retweets of the Higgs announcement, as likes",
    "likes",
    _ways("groundswell", "inline", "slotted", "redis", paced=False),
    f"{ACTIONS:,} actions ({ACTIONS_QUICK:,} with --quick) from 09:00 UTC on, {CLIENTS} clients.",
    skipped=_skipped,
)
PACED: Final = Workload(
    "trace-100x",
    f"The same at its own rhythm, {FASTER} times as fast",
    "likes",
    _ways("groundswell", "inline", "inline-sqlalchemy", "redis", paced=True),
    "What is offered is the same for all, so that the rate says no more than who keeps up.",
    skipped=_skipped,
)
