"""A node in a process of its own, for as long as a block lasts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

from groundswell.errors import NodeUnreachable, StoreUnusable
from groundswell.processes import end_with_parent
from groundswell.wiring import connect

START_S: Final = 20.0
STOP_S: Final = 20.0


class Child(NamedTuple):
    """A node that runs in a process of its own."""

    url: str
    pid: int


@contextlib.asynccontextmanager
async def node(arguments: Sequence[str]) -> AsyncIterator[Child]:
    """Start `groundswell serve` with these arguments on a free port; yields once it is ready."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "groundswell",
        "serve",
        "--config",
        os.devnull,
        "--port",
        "0",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # Settings of the folder and of the environment are for other nodes.
        env={name: os.environ[name] for name in os.environ if not name.startswith("GROUNDSWELL_")},
        start_new_session=True,  # Ctrl-C is for the demo, which then stops the node
        preexec_fn=end_with_parent,
    )
    try:
        line = (await asyncio.wait_for(_line(process.stdout), START_S)).decode()
        found = re.search(r"http://\S+?:\d+", line)
        if found is None:
            said = (await process.communicate())[1].decode().strip()
            raise StoreUnusable(f"The node did not start. {said}")
        await _ready(found[0])
        yield Child(found[0], process.pid)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.communicate(), STOP_S)
            except TimeoutError:
                process.kill()
                await process.wait()


async def _line(stream: asyncio.StreamReader | None) -> bytes:
    return b"" if stream is None else await stream.readline()


async def _ready(url: str) -> None:
    """Until every replica is in the feed, however far away it pretends to be."""
    async with asyncio.timeout(START_S), connect(url) as gs:
        while True:
            with contextlib.suppress(NodeUnreachable):
                status = await gs.status()
                if all(replica.age_ms is not None for replica in status.replicas):
                    return
            await asyncio.sleep(0.05)
