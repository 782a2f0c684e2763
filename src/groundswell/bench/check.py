"""Whether a system counts right: before it is timed, and after."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Final

import msgspec

from groundswell.bench.keepalive import Client, request
from groundswell.bench.systems import CHECKED as POSTS
from groundswell.bench.systems import Running

USERS: Final = 40
AT_ONCE: Final = 8
SETTLE_S: Final = 60.0


class Miscounted(Exception):
    """A system did not count right; its figures would say nothing.

    Not one of `groundswell.errors`, whose codes cross the wire.
    """


async def before(system: str, running: Running) -> None:
    """Likes, each sent three times at once, have to count once: raises Miscounted."""
    await asyncio.to_thread(_before, system, running)


def _before(system: str, running: Running) -> None:
    asked = [(post, user) for post in POSTS for user in range(1, USERS + 1) for _ in range(3)]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        parts = [asked[n::AT_ONCE] for n in range(AT_ONCE)]
        changed = [pair for part in threads.map(_like, repeat(running.url), parts) for pair in part]
    if sorted(changed) != sorted(set(asked)):
        raise Miscounted(
            f"{system}: {len(changed)} of {len(set(asked))} likes were said to change."
        )
    due = dict.fromkeys(POSTS, USERS)
    stored = running.edges()
    if {post: stored.get(post) for post in POSTS} != due:
        raise Miscounted(f"{system} stored {stored}, due were {due}.")
    settle(system, running.url, due | {999: 0})


def _like(url: str, pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Those that changed something."""
    found = []
    with Client(url) as client:
        for post, user in pairs:
            answer = msgspec.json.decode(
                client.send(request("PUT", f"/v1/edges/like/{post}/{user}"))
            )
            if answer["changed"]:
                found.append((post, user))
    return found


async def after(system: str, running: Running, *, at_least: int, exactly: int | None = None) -> int:
    """Edges and counts agree, and nothing acknowledged is missing: else Miscounted. How many edges.

    Requests that the client left behind are still under way for a moment.
    """
    return await asyncio.to_thread(_after, system, running, at_least, exactly)


def _after(system: str, running: Running, at_least: int, exactly: int | None) -> int:
    until_s = time.monotonic() + SETTLE_S
    stored = running.edges()
    while time.monotonic() < until_s:
        time.sleep(0.1)
        last, stored = stored, running.edges()
        if last == stored:
            break
    edges = sum(count for post, count in stored.items() if post not in POSTS)
    if edges < at_least or exactly not in (None, edges):
        raise Miscounted(f"{system} stored {edges} likes; acknowledged were {at_least}.")
    hottest = sorted(stored, key=stored.__getitem__, reverse=True)[:100]
    settle(system, running.url, {post: stored[post] for post in hottest})
    return edges


def settle(system: str, url: str, due: dict[int, int]) -> None:
    """Wait until the counts are these; Miscounted if they never are."""
    until_s = time.monotonic() + SETTLE_S
    with Client(url) as client:
        while (found := counts(client, list(due))) != list(due.values()):
            if time.monotonic() > until_s:
                raise Miscounted(f"{system} counts {found}, due were {list(due.values())}.")
            time.sleep(0.05)


def counts(client: Client, posts: Sequence[int], query: str = "") -> list[int]:
    """As the system tells them."""
    body = msgspec.json.encode({"keys": [("like", post) for post in posts]})
    answer = msgspec.json.decode(client.send(request("POST", f"/v1/counts{query}", body)))
    return [one["count"] for one in answer["counts"]]
