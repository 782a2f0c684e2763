"""A real browser on real nodes: Debian's chromium, driven by Playwright.

Fixtures are of modules, not of the session: Playwright's synchronous interface keeps an event loop
running, beside which tests of other modules could not run theirs.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

import nodes
from browsers import WAIT_MS, Faults, Visit

CHROMIUM = shutil.which("chromium")
# So late that a busy machine, whose requests take long, still meets them behind.
DELAYS_MS = {"replica-a": 0, "replica-b": 500, "replica-c": 1500}
DEMO = ("--replicas", "3", "--replica-delay-ms", ",".join(map(str, DELAYS_MS.values())), "--demo")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    # Its sandbox does not work for root, as whom containers run tests.
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield running
        running.close()


@pytest.fixture(scope="module")
def demo_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[nodes.Node]:
    """A demo node with three replicas, two of which are late."""
    with nodes.running(tmp_path_factory.mktemp("demo"), *DEMO, toml=nodes.KINDS) as node:
        yield node
        assert "Traceback" not in node.output()


@pytest.fixture
def demo(demo_node: nodes.Node) -> nodes.Node:
    """The same, as it was at the beginning."""
    replicas = {
        name: {"delay_ms": delay_ms, "following": True} for name, delay_ms in DELAYS_MS.items()
    }
    body = {"spike": {"running": False, "per_s": 2000}, "replicas": replicas}
    answer = demo_node.request("POST", "/v1/demo", body | {"rollup": {"working": True}})
    assert answer.status == 200, answer
    return demo_node


@pytest.fixture
def faults() -> Iterator[Faults]:
    """Of the pages visited in a test; there must be none when it ends."""
    found = Faults()
    yield found
    assert not found


@pytest.fixture
def visit(browser: Browser, faults: Faults) -> Iterator[Visit]:
    """Open the live page of a node, and wait until it is live."""
    contexts: list[BrowserContext] = []

    def open_page(url: str, *, width: int = 1440, scheme: Any = "light", live: bool = True) -> Page:
        contexts.append(
            browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        )
        page = contexts[-1].new_page()
        page.set_default_timeout(WAIT_MS)
        faults.listen(page)
        page.goto(url)
        if live:
            page.wait_for_selector("#connection[data-state=live]")
        return page

    yield open_page
    for context in contexts:
        context.close()
