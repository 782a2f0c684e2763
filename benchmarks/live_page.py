"""What the live page costs: its first paint, the node's processor time, and memory in the browser.

    python benchmarks/live_page.py [--runs 5] [--seconds 30] [--pages 10] [--minutes 30] [--json FILE]

First paint: in a new browser profile each time. Processor time: of the node, with so many pages open less
that with none, in per cent of one core. Memory: the heap of one page after a collection, during a spike and
with automatic refreshes, at the end against the end of the first tenth. Exit code 1 where a target is
missed. Needs chromium.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from playwright.async_api import Browser, Page, async_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.common import Figure, conclude, machine

from groundswell.demo import child
from groundswell.demo.run import REPLICA_DELAYS_MS

FIRST_PAINT_MS: Final = 1_000
CORE_PERCENT: Final = 5
GROWTH_MIB: Final = 1
BEATS_S: Final = 9  # of ten, on a busy machine
SETTLE_S: Final = 3.0
SAMPLE_S: Final = 10.0
MIB: Final = 2**20

# The page draws with each frame: what changes in its table is counted, a beat at a time.
COUNT_BEATS: Final = """() => {
    window.beats = 0;
    new MutationObserver(() => { window.beats += 1; })
        .observe(document.getElementById("replicas"), { subtree: true, childList: true });
}"""


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=flags
        )
        yield browser
        await browser.close()


async def opened(browser: Browser, url: str) -> Page:
    """A page in a profile of its own, live."""
    page = await (await browser.new_context()).new_page()
    await page.goto(url)
    await page.wait_for_selector("#connection[data-state=live]")
    return page


async def first_paint_ms(browser: Browser, url: str) -> float:
    page = await opened(browser, url)
    found: float = await page.evaluate(
        "performance.getEntriesByName('first-contentful-paint')[0].startTime"
    )
    await page.context.close()
    return found


def processor_s(pid: int) -> float:
    """Processor time that a process has had, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def core_percent(pid: int, seconds: float) -> float:
    before_s, began_s = processor_s(pid), time.monotonic()
    await asyncio.sleep(seconds)
    return 100 * (processor_s(pid) - before_s) / (time.monotonic() - began_s)


async def pages_percent(browser: Browser, node: child.Child, pages: int, seconds: float) -> float:
    """What so many pages cost, in per cent of one core."""
    without = await core_percent(node.pid, seconds)
    async with AsyncExitStack() as stack:
        for _ in range(pages):
            page = await opened(browser, node.url)
            stack.push_async_callback(page.context.close)
        await asyncio.sleep(SETTLE_S)
        with_them = await core_percent(node.pid, seconds)
    print(
        f"  node: {without:.1f} % of a core with no page, {with_them:.1f} % with {pages}",
        flush=True,
    )
    return with_them - without


async def memory(page: Page, minutes: float) -> tuple[float, float]:
    """By how many MiB the heap grows after the first tenth, and how many beats were drawn per second."""
    session = await page.context.new_cdp_session(page)
    await session.send("Performance.enable")
    await page.evaluate(COUNT_BEATS)
    began_s = time.monotonic()
    samples: list[tuple[float, float]] = []
    while (passed_s := time.monotonic() - began_s) < minutes * 60:
        await asyncio.sleep(min(SAMPLE_S, minutes * 60 - passed_s))
        await session.send("HeapProfiler.collectGarbage")
        found = await session.send("Performance.getMetrics")
        metrics = {one["name"]: one["value"] for one in found["metrics"]}
        samples.append(((time.monotonic() - began_s) / 60, metrics["JSHeapUsedSize"] / MIB))
        print(
            f"  minute {samples[-1][0]:.1f}: heap {samples[-1][1]:.2f} MiB, {metrics['Nodes']:.0f} nodes, "
            f"{metrics['JSEventListeners']:.0f} listeners",
            flush=True,
        )
    beats = await page.evaluate("window.beats") / (time.monotonic() - began_s)
    settled = [mib for minute, mib in samples if minute >= minutes / 10]
    return settled[-1] - settled[0], beats


async def measured(arguments: argparse.Namespace) -> list[Figure]:
    async with chromium() as browser, demo_node() as node:
        paints = [await first_paint_ms(browser, node.url) for _ in range(arguments.runs)]
        cost = [
            await pages_percent(browser, node, arguments.pages, arguments.seconds)
            for _ in range(arguments.runs)
        ]
        page = await opened(browser, node.url)
        await page.click("text=Start the spike")
        await page.click("text=Automatic")
        await asyncio.sleep(SETTLE_S)
        growth, beats = await memory(page, arguments.minutes)
    return [
        Figure("first paint", "ms", FIRST_PAINT_MS, paints, at_most=True),
        Figure(
            f"{arguments.pages} open pages",
            "% of a core",
            CORE_PERCENT,
            cost,
            at_most=True,
            digits=1,
        ),
        Figure("updates drawn", "1/s", BEATS_S, [beats], digits=1),
        Figure(
            f"growth in {arguments.minutes:g} minutes",
            "MiB",
            GROWTH_MIB,
            [growth],
            at_most=True,
            digits=2,
        ),
    ]


@asynccontextmanager
async def demo_node() -> AsyncIterator[child.Child]:
    """A demo node of its own, as `groundswell demo` starts one."""
    delays = ",".join(map(str, REPLICA_DELAYS_MS))
    with tempfile.TemporaryDirectory(prefix="groundswell-") as folder:
        flags = [
            "--store",
            f"sqlite:///{folder}/page.db",
            "--replicas",
            str(len(REPLICA_DELAYS_MS)),
        ]
        async with child.node([*flags, "--replica-delay-ms", delays, "--demo"]) as node:
            yield node


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--pages", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if shutil.which("chromium") is None:
        print("chromium is not installed; .ci/packages installs it.")
        return 2
    print(machine())
    return conclude(asyncio.run(measured(arguments)), arguments.json)


if __name__ == "__main__":
    sys.exit(main())
