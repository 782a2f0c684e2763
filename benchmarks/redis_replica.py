"""Counts of 100 keys through one node from Redis, beside bare MGETs of as many keys with the same client.

Starts a cluster of six processes (or one server) on loopback, and a node in this process that has no other
replica. Both sides read in turns, several callers at a time, so that the machine is equally busy for both.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop
from redis.asyncio import Redis, RedisCluster

from groundswell import config, wiring
from groundswell.model import Add, Key
from groundswell.node import Node
from groundswell.replicas.redis.names import BUCKETS, Names
from groundswell.verify import redises
from groundswell.wire import ReadOptions

KEYS_EACH = 100
TARGETS = 10_000
CALLERS = 16

Read = Callable[[list[Key]], Awaitable[object]]


def bare(client: Redis | RedisCluster, names: Names) -> Read:
    """MGETs of the plain counts, one per slot, in a pipeline."""

    async def read(keys: list[Key]) -> object:
        if isinstance(client, Redis):
            return await client.mget([names.count(key) for key in keys])
        return await client.mget_nonatomic([names.count(key) for key in keys])

    async def grouped(keys: list[Key]) -> object:
        slots: dict[int, list[bytes]] = {}
        for key in keys:
            slots.setdefault(names.row(key).bucket, []).append(names.count(key))
        pipe = client.pipeline()
        for found in slots.values():
            pipe.execute_command("MGET", *found)
        return await pipe.execute()

    return read if isinstance(client, Redis) else grouped


def through(node: Node) -> Read:
    """The same through the node."""
    options = ReadOptions()
    return lambda keys: node.counts(keys, options)


async def rate(read: Read, pages: list[list[Key]], seconds: float) -> float:
    """Counts a second, with CALLERS at a time."""
    until_s = time.perf_counter() + seconds
    done = 0

    async def caller(draw: random.Random) -> None:
        nonlocal done
        while time.perf_counter() < until_s:
            await read(draw.choice(pages))
            done += KEYS_EACH

    began_s = time.perf_counter()
    await asyncio.gather(*(caller(random.Random(number)) for number in range(CALLERS)))
    return done / (time.perf_counter() - began_s)


async def measure(url: str, client: Redis | RedisCluster, rounds: int, seconds: float) -> None:
    settings = config.load_only({"store": "memory://", "redis": url, "replicas": 0})
    async with wiring.node(settings) as node:
        writes = tuple(Add("like", target, 1) for target in range(TARGETS))
        await node.write(writes)
        draw = random.Random(1)
        pages: list[list[Key]] = [
            [("like", target) for target in draw.sample(range(TARGETS), KEYS_EACH)]
            for _ in range(500)
        ]
        buckets = BUCKETS if isinstance(client, RedisCluster) else 1
        names = Names("groundswell", node._store.identity, buckets)
        sides = {"bare MGET": bare(client, names), "through a node": through(node)}
        for read in sides.values():
            await rate(read, pages, 1.0)
        found: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(rounds):
            order = list(sides.items())
            for name, read in order if number % 2 else order[::-1]:
                found[name].append(await rate(read, pages, seconds))
        served = node.telemetry.reads.labels("causal", "redis")._value.get()
        fallbacks = node.telemetry.reads.labels("causal", "primary")._value.get()
    for name, rates in found.items():
        print(
            f"{name:>15}: {statistics.median(rates):9,.0f} counts/s"
            f"  ({min(rates):,.0f} to {max(rates):,.0f})"
        )
    one, other = found.values()
    ratios = [b / a for a, b in zip(one, other, strict=True)]
    print(
        f"          ratio: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    )
    print(f"{served:,.0f} reads by Redis, {fallbacks:,.0f} by the primary")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", action="store_true", help="one server instead of a cluster")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each side in each round")
    given = parser.parse_args()
    if reason := redises.missing():
        sys.exit(reason)
    with tempfile.TemporaryDirectory() as folder:
        place = (redises.RedisServer if given.one else redises.RedisCluster)(Path(folder))
        try:
            place.start()
            uvloop.run(_main(place, given.rounds, given.seconds))
        finally:
            place.kill()


async def _main(
    place: redises.RedisServer | redises.RedisCluster, rounds: int, seconds: float
) -> None:
    first = place.url.partition(",")[0]
    client = (
        Redis.from_url(first, protocol=2)
        if isinstance(place, redises.RedisServer)
        else RedisCluster.from_url(first, protocol=2)
    )
    try:
        await measure(place.url, client, rounds, seconds)
    finally:
        await client.aclose()


if __name__ == "__main__":
    main()
