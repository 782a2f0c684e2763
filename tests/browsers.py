"""The live page as a test sees it: what stands where, and what must not happen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import ConsoleMessage, Error, Page, Request, Response

import nodes

ARTIFACTS = Path(__file__).parent / "page" / "artifacts"
WAIT_MS = 60_000
FAR_S = 60.0

Visit = Callable[..., Page]


class Faults(list[str]):
    """What a page must not do: errors in its console, and requests that fail."""

    def listen(self, page: Page) -> None:
        page.on("console", self._said)
        page.on("pageerror", self._raised)
        page.on("response", self._answered)
        page.on("requestfailed", self._failed)

    def _said(self, said: ConsoleMessage) -> None:
        if said.type == "error":
            self.append(said.text)

    def _raised(self, error: Error) -> None:
        self.append(str(error))

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self.append(f"{response.status} {response.url}")

    def _failed(self, request: Request) -> None:
        # The page itself ends one pulse to begin another.
        if request.failure != "net::ERR_ABORTED" or "/v1/pulse" not in request.url:
            self.append(f"{request.failure} {request.url}")


def until(check: Callable[[], object], what: str) -> None:
    nodes.until(check, what, within_s=FAR_S)


def figure(page: Page, selector: str) -> int | None:
    """The whole number that stands there; None while there is none."""
    text = page.inner_text(selector).replace(",", "").split(" ")[0]
    return int(text) if text.lstrip("-").isdigit() else None


def replica(page: Page, place: int, column: str) -> int | None:
    """A figure of the table: count or behind of the replica at this place, from 1."""
    cell = {"count": 2, "behind": 3}[column]
    return figure(page, f"#replicas tr:nth-child({place}) > :nth-child({cell})")


def counts(page: Page) -> list[int]:
    return [replica(page, place, "count") or 0 for place in (1, 2, 3)]


def tally(page: Page, level: str, name: str) -> int:
    """`reads`, `went back` or `missed own` of a level."""
    place = ["reads", "went back", "missed own"].index(name) + 1
    found = figure(page, f"[data-level={level}] dl div:nth-child({place}) dd")
    assert found is not None
    return found


def value(page: Page, level: str) -> int | None:
    return figure(page, f"[data-level={level}] .value")


def watch(page: Page, kind: str, target: object) -> None:
    page.select_option("#pick-kind", kind)
    page.fill("#pick-target", str(target))
    page.click("#pick button")
    until(lambda: page.inner_text("#watched-title") == f"Count of {kind} {target}", "watched")


def start_spike(page: Page) -> None:
    page.click("text=Start the spike")
    page.wait_for_selector("text=Stop the spike")
    until(lambda: page.inner_text("#watched-title") == "Count of like 7000001", "the hottest")
    until(lambda: min(counts(page)) > 0, "a first count of every replica")
