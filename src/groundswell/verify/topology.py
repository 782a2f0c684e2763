"""What is verified: a deployment that is there, or nodes and servers that are started for it."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

import msgspec

from groundswell.errors import BadSettings, Unavailable
from groundswell.model import WRITES_MAX, Add
from groundswell.verify import disk, redises
from groundswell.verify.clock import WallClock
from groundswell.verify.clusters import missing
from groundswell.verify.nemesis import Fault
from groundswell.verify.nodes import Node
from groundswell.verify.proxy import Proxy
from groundswell.verify.redis_faults import ClusteredRedis, OneRedis
from groundswell.verify.servers import Place, Servers, of_link
from groundswell.wiring import connect

DELAYS_MS: Final = (
    "0",
    "40",
    "150",
)  # of the replicas of a node, so that reads can go back in time
HUGE_S: Final = 5.0
DISK: Final = 256 << 20  # bytes, of a SQLite file
JUMPS_S: Final = (3600, -600)
REDIS_DELAYS_MS: Final = ("150",)  # of the one replica in a node's memory beside that in Redis
REDIS: Final = ("sqlite-redis", "sqlite-redis-cluster")
NAMES: Final = ("sqlite", "postgres", "postgres-standby", *REDIS)


class Topology(msgspec.Struct, frozen=True):
    """Where clients reach the nodes, and what can be made to go wrong."""

    label: str
    urls: list[str]
    faults: list[Fault]


@contextlib.asynccontextmanager
async def started(name: str, nodes: int, folder: Path, *, seed: int = 0) -> AsyncIterator[Topology]:
    """One of `NAMES`, with so many nodes, on loopback, with its files in the folder; gone at the end.

    Raises BadSettings where that is not possible on this machine, and why.
    """
    async with contextlib.AsyncExitStack() as stack:
        delays_ms = REDIS_DELAYS_MS if "redis" in name else DELAYS_MS
        if name in ("sqlite", *REDIS):
            where, faults = _sqlite(stack, folder)
            places = [Place({"store": f"sqlite:///{where}"}, []) for _ in range(nodes)]
            if (redis := _redis(name, folder / "redis", seed)) is not None:
                await redis.start(stack)
                faults += redis.faults()
                places = [await redis.place(stack, *one) for one in enumerate(places)]
        elif name in NAMES:
            if reason := missing():
                raise BadSettings(f"--topology {name} cannot be started: {reason}.")
            servers = await Servers.started(stack, standby=name.endswith("standby"))
            faults = servers.faults()
            places = [await servers.place(stack) for _ in range(nodes)]
        else:
            raise BadSettings(f"There is no topology {name!r}; there are: {', '.join(NAMES)}.")
        urls = []
        for number, place in enumerate(places):
            url, of_node = await _node(stack, f"node {number}", folder, place, delays_ms)
            urls.append(url)
            faults += of_node + place.faults
        replicas = f"{len(delays_ms)} replica(s)" + " beside Redis" * ("redis" in name)
        yield Topology(f"{name}, {nodes} node(s) of {replicas}", urls, faults)


async def _node(
    stack: contextlib.AsyncExitStack,
    name: str,
    folder: Path,
    place: Place,
    delays_ms: Sequence[str],
) -> tuple[str, list[Fault]]:
    """Start a node, behind a proxy; the address for clients."""
    clock = WallClock(folder / f"{name}.clock")
    arguments = ["--replicas", str(len(delays_ms)), "--replica-delay-ms", ",".join(delays_ms)]
    settings = place.settings | {"log_level": "info"}
    node = Node(name, folder, arguments, settings, clock.preload)
    await node.start()
    stack.push_async_callback(node.stop)
    proxy = Proxy(node.port)
    await proxy.start()
    stack.push_async_callback(proxy.close)
    faults = [
        Fault("kill -9", name, node.kill, node.start),
        Fault("pause", name, node.pause, node.resume),
        *of_link(proxy, f"clients of {name}"),
        Fault("huge write", name, partial(_write_much, node), lambda: None),
    ]
    for jump_s in JUMPS_S if clock.preload else ():
        change = f"clock {'ahead' if jump_s > 0 else 'back'}"
        faults.append(Fault(change, name, partial(clock.set, jump_s), partial(clock.set, 0)))
    return f"http://127.0.0.1:{proxy.port}", faults


async def _write_much(node: Node) -> None:
    """As much as one call takes, on a target of its own; it may fail, as any write may."""
    target = secrets.randbelow(2**62)
    writes = [Add("follow", target, source) for source in range(WRITES_MAX)]
    with contextlib.suppress(Unavailable):
        async with connect(node.url, timeout_s=HUGE_S) as gs:
            await gs.session().write(writes, atomic=True)


def _redis(name: str, folder: Path, seed: int) -> OneRedis | ClusteredRedis | None:
    """What a topology has beside SQLite."""
    if name == "sqlite":
        return None
    if reason := redises.missing():
        raise BadSettings(f"--topology {name} cannot be started: {reason}.")
    return OneRedis(folder) if name == "sqlite-redis" else ClusteredRedis(folder, Random(seed + 2))


def _sqlite(stack: contextlib.AsyncExitStack, folder: Path) -> tuple[Path, list[Fault]]:
    """The file, and what befalls it: another program that holds its only write lock, a full disk."""
    home = folder / "store"
    home.mkdir()
    file = home / "groundswell.db"
    held: list[sqlite3.Connection] = []

    def lock() -> None:
        with contextlib.suppress(sqlite3.OperationalError):  # locked, as it may well be
            other = sqlite3.connect(file, isolation_level=None, timeout=1)
            held.append(other)
            other.execute("BEGIN IMMEDIATE")

    def unlock() -> None:
        while held:
            held.pop().close()

    faults = [Fault("long transaction", "store", lock, unlock)]
    if not disk.mount(home, DISK):
        stack.callback(disk.unmount, home)
        full, room = partial(disk.fill, home), partial(disk.free, home)
        faults.append(Fault("disk full", "store", full, room, alone=True))
    return file, faults


def running(urls: Sequence[str]) -> Topology:
    """A deployment that is there already, in which nothing is made to go wrong."""
    return Topology(", ".join(urls), list(urls), [])
