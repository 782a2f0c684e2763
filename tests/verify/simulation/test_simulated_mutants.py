"""Every planted bug is caught, by whoever must see it."""

from __future__ import annotations

import pytest

from groundswell.verify.simulation.catch import SEEDS, catch
from groundswell.verify.simulation.mutants import MUTANTS
from groundswell.verify.simulation.run import simulate


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_is_caught(name: str) -> None:
    planted = MUTANTS[name]
    caught = catch(planted)
    assert caught, f"{planted.what} Nobody saw it in {SEEDS} runs."


def test_there_are_many_of_them() -> None:
    assert len(MUTANTS) >= 40


def test_nothing_stays_planted() -> None:
    for planted in MUTANTS.values():
        with planted.patch():
            pass
    assert not simulate(1).findings()
