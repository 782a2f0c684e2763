"""The documentation is true: what it shows runs, what it lists exists, where it points is something."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import typer
from prometheus_client.metrics import MetricWrapperBase

import nodes
from groundswell import errors
from groundswell.cli.main import app as command_line
from groundswell.cli.main import load
from groundswell.config import PREFIX, ApiKey, Settings
from groundswell.demo.run import Row, TraceCheck
from groundswell.kinds import BUILT_IN, Kind
from groundswell.model import Level
from groundswell.server.problems import status_of
from groundswell.server.routes import ENDPOINTS
from groundswell.telemetry import Telemetry

ROOT = Path(__file__).parent.parent
START = ROOT / "docs" / "start.md"
REFERENCE = ROOT / "docs" / "reference.md"

DOCUMENTED_URL = "127.0.0.1:8080"
RUN_S = 90.0


# --- blocks that run ------------------------------------------------------------------------------


class Block(NamedTuple):
    line: int
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [
        Block(text.count("\n", 0, found.start()) + 1, found[1], found[2])
        for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]


class Step(NamedTuple):
    """A piece of shell, and what it has to print; None: whatever it likes."""

    line: int
    shell: str
    prints: str | None


def steps(page: Path) -> Iterator[Step]:
    """All that a page lets its reader do, as shell."""
    found = blocks(page)
    for block, following in zip(found, [*found[1:], None], strict=True):
        if block.language == "console":
            yield from commands(block)
        elif block.language == "sh" and block.text == "groundswell serve\n":
            yield Step(block.line, "serve", None)
        elif block.language == "sh":
            yield Step(block.line, block.text, None)
        elif block.language == "python":
            prints = following.text if following and following.language == "text" else ""
            yield Step(block.line, f"python - <<'PYTHON'\n{block.text}PYTHON\n", prints)


def commands(block: Block) -> Iterator[Step]:
    """The commands of a `console` block, each with the lines that it prints."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, prints = part.partition("\n")
        yield Step(block.line, command, prints)


def pattern(prints: str) -> str:
    """What a documented output matches: `...` is anything within a line."""
    return re.escape(prints.strip()).replace(re.escape("..."), ".*")


PROLOGUE = """
set -eu -o pipefail
node=
stop() {
    if [ -n "$node" ]; then kill "$node"; wait "$node"; node=; fi
}
trap 'if [ -n "$node" ]; then kill -9 "$node"; fi' EXIT
serve() {
    stop
    groundswell serve > node.log 2>&1 &
    node=$!
    for _ in $(seq 300); do
        if curl -fs "http://$ADDRESS/readyz" > ready.json; then return; fi
        sleep 0.1
    done
    cat node.log
    return 1
}
"""

# Ends what the reader is told to type, so that every command of a page talks to this page's node.
SHIM = f"""#!/bin/sh
case "$1" in
    add|count|remove|status|replay) exec {sys.executable} -m groundswell "$@" --url "http://$ADDRESS";;
    *) exec {sys.executable} -m groundswell "$@";;
esac
"""


def run(page: Path, folder: Path, port: int, skipped: Sequence[str] = ()) -> str:
    """Do all that a page says, in one shell and in order; what its last node said."""
    todo = [step for step in steps(page) if step.shell not in skipped]
    programs = folder / "bin"
    programs.mkdir()
    for name, text in (
        ("groundswell", SHIM),
        ("python", f'#!/bin/sh\nexec {sys.executable} "$@"\n'),
    ):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (folder / "examples").symlink_to(ROOT / "examples")
    script = PROLOGUE + "".join(f"\nprintf '\\n@@%d\\n' {n}\n{s.shell}" for n, s in enumerate(todo))
    script = script.replace(DOCUMENTED_URL, f"127.0.0.1:{port}") + "\nstop\ncat node.log\n"
    with subprocess.Popen(
        ["bash", "-c", script],
        cwd=folder,
        env=nodes.clean_environment()
        | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "GROUNDSWELL_PORT": str(port),
            "ADDRESS": f"127.0.0.1:{port}",
            "COLUMNS": "500",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            out, err = shell.communicate(timeout=RUN_S)
        except BaseException:
            os.killpg(shell.pid, signal.SIGKILL)
            raise
    printed = re.split(r"^@@\d+$", out, flags=re.MULTILINE)[1:]
    where = f"{page.name}, the block of line {todo[len(printed) - 1].line}"
    assert shell.returncode == 0, f"{where}: {printed[-1:]} {err}"
    for step, seen in zip(todo, printed, strict=True):
        if step.prints is not None and step is not todo[-1]:
            told = f"{page.name}, the block of line {step.line}: {step.shell}\n{seen}\n{err}"
            assert re.fullmatch(pattern(step.prints), seen.strip()), told
    return printed[-1]


@pytest.fixture
def port() -> int:
    from groundswell.server.run import free_port

    return free_port("127.0.0.1", 0)


@pytest.fixture
def curl() -> None:
    for program in ("bash", "curl"):
        if shutil.which(program) is None:
            pytest.skip(f"the pages are run with {program}, which is not installed")


INSTALL = "python3 -m venv .venv\n. .venv/bin/activate\npip install '.[demo]'\n"


@pytest.mark.usefixtures("curl")
def test_start_does_what_it_says(tmp_path: Path, port: int) -> None:
    said = run(START, tmp_path, port, skipped=[INSTALL])
    told = [block.text for block in blocks(START) if block.language == "text"]
    said = said.replace(str(port), "8080")
    assert all(one in said for one in told if one.startswith(("Groundswell listens", "Stopped")))


@pytest.mark.usefixtures("curl")
def test_the_examples_of_the_reference_are_real(tmp_path: Path, port: int) -> None:
    run(REFERENCE, tmp_path, port)


def test_every_example_is_shown_and_run() -> None:
    texts = (
        START.read_text() + (ROOT / "docs" / "deploy.md").read_text()
    )  # test_deploy.py runs its own
    shown = set(re.findall(r"^\$ python (?:\.\./)?(examples/\w+\.py)", texts, re.MULTILINE))
    assert shown == {f"examples/{path.name}" for path in (ROOT / "examples").glob("*.py")}


# --- what the reference lists ---------------------------------------------------------------------


@cache
def section(title: str) -> str:
    """The part of the reference under a heading, up to the next of the same or a higher level."""
    text = REFERENCE.read_text("utf-8")
    found = re.search(rf"^(#+) {re.escape(title)}\n", text, re.MULTILINE)
    assert found, f"{title!r} is no heading"
    end = re.search(rf"^#{{1,{len(found[1])}}} ", text[found.end() :], re.MULTILINE)
    return text[found.end() :][: end.start() if end else None]


def table(title: str) -> list[list[str]]:
    """The rows of the first table in a section, without marks of code."""
    lines = section(title).splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().replace("`", "") for cell in line.strip("|").split("|")])
    return rows


def commands_of_the_line() -> dict[str, Any]:
    load([])
    group = typer.main.get_command(command_line)
    return dict(group.commands)  # type: ignore[attr-defined]


def options(command: Any) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts if name[:2] == "--"}


def shown(value: Any) -> str:
    """A default as the tables write it."""
    if value in (None, (), [], {}):
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    made = field.default_factory
    return made() if made is not msgspec.NODEFAULT else "required"


def test_every_setting_is_listed_with_its_default() -> None:
    flags = options(commands_of_the_line()["serve"])
    expected = []
    for field in msgspec.structs.fields(Settings):
        flag = "--" + field.name.replace("_", "-")
        expected.append(
            [
                field.name,
                PREFIX + field.name.upper(),
                flag if flag in flags else "none",
                shown(default(field)),
            ]
        )
    assert [row[:4] for row in table("Settings")] == expected


@pytest.mark.parametrize(
    ("title", "shape", "left_out"), [("Kinds", Kind, {"name"}), ("Keys", ApiKey, set())]
)
def test_every_part_of_a_setting_is_listed(title: str, shape: type, left_out: set[str]) -> None:
    expected = [
        [field.name, shown(default(field))]
        for field in msgspec.structs.fields(shape)
        if field.name not in left_out
    ]
    assert [row[:2] for row in table(title)] == expected


def test_every_built_in_kind_is_listed() -> None:
    rows = table("Built-in kinds")
    expected = [[kind.name, kind.target, kind.source] for kind in BUILT_IN]
    assert [row[:3] for row in rows] == expected
    for kind, row in zip(BUILT_IN, rows, strict=True):
        assert ("inverse" in row[3]) == kind.inverse
        assert ("unique = false" in row[3]) == (not kind.unique)
        assert ("exclusive" in row[3]) == kind.exclusive
        assert ("value" in row[3]) == (kind.value is not None)
        assert kind.consistency is Level.CAUSAL


def codes() -> dict[str, int]:
    """Every code that there is, with its status."""
    todo, found = [errors.GroundswellError], dict[str, int]()
    while todo:
        error = todo.pop()
        found[error.code] = status_of(error)
        todo += error.__subclasses__()
    for base in (errors.GroundswellError, errors.Conflict, errors.Unavailable):
        del found[base.code]  # never raised themselves
    return found


def test_every_error_code_is_listed_with_its_status() -> None:
    over_http = {row[0]: int(row[1]) for row in table("Error codes")}
    elsewhere = {row[0] for row in table("Errors without a status")}
    assert not over_http.keys() & elsewhere
    expected = codes()
    routing = {"method-not-allowed": 405, "internal": 500}
    assert (
        over_http
        == {code: status for code, status in expected.items() if code not in elsewhere} | routing
    )
    assert elsewhere == {
        "bad-settings",
        "node-unreachable",
        "replica-unavailable",
        "store-unusable",
        "not-applied",
    }


def test_no_other_error_codes_are_named() -> None:
    known = codes().keys() | {"method-not-allowed", "internal", "not-applied"}
    for page in (REFERENCE, START, ROOT / "docs" / "concepts.md"):
        named = set(re.findall(r'"code":"([^"]+)"', page.read_text("utf-8")))
        like_codes = r"`([a-z]+(?:-[a-z]+)*-(?:found|taken|late|conflict|token|large|unavailable))`"
        named |= set(re.findall(like_codes, page.read_text("utf-8")))
        assert named <= known


def test_every_endpoint_is_listed() -> None:
    served = {f"{endpoint.method} {endpoint.path}" for endpoint in ENDPOINTS}
    served |= {"GET /openapi.json", "GET /docs"}
    listed = re.findall(r"^#+ `?((?:GET|PUT|POST|DELETE) [^`\n]+)`?$", section("HTTP API"), re.M)
    assert len(listed) == len(set(listed))
    assert set(listed) == served


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda e: f"{e.method} {e.path}")
def test_an_endpoint_is_described_whole(endpoint: Any) -> None:
    text = section(f"{endpoint.method} {endpoint.path}")
    for shape in (endpoint.body, endpoint.answer):
        for field in msgspec.structs.fields(shape) if shape else ():
            assert field.encode_name in text, f"{field.encode_name} is missing"
    if endpoint.scope is not None:
        assert f"Scope `{endpoint.scope}`." in text
    named = re.search(r"^Errors: (.*?)\.$", text, re.MULTILINE | re.DOTALL)
    listed = set(re.findall(r"`([^`]+)`", named[1])) if named else set()
    assert listed <= set(endpoint.errors)
    # Lists never wait for a replica, and objects have no kind.
    assert set(endpoint.errors) - listed <= {"replica-late", "unknown-kind"}


def test_every_query_parameter_is_listed() -> None:
    expected = {
        field.encode_name
        for endpoint in ENDPOINTS
        if endpoint.query
        for field in msgspec.structs.fields(endpoint.query)
    }
    assert {row[0] for row in table("Query parameters")} == expected


def test_every_metric_is_listed() -> None:
    expected = {}
    for family in vars(Telemetry()).values():
        if isinstance(family, MetricWrapperBase):
            name = family._name + ("_total" if family._type == "counter" else "")
            expected[name] = (family._type, ", ".join(family._labelnames) or "none")
    assert {row[0]: (row[1], row[2]) for row in table("Metrics")} == expected


def test_every_command_is_listed_with_its_options() -> None:
    commands = commands_of_the_line()
    listed = re.findall(r"^### `groundswell (\w+)", section("Command line"), re.MULTILINE)
    assert sorted(listed) == sorted(commands)
    for name, command in commands.items():
        text = re.search(
            rf"^### `groundswell {name}.*?(?=^##|\Z)", section("Command line"), re.M | re.S
        )
        assert text is not None
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text[0]))
        assert named == options(command) - {"--help"}, name


def test_the_demonstrations_json_is_described() -> None:
    text = section("JSON of `demo --json`")
    for shape in (Row, TraceCheck):
        for field in msgspec.structs.fields(shape):
            assert f"`{field.name}`" in text
    listed = set(re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE))
    assert {name.strip("`") for names in listed for name in names.split(", ")} == {
        field.name for shape in (Row, TraceCheck) for field in msgspec.structs.fields(shape)
    }


def test_the_python_interface_is_described() -> None:
    import groundswell

    text = section("Python")
    for name in groundswell.__all__:
        assert name in text, name
    for name in dir(groundswell.Session):
        if not name.startswith("_"):
            assert re.search(rf"`(await )?{name}\(", text), name
    for shape in (groundswell.Count, groundswell.Object, groundswell.EdgePage, groundswell.Edge):
        for field in msgspec.structs.fields(shape):
            assert f"`{field.name}`" in text, f"{shape.__name__}.{field.name}"


# --- where the pages point ------------------------------------------------------------------------


def pages() -> list[Path]:
    ours = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return sorted(ours + list((ROOT / "benchmarks").rglob("*.md")))


def anchors(page: Path) -> set[str]:
    """The headings of a page, as links name them."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        leads_to = page.parent / path if path else page
        assert leads_to.exists(), f"{link} leads nowhere"
        if anchor:
            assert anchor in anchors(leads_to), f"{link}: no such heading"


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_files_that_a_page_names_are_there(page: Path) -> None:
    named = re.findall(
        r"`((?:tests|src|examples|docs|benchmarks)/[\w/.]+)`", page.read_text("utf-8")
    )
    for path in named:
        assert (ROOT / path).exists(), path
