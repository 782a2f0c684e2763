"""What the benchmarks share: figures with their targets, the table of them, and load from wrk."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

_UNIT_MS = {"us": 0.001, "ms": 1.0, "s": 1_000.0, "m": 60_000.0}


class Figure(NamedTuple):
    """One line of the table; without a target it is only for information."""

    what: str
    unit: str
    target: float | None
    runs: list[float]
    at_most: bool = False
    digits: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.runs)

    @property
    def reached(self) -> bool:
        if self.target is None:
            return True
        return self.median <= self.target if self.at_most else self.median >= self.target


def show(figures: Sequence[Figure]) -> None:
    width = max((len(f"{figure.what}, {figure.unit}") for figure in figures), default=0)
    print(f"{'':{width}}{'median':>10}{'min':>10}{'max':>10}{'target':>10}")
    for figure in figures:

        def number(value: float, digits: int = figure.digits) -> str:
            return format(value, f",.{digits}f")

        line = f"{figure.what + ', ' + figure.unit:{width}}"
        for value in (figure.median, min(figure.runs), max(figure.runs)):
            line += f"{number(value):>10}"
        if figure.target is not None:
            sign = "<=" if figure.at_most else ">="
            verdict = "reached" if figure.reached else "MISSED"
            line += f"{sign + format(figure.target, ',.0f'):>10}  {verdict}"
        print(line)


def conclude(figures: Sequence[Figure], file: Path | None) -> int:
    """Print the table, write it as JSON where that is wanted; the exit code."""
    show(figures)
    if file:
        file.write_bytes(msgspec.json.encode([figure._asdict() for figure in figures]))
    return 0 if all(figure.reached for figure in figures) else 1


def machine() -> str:
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"


def missing() -> str:
    """Why nothing can be measured; empty if nothing is missing."""
    return "" if shutil.which("wrk") else "wrk is not installed; .ci/packages installs it."


class Load(NamedTuple):
    """What wrk met."""

    requests: int
    rate: float  # per second
    p50_ms: float
    p99_ms: float


class Wrk:
    """Runs wrk, with its scripts in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._salt = 0

    async def __call__(
        self,
        url: str,
        connections: int,
        seconds: float,
        script: str | None = None,
        **values: object,
    ) -> Load:
        """One run; `script` is Lua, formatted with `values` and a new `salt`. Raises if any was refused."""
        arguments = ["-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout", "20s"]
        if script is not None:
            self._salt += 1
            path = self._folder / f"{self._salt}.lua"
            path.write_text(script.format(salt=self._salt, **values))
            arguments += ["-s", str(path)]
        process = await asyncio.create_subprocess_exec(
            "wrk", "--latency", *arguments, url, stdout=asyncio.subprocess.PIPE
        )
        try:
            said = (await process.communicate())[0].decode()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        if "Non-2xx" in said or "Socket errors" in said:
            raise RuntimeError(f"wrk met errors:\n{said}")
        return _parsed(said)


def _parsed(said: str) -> Load:
    requests = re.search(r"(\d+) requests in", said)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    if requests is None or rate is None:
        raise RuntimeError(f"wrk did not say its rate:\n{said}")
    return Load(int(requests[1]), float(rate[1]), _percentile(said, 50), _percentile(said, 99))


def _percentile(said: str, percent: int) -> float:
    found = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s|m)\b", said)
    if found is None:
        raise RuntimeError(f"wrk did not say its latencies:\n{said}")
    return float(found[1]) * _UNIT_MS[found[2]]
