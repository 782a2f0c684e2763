"""The live page for everybody: keys, keyboards, screen readers, small screens, and no markup from data."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Request

import nodes
from browsers import ARTIFACTS, Faults, Visit, counts, start_spike, until, watch

KEY = "a-key-that-tests-know"
KEYS = f"""
[[keys]]
name = "tests"
sha256 = "{hashlib.sha256(KEY.encode()).hexdigest()}"
scopes = ["read", "write", "admin"]
"""

HIDE = """(hidden) => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_a_key_is_asked_for_and_never_part_of_an_address(
    tmp_path: Path, visit: Visit, faults: Faults
) -> None:
    with nodes.running(tmp_path, "--demo", toml=KEYS) as node:
        page = visit(node.url, live=False)
        sent: list[Request] = []
        over: list[Request] = []

        def note(request: Request) -> None:
            sent.append(request)

        def note_end(request: Request) -> None:
            over.append(request)

        def quiet() -> bool:
            page.wait_for_timeout(20)  # in which what has ended is noted
            return all(request in over for request in sent)

        page.on("request", note)
        page.on("requestfinished", note_end)
        page.on("requestfailed", note_end)
        page.wait_for_selector("#key:visible")
        assert not faults  # it knew without a call that is refused
        page.fill("#key-input", "not-the-key")
        page.press("#key-input", "Enter")
        until(lambda: "not known" in page.inner_text("#key-error"), "the wrong key is refused")
        assert any("401" in fault for fault in faults)
        faults.clear()
        page.fill("#key-input", KEY)
        page.click("text=Use this key")
        page.wait_for_selector("#connection[data-state=live]")
        page.wait_for_selector("#controls:visible")
        page.click("text=Refresh all")
        until(lambda: page.inner_text("[data-level=causal] .value") == "0", "a read")
        assert not any(KEY in request.url or "not-the-key" in request.url for request in sent)
        calls = [request for request in sent if "/v1/" in request.url]
        assert all("authorization" in request.headers for request in calls)
        assert page.evaluate("[document.cookie, localStorage.length]") == ["", 0]
        page.evaluate(HIDE, True)  # it asks for nothing more
        until(quiet, "no request that the reload would break off")
        page.reload()
        page.wait_for_selector("#connection[data-state=live]")  # the tab remembers
        page.close()  # before its node is gone


def test_a_key_that_may_only_read_sees_what_it_may(
    tmp_path: Path, visit: Visit, faults: Faults
) -> None:
    with nodes.running(tmp_path, toml=KEYS.replace('"read", "write", "admin"', '"read"')) as node:
        page = visit(node.url, live=False)
        page.fill("#key-input", KEY)
        page.click("text=Use this key")
        page.wait_for_selector("#node:has-text('scope admin')")
        page.click("text=Refresh all")
        until(lambda: page.inner_text("[data-level=causal] .value") == "0", "a read")
        until(lambda: "admin" in page.inner_text("#spike-problem"), "what the pulse takes")
        assert all("403" in fault for fault in faults), faults
        page.close()
        faults.clear()


def test_data_is_shown_as_text(demo: nodes.Node, visit: Visit) -> None:
    target = "<img src=x onerror=alert(1)><b>bold</b>"
    page = visit(demo.url)
    watch(page, "tag", "nothing")
    assert demo.request("PUT", f"/v1/edges/tag/{nodes.quoted(target)}/x").status == 200
    page.click("#hot button:has-text('tag ')")  # not one of the kind before
    until(lambda: counts(page) == [1, 1, 1], "the count of this target")
    assert page.inner_text("#watched-title") == f"Count of tag {target}"
    assert page.locator("main img, main b").count() == 0


def test_nothing_inline_runs(demo: nodes.Node, visit: Visit, faults: Faults) -> None:
    page = visit(demo.url)
    page.evaluate(
        """() => {
            const script = document.createElement("script");
            try { script.text = "window.ran = true"; } catch {}
            document.body.append(script);
            try { document.body.innerHTML += "<p>made of text</p>"; } catch {}
            try { document.body.setAttribute("onclick", "window.ran = true"); } catch {}
            document.body.click();
        }"""
    )
    assert page.evaluate("window.ran") is None
    assert page.locator("text=made of text").count() == 0
    assert faults
    faults.clear()


def test_a_page_out_of_sight_asks_for_nothing(demo: nodes.Node, visit: Visit) -> None:
    page = visit(demo.url)
    page.wait_for_selector("#controls:visible")
    page.click("text=Automatic")
    page.evaluate(HIDE, True)
    page.wait_for_timeout(1000)  # what was under way is over
    sent: list[str] = []

    def note(request: Request) -> None:
        sent.append(request.url)

    page.on("request", note)
    age = "#replicas tr:first-child td:last-child"
    stood = page.inner_text(age)
    page.wait_for_timeout(3500)
    assert (sent, page.inner_text(age)) == ([], stood)
    page.evaluate(HIDE, False)
    until(lambda: page.inner_text(age) != stood, "it goes on")


# --- accessibility --------------------------------------------------------------------------------


def violations(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1440])
def test_axe_finds_nothing_and_nothing_overflows(
    demo: nodes.Node, visit: Visit, scheme: str, width: int
) -> None:
    page = visit(demo.url, width=width, scheme=scheme)
    start_spike(page)
    page.click("text=Automatic")
    page.click("#like")
    page.click("#story button.primary")
    page.click("[aria-label='Stop replica-c']")
    page.wait_for_selector("#replicas tr.stopped")
    page.wait_for_selector("#story .verdict[data-wrong]")
    page.wait_for_timeout(3000)
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(700)  # until it has scrolled
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{scheme}-{width}.png", full_page=True)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut = """() => [...document.querySelectorAll("main *")].filter((one) => {
        const box = one.getBoundingClientRect();
        const scrolls = one.closest(".tabs, .log, .unseen");
        return box.width && !scrolls && (box.right > innerWidth + 1 || box.left < -1);
    }).map((one) => one.outerHTML.slice(0, 120))"""
    assert page.evaluate(cut) == []


def test_the_form_for_a_key_is_accessible(tmp_path: Path, visit: Visit) -> None:
    with nodes.running(tmp_path, toml=KEYS) as node:
        page = visit(node.url, live=False)
        page.wait_for_selector("#key:visible")
        assert violations(page) == []
        assert page.evaluate("document.activeElement.id") == "key-input"
        page.close()


def test_everything_can_be_done_with_the_keyboard(demo: nodes.Node, visit: Visit) -> None:
    page = visit(demo.url)
    page.wait_for_selector("#controls:visible")
    met: list[str] = []
    for _ in range(60):
        page.keyboard.press("Tab")
        here = "(one => one.id || one.getAttribute('aria-label') || one.textContent)"
        met.append(page.evaluate(f"{here}(document.activeElement)"))
        if met[-1] == "story":
            break
    wanted = {
        "pick-kind", "pick-target", "surge", "speed", "rollup", "Stop replica-a", "like", "auto",
        "refresh-all", "reset", "Refresh at eventual", "tab-followers", "story",
    }  # fmt: skip
    assert wanted <= set(met), wanted - set(met)
    page.focus("#tab-followers")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.id") == "tab-seat"
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#tab-review", "aria-selected") == "true"
    page.focus("#story input:checked")
    page.keyboard.press("ArrowRight")
    assert page.is_checked("#story input[value=read_your_writes]")
    page.focus("#story button.primary")
    page.keyboard.press("Enter")
    page.wait_for_selector("#story .verdict[data-wrong=false]")
    page.focus("#surge")
    page.keyboard.press("Space")
    page.wait_for_selector("text=Stop the spike")


def test_screen_readers_are_told(demo: nodes.Node, visit: Visit) -> None:
    page = visit(demo.url)
    page.click("[data-level=causal] button")
    until(lambda: page.inner_text("#announcer").startswith("causal: "), "what was read")
    until(
        lambda: "replica-c" in (page.get_attribute("#count-chart", "aria-label") or ""),
        "what the lines show",
    )
