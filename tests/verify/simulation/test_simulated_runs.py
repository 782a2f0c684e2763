"""Many runs of the protocol parts, each from its seed; none may show a contradiction.

GROUNDSWELL_SIMULATION_SEED is where the seeds begin, GROUNDSWELL_SIMULATION_RUNS how many there are.
"""

from __future__ import annotations

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from groundswell.verify.history import dump
from groundswell.verify.simulation.run import simulate

FIRST = int(os.environ.get("GROUNDSWELL_SIMULATION_SEED", "1"))
RUNS = int(os.environ.get("GROUNDSWELL_SIMULATION_RUNS", "1000"))
AT_ONCE = 50


@pytest.mark.parametrize("first", range(FIRST, FIRST + RUNS, AT_ONCE))
def test_no_run_shows_a_contradiction(first: int) -> None:
    for seed in range(first, min(first + AT_ONCE, FIRST + RUNS)):
        found = simulate(seed).findings()
        assert not found, f"python -m groundswell.verify.simulation.run {seed}"


def digest(seed: int) -> str:
    return sha256(b"".join(dump(simulate(seed).ops))).hexdigest()


def test_the_same_seed_gives_the_same_history() -> None:
    for seed in range(10):
        assert digest(seed) == digest(seed), seed


def test_another_process_gives_the_same_history() -> None:
    """Other addresses, and another order of sets of strings."""
    told = "import test_simulated_runs as t; print([t.digest(s) for s in range(6)])"
    found = {
        subprocess.run(
            [sys.executable, "-c", told],
            env={**os.environ, "PYTHONHASHSEED": hashed, "PYTHONPATH": str(Path(__file__).parent)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hashed in ("1", "2")
    }
    assert len(found) == 1
    assert found == {f"{[digest(seed) for seed in range(6)]}\n"}
