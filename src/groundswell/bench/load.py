"""Load from wrk, a compiled client, so that the client is not what is measured."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from groundswell.errors import StoreUnusable
from groundswell.processes import end_with_parent

SCRIPTS: Final = Path(__file__).with_name("scripts")
TIMEOUT: Final = "60s"


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What wrk met."""

    requests: int
    seconds: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    refused: int  # answers of no good status
    broken: int  # connections, and requests without an answer in time

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds


def missing() -> str:
    """Why there can be no load; empty if nothing is missing."""
    return "" if shutil.which("wrk") else "wrk is not installed: apt-get install wrk"


async def wrk(
    folder: Path,
    url: str,
    script: str,
    *arguments: object,
    clients: int,
    seconds: float,
) -> Load:
    """One run of `scripts/<script>.lua`, which may end before its time.

    Raises StoreUnusable if anything was refused or broken.
    """
    program = folder / f"{script}.lua"
    program.write_text(
        (SCRIPTS / "common.lua").read_text() + (SCRIPTS / f"{script}.lua").read_text()
    )
    process = await asyncio.create_subprocess_exec(
        *("wrk", "-t1", f"-c{clients}", f"-d{max(seconds, 1):.0f}s", "--timeout", TIMEOUT),
        *("-s", str(program), url, "--", *map(str, arguments)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=end_with_parent,
    )
    try:
        said = (await process.communicate())[1].decode()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    lines = said.splitlines()
    if not lines or not lines[-1].startswith("{"):
        raise StoreUnusable(f"wrk did not say what it met: {said[-500:]}")
    load = msgspec.json.decode(lines[-1], type=Load)
    if load.refused or load.broken or len(lines) > 1:
        raise StoreUnusable(f"wrk met errors on {url}: {said[-500:]}")
    return load


def write_requests(path: Path, requests: Sequence[bytes]) -> Path:
    """A file for `cycle` and `trace`."""
    path.write_bytes(b"\0".join(requests))
    return path
