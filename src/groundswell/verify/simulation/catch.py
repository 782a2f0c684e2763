"""Whether planted bugs are caught, and how soon.

python -m groundswell.verify.simulation.catch [name ..]
"""

from __future__ import annotations

import sys
from typing import Final, NamedTuple

from groundswell.verify.simulation import replica_mutants, store_mutants, token_mutants
from groundswell.verify.simulation.mutants import MUTANTS, Mutant
from groundswell.verify.simulation.run import simulate

SEEDS: Final = 400
PLANTED: Final = (token_mutants, replica_mutants, store_mutants)  # where all of them are


class Caught(NamedTuple):
    """How a mutant was caught."""

    seed: int
    runs: int
    operations: int  # in all those runs
    findings: list[str]  # as "level: checker"


def catch(planted: Mutant, *, first: int = 1, seeds: int = SEEDS) -> Caught | None:
    """Run it from one seed after the other until whoever must see it does; None: nobody did."""
    operations = 0
    for runs, seed in enumerate(range(first, first + seeds), 1):
        with planted.patch():
            outcome = simulate(seed)
        operations += len(outcome.ops)
        found = [f"{one.level}: {one.name}" for one in outcome.findings()]
        if any(part in one for part in planted.caught_by for one in found):
            return Caught(seed, runs, operations, found)
    return None


def main(names: list[str]) -> int:
    """A line for each mutant: who caught it, after how many operations."""
    missed = 0
    for name in names or MUTANTS:
        caught = catch(MUTANTS[name])
        missed += caught is None
        told = "NOT CAUGHT" if caught is None else f"{caught.operations:>6} {caught.findings[0]}"
        print(f"{name:<52} {told}")  # noqa: T201
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
