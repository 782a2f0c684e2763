"""docs/scale.md shows what the script prints for the costs that stand there."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from test_docs import blocks

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "scale.md"
COSTS = next(one.text for one in blocks(PAGE) if one.language == "toml")
PLANS = [one.text for one in blocks(PAGE) if one.language == "console"]


@pytest.fixture
def costs(tmp_path: Path) -> Path:
    file = tmp_path / "costs.toml"
    file.write_text(COSTS)
    return file


@pytest.mark.parametrize("shown", PLANS)
def test_a_plan_is_what_the_script_prints(costs: Path, shown: str) -> None:
    asked, _, printed = shown.partition("\n")
    _, program, _, *flags = shlex.split(asked.removeprefix("$ "))
    done = run(ROOT / program, costs, *flags)
    assert done.splitlines() == printed.rstrip().splitlines()


def test_a_plan_grows_with_what_is_asked_for_and_says_where_it_ends(costs: Path) -> None:
    script = ROOT / "benchmarks" / "scale.py"
    small = run(script, costs, "--likes", "1000", "--reads", "1000")
    assert "LIMIT" not in small
    most = 0.5e6 / tomllib.loads(COSTS)["rollup"]["database_us"]  # of changes, with half a core
    beyond = run(script, costs, "--likes", str(1.1 * most), "--reads", "1", "--changes", "1")
    assert f"LIMIT: one rollup at a time  {most:>12,.0f} likes/s" in beyond
    below = run(script, costs, "--likes", str(0.9 * most), "--reads", "1", "--changes", "1")
    assert "one rollup at a time" not in below


def run(script: Path, costs: Path, *flags: str) -> str:
    done = subprocess.run(
        [sys.executable, script, costs, *flags],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
