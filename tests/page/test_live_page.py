"""The live page in a real browser: what it shows is what the node does."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

import nodes
from balancers import balanced, needs_haproxy
from browsers import Visit, counts, figure, replica, start_spike, tally, until, value, watch

FREE = itertools.count(500_000)  # targets that nothing else touches

COLOURS = """(name) => {
  const probe = document.createElement("span");
  probe.className = name;
  document.body.append(probe);
  const [r, g, b] = getComputedStyle(probe).color.match(/\\d+/g).map(Number);
  probe.remove();
  const canvas = document.querySelector("#count-chart canvas");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const places = [];
  for (let i = 0; i < data.length; i += 4) {
    const near = Math.abs(data[i] - r) + Math.abs(data[i + 1] - g) + Math.abs(data[i + 2] - b) < 40;
    if (near && data[i + 3] > 200) places.push(i / 4);
  }
  return places;
}"""


def drawn(page: Page) -> list[list[int]]:
    """The places on the chart where the line of each replica is."""
    return [page.evaluate(COLOURS, f"replica-{place}") for place in range(3)]


def catch_up(page: Page, demo: nodes.Node) -> None:
    """Wait until the page shows the first replica with all that is counted now."""
    now = demo.count("like", 7_000_001)
    until(lambda: (replica(page, 1, "count") or 0) >= now, "the first one has caught up")


# --- spike ----------------------------------------------------------------------------------------


def test_lines_of_three_replicas_appear_move_fan_out_and_meet(
    demo: nodes.Node, visit: Visit
) -> None:
    page = visit(demo.url)
    start_spike(page)
    until(lambda: all(drawn(page)), "a line of each: one point is none yet")
    before, lines = counts(page), drawn(page)
    until(lambda: min(counts(page)) > max(before), "all three have moved on")
    assert all(now and now != then for now, then in zip(drawn(page), lines, strict=True))
    until(lambda: (replica(page, 3, "behind") or 0) > 0, "the last one is behind")
    until(lambda: (figure(page, "#writes-per-s") or 0) > 100, "so many writes")
    until(lambda: (figure(page, "#rollup-size") or 0) >= 1, "events in a rollup")
    with page.expect_response(lambda answer: answer.request.method == "POST"):
        page.click("text=Stop the spike")  # which is answered after what was under way
    until(lambda: not demo.request("GET", "/v1/demo").json["spike"]["running"], "it has stopped")
    until(lambda: counts(page) == [demo.count("like", 7_000_001)] * 3, "they meet")
    met = [0, 0, 0]
    until(lambda: [replica(page, place, "behind") for place in (1, 2, 3)] == met, "all is quiet")
    assert counts(page) == [demo.count("like", 7_000_001)] * 3


def test_a_hot_target_is_picked_with_a_click_and_any_with_the_search(
    demo: nodes.Node, visit: Visit
) -> None:
    target = next(FREE)
    page = visit(demo.url)
    watch(page, "review", next(FREE))
    until(lambda: counts(page) == [0, 0, 0], "an unknown target counts nothing")
    for source in range(3):  # only now: it is hot for half a minute
        assert (
            demo.request("PUT", f"/v1/edges/review/{target}/{source}", {"value": 5}).status == 200
        )
    page.click(f"#hot button:has-text('review {target}')")
    until(lambda: counts(page) == [3, 3, 3], "the hot one")
    assert page.get_attribute("#hot button:first-child", "aria-current") == "true"
    assert page.input_value("#pick-target") == str(target)


def test_ids_beyond_what_javascript_counts_are_exact(demo: nodes.Node, visit: Visit) -> None:
    target = 2**62 + next(FREE)
    page = visit(demo.url)
    watch(page, "reply", next(FREE))
    assert demo.request("PUT", f"/v1/edges/reply/{target}/1").status == 200
    page.click(f"#hot button:has-text('{target}')")
    until(lambda: counts(page) == [1, 1, 1], "the count of the very id")


def test_a_stopped_replica_is_shown_as_such(demo: nodes.Node, visit: Visit) -> None:
    page = visit(demo.url)
    start_spike(page)
    assert not page.is_visible("#replicas tr:nth-child(2) .chip")
    page.click("[aria-label='Stop replica-b']")
    page.wait_for_selector("#replicas tr.stopped .chip:visible")
    assert page.inner_text("#replicas tr.stopped th") == "replica-b stopped"
    catch_up(page, demo)  # what it had asked for is answered,
    time.sleep(1.0)  # has arrived half a second later,
    catch_up(page, demo)  # and is shown by now
    stands = replica(page, 2, "count")
    before = counts(page)
    until(lambda: (replica(page, 1, "count") or 0) > before[0] + 100, "the others move on")
    assert replica(page, 2, "count") == stands
    assert (replica(page, 2, "behind") or 0) >= 100
    page.click("[aria-label='Let replica-b go on']")
    until(lambda: (replica(page, 2, "count") or 0) > (stands or 0), "it goes on")
    page.wait_for_selector("#replicas tr:nth-child(2) .chip", state="hidden")


def test_a_stopped_rollup_worker_lets_the_backlog_grow(demo: nodes.Node, visit: Visit) -> None:
    page = visit(demo.url)
    start_spike(page)
    page.click("[aria-label='Stop the rollup worker']")
    until(lambda: (figure(page, "#backlog") or 0) > 100, "the backlog")
    page.click("text=Stop the spike")
    page.click("[aria-label='Let the rollup worker go on']")
    until(lambda: figure(page, "#backlog") == 0, "worked off")


def test_delay_and_speed_take_effect(demo: nodes.Node, visit: Visit) -> None:
    page = visit(demo.url)
    page.select_option("#replica-controls li:nth-child(1) select", "1000")
    page.fill("#speed", "0")

    def state() -> Any:
        return demo.request("GET", "/v1/demo").json

    until(lambda: state()["replicas"][0]["delay_ms"] == 1000, "the delay")
    until(lambda: state()["spike"]["per_s"] == 50, "the speed")
    until(lambda: (figure(page, "#replicas tr:nth-child(1) td:nth-child(4)") or 0) > 900, "its age")


# --- refresh --------------------------------------------------------------------------------------


def test_eventual_steps_backwards_during_the_spike_and_monotonic_never(
    demo: nodes.Node, visit: Visit
) -> None:
    page = visit(demo.url)
    start_spike(page)
    page.click("text=Automatic")
    until(lambda: tally(page, "eventual", "went back") > 0, "a step backwards")
    for level in ("monotonic", "causal", "linearizable"):
        until(lambda one=level: tally(page, one, "reads") > 20, "enough reads")  # type: ignore[misc]
        assert tally(page, level, "went back") == 0, level
    assert "replica-" in page.inner_text("[data-level=eventual] .from")
    assert page.inner_text("[data-level=linearizable] .from").startswith("primary")


def test_a_step_backwards_is_marked(demo: nodes.Node, visit: Visit) -> None:
    page = visit(demo.url)
    start_spike(page)
    back = 0
    for _ in range(100):
        reads = tally(page, "eventual", "reads")
        page.click("[data-level=eventual] button")
        until(lambda: tally(page, "eventual", "reads") > reads, "read")  # noqa: B023
        if back := tally(page, "eventual", "went back"):
            break
    assert back == 1
    assert "backwards" in page.inner_text("[data-level=eventual] .mark")
    assert "wrong" in (page.get_attribute("[data-level=eventual]", "class") or "")


def test_an_own_like_appears_at_once_where_own_writes_are_read(
    demo: nodes.Node, visit: Visit
) -> None:
    page = visit(demo.url)
    missed = tried = 0
    while (not missed and tried < 15) or tried < 3:  # eventual reads may be lucky
        tried += 1
        target = next(FREE)
        demo.request("PUT", f"/v1/edges/like/{target}/1")
        watch(page, "like", target)
        until(lambda: counts(page) == [1, 1, 1], "everybody knows of the first like")
        page.click("#like")
        page.wait_for_selector("#like[aria-pressed=true]")
        for level in ("read_your_writes", "causal", "linearizable"):
            until(lambda one=level: value(page, one) is not None, "read")  # type: ignore[misc]
            assert value(page, level) == 2, level
        until(lambda: value(page, "eventual") is not None, "read")
        missed += value(page, "eventual") == 1
        page.click("#like")
        page.wait_for_selector("#like[aria-pressed=false]:not(:disabled)")  # its reads are over too
        until(lambda: demo.count("like", target) == 1, "taken back")  # noqa: B023
    assert missed > 0
    assert tally(page, "eventual", "missed own") == missed
    assert tally(page, "read_your_writes", "missed own") == 0
    assert tally(page, "causal", "missed own") == 0


def test_likes_under_way_and_automatic_reads_make_no_false_alarm(
    demo: nodes.Node, visit: Visit
) -> None:
    page = visit(demo.url)
    start_spike(page)
    page.click("text=Automatic")
    for _ in range(6):
        page.click("#like:not(:disabled)")
        page.wait_for_selector("#like:not(:disabled)")
        time.sleep(0.3)
    until(lambda: tally(page, "causal", "reads") > 10, "enough reads")
    no_alarm(page)


def test_a_like_taken_back_and_given_again_makes_no_false_alarm(
    demo: nodes.Node, visit: Visit
) -> None:
    """On a state that lacks the last two, nothing is added in sum; and it lacks others' likes too."""
    target = next(FREE)
    demo.request("PUT", f"/v1/edges/like/{target}/1")
    page = visit(demo.url)
    watch(page, "like", target)
    page.click("#like")
    page.wait_for_selector("#like[aria-pressed=true]")
    until(lambda: counts(page) == [2, 2, 2], "everybody knows of the like")
    writes = [{"op": "add", "kind": "like", "target": target, "source": n} for n in range(2, 50)]
    assert demo.request("POST", "/v1/writes", {"writes": writes}).status == 200
    page.click("#like")
    page.wait_for_selector("#like[aria-pressed=false]")
    page.click("#like:not(:disabled)")
    page.wait_for_selector("#like[aria-pressed=true]")
    for _ in range(9):  # every replica is met
        reads = tally(page, "read_your_writes", "reads")
        page.click("[data-level=read_your_writes] button")
        until(lambda: tally(page, "read_your_writes", "reads") > reads, "read")  # noqa: B023
    no_alarm(page)


def no_alarm(page: Page) -> None:
    for level in ("read_your_writes", "causal", "linearizable"):
        assert tally(page, level, "missed own") == 0, level
    for level in ("monotonic", "causal", "linearizable"):
        assert tally(page, level, "went back") == 0, level


# --- stories --------------------------------------------------------------------------------------


def play(page: Page, level: str) -> int:
    """How many more times the story went wrong at this level."""
    row = f"#story tbody tr:nth-child({LEVELS.index(level) + 1})"
    before = figure(page, f"{row} td:last-child") or 0
    tried = figure(page, f"{row} td:nth-child(2)") or 0
    page.check(f"#story input[value={level}]", force=True)
    page.click("#story button.primary")
    until(lambda: (figure(page, f"{row} td:nth-child(2)") or 0) > tried, f"played at {level}")
    return (figure(page, f"{row} td:last-child") or 0) - before


LEVELS = ("eventual", "read_your_writes", "monotonic", "causal", "linearizable")
STORIES = (
    ("followers", "eventual", "monotonic"),
    ("review", "eventual", "read_your_writes"),
    ("parcel", "read_your_writes", "monotonic"),
    ("thread", "monotonic", "causal"),  # no reply before its question
    ("seat", "causal", "linearizable"),
)


@pytest.mark.parametrize(("story", "weak", "needs"), STORIES, ids=[one[0] for one in STORIES])
def test_a_story_goes_wrong_one_level_too_weak_and_never_at_its_own(
    demo: nodes.Node, visit: Visit, story: str, weak: str, needs: str
) -> None:
    page = visit(demo.url)
    page.click(f"#tab-{story}")
    assert page.is_checked(f"#story input[value={weak}]")
    assert any(play(page, weak) for _ in range(3)), page.inner_text("#story .log")
    assert page.get_attribute("#story .verdict", "data-wrong") == "true"
    for level in {needs, "linearizable"}:
        assert play(page, level) == 0, page.inner_text("#story .log")
        assert page.get_attribute("#story .verdict", "data-wrong") == "false"


# --- any node -------------------------------------------------------------------------------------


def test_a_node_without_controls_shows_none(tmp_path: Path, visit: Visit) -> None:
    with nodes.running(tmp_path) as node:
        page = visit(node.url)
        page.wait_for_selector("#node:has-text('SQLite')")
        assert page.is_hidden("#controls")
        page.click("text=Refresh all")
        until(lambda: value(page, "eventual") == 0, "a read")
        page.click("#tab-thread")
        assert play(page, "causal") == 0
        page.close()  # before its node is gone


@needs_haproxy
def test_the_page_works_through_a_balancer(tmp_path: Path, visit: Visit) -> None:
    flags = ("--store", f"sqlite:///{tmp_path / 'shared.db'}", "--replicas", "2")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with (
        nodes.running(tmp_path / "one", *flags) as one,
        nodes.running(tmp_path / "two", *flags) as two,
        balanced(tmp_path / "haproxy", [one.url, two.url]) as balancer,
    ):
        page = visit(balancer.url)
        watch(page, "like", 42)
        page.click("text=Automatic")
        page.click("#like")
        page.wait_for_selector("#like[aria-pressed=true]")
        levels = ("read_your_writes", "causal", "linearizable")
        before = [tally(page, level, "reads") for level in levels]
        for level, reads in zip(levels, before, strict=True):
            until(lambda: tally(page, level, "reads") >= reads + 6, "reads by both nodes")  # noqa: B023
            assert value(page, level) == 1
            assert tally(page, level, "missed own") == 0
        page.close()
