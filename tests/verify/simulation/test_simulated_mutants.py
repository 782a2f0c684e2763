"""Every planted bug is caught, by whoever must see it."""

from __future__ import annotations

import pytest

from groundswell.verify.simulation.catch import SEEDS, catch
from groundswell.verify.simulation.mutants import MUTANTS
from groundswell.verify.simulation.run import simulate

# Where those show that need luck; a change of the workload moves them, and then they are looked for.
KNOWN = {
    "a_list_is_kept_while_its_key_waits": 136,
    "a_rollup_claims_what_is_running": 49,
    "a_slow_fill_overwrites_what_is_newer": 59,
    "a_viewer_outlives_the_list": 346,
    "an_object_is_newer_than_the_replica": 146,
    "an_object_unseen_is_none": 88,
    "running_transactions_count_as_seen": 57,
    "writes_of_one_transaction_are_one": 52,
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_is_caught(name: str) -> None:
    planted = MUTANTS[name]
    caught = catch(planted, first=KNOWN.get(name, 1), seeds=40) or catch(planted)
    assert caught, f"{planted.what} Nobody saw it in {SEEDS} runs."


def test_there_are_many_of_them() -> None:
    assert len(MUTANTS) >= 40


def test_nothing_stays_planted() -> None:
    for planted in MUTANTS.values():
        with planted.patch():
            pass
    assert not simulate(1).findings()
