"""The files of the live page, and the pulse it lives on, over HTTP."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import re
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import nodes
from groundswell import sse
from groundswell.server import page

FILES = Path(__file__).parents[2] / "src" / "groundswell" / "page"

# What npm serves as uplot 1.6.31: the wheel carries it unchanged.
UPLOT = {
    "/page/uplot.js": "2d27e8ad3d228164525ce213f9dc716f39b4e3aee0cc773fb3491c96cf4921a2",
    "/page/uplot.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}


def served() -> list[str]:
    return [path.decode() for path in page.files()]


def test_every_file_of_the_page_is_served() -> None:
    ours = {f"/page/{file.name}" for file in FILES.iterdir()} - {"/page/index.html"}
    assert set(served()) == ours | set(UPLOT) | {"/"}


@pytest.mark.parametrize("path", served())
def test_a_file_has_its_type_its_tag_and_a_strict_policy(node: nodes.Node, path: str) -> None:
    answer = node.request("GET", path)
    assert answer.status == 200
    kinds = {"": "html", ".html": "html", ".js": "javascript", ".css": "css", ".svg": "svg+xml"}
    assert kinds[Path(path).suffix] in answer.headers["content-type"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = dict(
        part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; ")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    etag = answer.headers["etag"]
    again = node.request("GET", path, headers={"If-None-Match": f'"other", {etag}'})
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", etag)
    assert node.request("GET", path, headers={"If-None-Match": '"other"'}).status == 200
    head = node.request("HEAD", path)
    assert (head.status, head.body, head.headers["etag"]) == (200, b"", etag)
    assert node.request("POST", path).status == 405


@pytest.mark.parametrize("path", UPLOT)
def test_the_chart_library_is_what_its_authors_published(node: nodes.Node, path: str) -> None:
    assert hashlib.sha256(node.request("GET", path).body).hexdigest() == UPLOT[path]


def test_nothing_comes_from_elsewhere_and_nothing_is_inline() -> None:
    for file in FILES.iterdir():
        text = file.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"(https?:)?//[a-z0-9-]+\.[a-z]", text), file.name
        made_of_text = (
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
        )
        assert not re.search(made_of_text, text), file.name
    html = (FILES / "index.html").read_text("utf-8")
    assert not re.search(r"<style|style=|\son\w+=|<script>|javascript:", html)
    assert len(re.findall(r"<script ", html)) == len(re.findall(r"<script src=", html))


def test_without_the_chart_library_the_answer_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(page, "_CARRIER", "no_such_package")
    assert page.files() == {}
    # A module of that name in front of all others, without the files.
    (tmp_path / "youplot").mkdir()
    (tmp_path / "youplot" / "__init__.py").touch()
    (tmp_path / "node").mkdir()
    with nodes.running(tmp_path / "node", environment={"PYTHONPATH": str(tmp_path)}) as node:
        told = nodes.problem(node.request("GET", "/"), 404, "not-found")
        assert "pip install 'groundswell[page]'" in told["detail"]
        assert node.request("GET", "/page/main.js").status == 404
        assert node.request("GET", "/docs").status == 200


# --- pulse ----------------------------------------------------------------------------------------


def beats(node: nodes.Node, query: str) -> Generator[dict[str, Any], None, None]:
    """The beats of an open pulse, as they come, for a while."""
    connection = http.client.HTTPConnection(node.host, node.port, timeout=10)
    try:
        connection.request("GET", f"/v1/pulse{query}")
        response = connection.getresponse()
        assert response.status == 200, response.read()
        assert response.getheader("content-type") == "text/event-stream"
        parser = sse.Parser()
        until_s = time.monotonic() + nodes.START_S
        while time.monotonic() < until_s:
            for message in parser.feed(response.read1(65536)):
                assert (message.id, message.event) == ("", "pulse")
                yield msgspec.json.decode(message.data)
    finally:
        connection.close()


def test_the_pulse_tells_a_count_and_what_the_node_does(node: nodes.Node, target: int) -> None:
    for source in range(3):
        node.request("PUT", f"/v1/edges/like/{target}/{source}")
    with contextlib.closing(beats(node, f"?key=like:{target}")) as told:
        for number, last in enumerate(told, 1):
            [replica] = last["replicas"]
            if number >= 12 and (replica["count"], last["backlog"]) == (3, 0):
                break
    assert (replica["count"], replica["following"], replica["delay_ms"]) == (3, True, 0)
    assert replica["age_ms"] < 5_000
    assert last["writes"] >= 3
    assert (last["rollup"], last["backlog"]) == (
        node.request("GET", "/v1/status").json["rollup"],
        0,
    )


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("?key=nope:1", 404, "unknown-kind"),
        ("", 400, "bad-request"),
        ("?key=like", 400, "bad-request"),
        ("?key=like:x", 400, "bad-request"),
        ("?key=like:1&key=like:2", 400, "bad-request"),
        ("?kind=like", 400, "bad-request"),
    ],
)
def test_a_pulse_of_nothing_is_refused(
    node: nodes.Node, query: str, status: int, code: str
) -> None:
    nodes.problem(node.request("GET", f"/v1/pulse{query}"), status, code)


def test_an_open_pulse_does_not_keep_a_node_from_stopping(tmp_path: Path) -> None:
    with nodes.running(tmp_path) as node:
        connection = http.client.HTTPConnection(node.host, node.port, timeout=10)
        connection.request("GET", "/v1/pulse?key=like:1")
        response = connection.getresponse()
        assert response.read1(100)
        assert node.terminate() == 0
        connection.close()
