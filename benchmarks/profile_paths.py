"""Where the time goes on the four hot paths: CPU by process, and the node's own by function.

    python benchmarks/profile_paths.py [--only like,bulk,count,page] [--seconds 8]

Needs wrk and py-spy (`pip install py-spy`), and whoever runs it has to be allowed to look into processes.
Beside each stands what the machine gives for an endpoint that does nothing, just before.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import uvloop

from groundswell.bench import check
from groundswell.bench.cost import Meter
from groundswell.bench.keepalive import request
from groundswell.bench.load import Load, write_requests, wrk
from groundswell.bench.servers import HOST, Databases, databases, listening
from groundswell.bench.systems import SYSTEMS, Running, program
from groundswell.bench.workloads import day, page
from groundswell.server.run import free_port

PATHS: Final = ("like", "bulk", "count", "page")
CLIENTS: Final = 64
RATE: Final = 200  # looks a second
SHOWN: Final = 14
TURN: Final = 10_000_000  # fans
ENOUGH: Final = 1_000_000  # requests, more than there is time for


class Profile(NamedTuple):
    """Shares of the looks at which somebody was at work."""

    looks: int
    own: collections.Counter[str]  # by function, itself at work
    below: collections.Counter[str]  # by function of the package, it or what it called


async def look(pid: int, seconds: float, file: Path) -> Profile:
    """py-spy's looks at a process; the threads that wait are not counted."""
    made = await asyncio.create_subprocess_exec(
        *("py-spy", "record", "--pid", str(pid), "--duration", f"{seconds:.0f}"),
        *("--rate", str(RATE), "--format", "raw", "--output", str(file), "--nonblocking"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    said = (await made.communicate())[1].decode()
    if made.returncode:
        raise SystemExit(f"py-spy: {said}")
    found = Profile(0, collections.Counter(), collections.Counter())
    looks = 0
    for line in file.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [re.sub(r":\d+\)$", ")", frame) for frame in stack.split(";")]
        looks += int(count)
        found.own[frames[-1] or "no Python: the HTTP server's threads"] += int(count)
        for frame in {frame for frame in frames if "groundswell" in frame}:
            found.below[frame] += int(count)
    return found._replace(looks=looks)


async def pace(folder: Path) -> float:
    """Requests per second of an endpoint that does nothing."""
    port = free_port(HOST, 0)
    async with program("bare", ["--port", str(port)]):
        await listening(port)
        file = write_requests(folder / "requests", [request("GET", "/v1/counts/like/1")])
        url = f"http://{HOST}:{port}"
        return (await wrk(folder, url, "cycle", file, clients=CLIENTS, seconds=2)).rate


async def load(path: str, running: Running, folder: Path, seconds: float, turn: int) -> Load:
    """What the path is asked for; in every turn by others."""
    if path == "like":
        arguments: tuple[object, ...] = ("likes", 1, time.time_ns() // 10**6 % 10**9 * 10**6)
    elif path == "bulk":
        arguments = ("follows", ENOUGH, day.ROWS, turn * TURN)
    else:
        asked = [request("GET", "/v1/counts/like/1")]
        if path == "page":
            body = {"keys": page.KEYS, "newest": page.NEWEST}
            asked = [
                request("POST", "/v1/page", msgspec.json.encode(body | {"viewer": viewer}))
                for viewer in range(1, page.VIEWERS + 1)
            ]
        arguments = ("cycle", write_requests(folder / "requests", asked))
    clients = day.CONNECTIONS if path == "bulk" else CLIENTS
    script, *values = arguments
    return await wrk(folder, running.url, str(script), *values, clients=clients, seconds=seconds)


async def profile(path: str, there: Databases, folder: Path, seconds: float) -> None:
    bare = await pace(folder)
    async with SYSTEMS["groundswell"].running(there) as running:
        if path in ("count", "page"):
            await asyncio.to_thread(page.fill, running.url)
            await asyncio.to_thread(check.settle, "groundswell", running.url, {1: page.LIKES})
        [pid] = running.program()
        async with Meter(running.program, running.database) as meter:
            met = await load(path, running, folder, seconds, 0)
        loading = asyncio.create_task(load(path, running, folder, seconds + 2, 1))
        await asyncio.sleep(1)
        found = await look(pid, seconds, folder / "looks")
        await loading
    times = day.ROWS if path == "bulk" else 1
    made = met.requests * times
    print(f"\n{path}: {met.rate * times:,.0f}/s (an endpoint that does nothing: {bare:,.0f}/s)")
    for who, used in (
        ("node", meter.program_s),
        ("PostgreSQL", meter.database_s),
        ("client", meter.client_s),
    ):
        print(f"  {who}: {1e6 * used / made:.1f} us of CPU each, {used / met.seconds:.2f} cores")
    for title, counted in (("itself", found.own), ("with what it calls", found.below)):
        print(f"  {title}:")
        for frame, looks in counted.most_common(SHOWN):
            print(f"    {100 * looks / found.looks:5.1f} %  {frame}")


async def main(only: list[str], seconds: float) -> None:
    with databases() as there, tempfile.TemporaryDirectory(prefix="groundswell-") as folder:
        for path in only:
            await profile(path, there, Path(folder), seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default=",".join(PATHS))
    parser.add_argument("--seconds", type=float, default=8)
    asked = parser.parse_args()
    if unknown := set(asked.only.split(",")) - set(PATHS):
        sys.exit(f"there is no path {unknown.pop()!r}; there are {', '.join(PATHS)}")
    if shutil.which("py-spy") is None:
        sys.exit("py-spy is not on the path: pip install py-spy")
    uvloop.run(main(asked.only.split(","), asked.seconds))
