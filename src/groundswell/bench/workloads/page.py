"""`page`: fifty posts with counts, newest likes, and whether the viewer likes them, for many viewers."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import msgspec

from groundswell.bench import check, measure
from groundswell.bench.keepalive import Client, request
from groundswell.bench.load import write_requests, wrk
from groundswell.bench.measure import Bench
from groundswell.bench.results import Run
from groundswell.bench.systems import SYSTEMS
from groundswell.bench.workload import Workload, way

POSTS: Final = 50
VIEWERS: Final = 100
LIKES: Final = 40  # of each post, by some of the viewers
NEWEST: Final = 3
CLIENTS: Final = 64
AT_ONCE: Final = 8  # posts, while they are filled
WARM_S: Final = 1.0

KEYS: Final = [("like", post) for post in range(1, POSTS + 1)]


def likers(post: int) -> list[int]:
    """Who likes a post, the newest last."""
    return [(post * 7 + n * 2) % VIEWERS + 1 for n in range(LIKES)]


def _request(viewer: int) -> bytes:
    body = {"viewer": viewer, "keys": KEYS, "newest": NEWEST}
    return request("POST", "/v1/page", msgspec.json.encode(body))


def fill(url: str) -> None:
    """All likes, those of a post one after the other."""

    def like(post: int) -> None:
        with Client(url) as client:
            for user in likers(post):
                client.send(request("PUT", f"/v1/edges/like/{post}/{user}"))

    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(like, (post for _, post in KEYS)))


def look(system: str, url: str) -> None:
    """Ask for the page of every viewer, and compare it with what is due; Miscounted."""
    with Client(url) as client:
        for viewer in range(1, VIEWERS + 1):
            items = msgspec.json.decode(client.send(_request(viewer)))["items"]
            for (_, post), item in zip(KEYS, items, strict=True):
                newest = [n if isinstance(n, int) else n["source"] for n in item["newest"]]
                told = item["count"], item["viewer"], len(newest)
                due = LIKES, viewer in likers(post), NEWEST
                if told != due or not set(newest) <= set(likers(post)[-20:]):
                    raise check.Miscounted(f"{system}: post {post}, {told}, {newest}; due {due}.")


async def page(bench: Bench, system: str) -> Run:
    """Pages for a viewer after the other."""
    posts = range(1, POSTS + 1)
    tuning = bench.tunings.get(system)
    async with SYSTEMS[system].running(bench.databases, tuning, posts=posts, lists=True) as running:
        await check.before(system, running)
        await asyncio.to_thread(fill, running.url)
        await asyncio.to_thread(check.settle, system, running.url, dict.fromkeys(posts, LIKES))
        await asyncio.sleep(WARM_S)
        await asyncio.to_thread(look, system, running.url)
        pages = [_request(viewer) for viewer in range(1, VIEWERS + 1)]
        file = write_requests(bench.folder / "requests", pages)
        load = wrk(bench.folder, running.url, "cycle", file, clients=CLIENTS, seconds=bench.seconds)
        return await measure.reads(running, load)


PAGE: Final = Workload(
    "page",
    f"A page of {POSTS} posts for each of {VIEWERS} viewers",
    "pages",
    [way(name, partial(page, system=name)) for name in ("groundswell", "inline", "scan")],
    f"{CLIENTS} clients; of each post its count, the newest {NEWEST} likes, and whether the "
    "viewer likes it.",
)
