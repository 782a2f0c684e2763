"""Faults are drawn from the seed, never two in one place, and healed whatever happens."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

import pytest

from groundswell.verify import nemesis
from groundswell.verify.nemesis import Fault, Nemesis

pytestmark = pytest.mark.anyio


class Places:
    """Four places with two faults each, of which one is alone; and what is wrong there."""

    def __init__(self) -> None:
        self.wrong: Counter[str] = Counter()
        self.worst: list[dict[str, int]] = []
        self.faults = [
            Fault(name, place, self._change(place, 1), self._change(place, -1), name == "alone")
            for place in "abcd"
            for name in ("alone", "shared")
        ]

    def _change(self, place: str, by: int) -> nemesis.Act:
        async def change() -> None:
            await asyncio.sleep(0)
            self.wrong[place] += by
            self.worst.append(dict(+self.wrong))

        return change


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nemesis, "HELD_S", (0.0, 0.002))
    monkeypatch.setattr(nemesis, "BETWEEN_S", (0.0, 0.001))
    monkeypatch.setattr(nemesis, "STEP_S", 0.001)


async def injected(seed: int, times: int) -> tuple[Places, Nemesis]:
    places = Places()
    made = Nemesis(places.faults, Random(seed))
    await made.run(lambda: len(made.injected) >= times)
    return places, made


@pytest.mark.usefixtures("quick")
async def test_everything_is_healed_and_no_place_is_hit_twice_at_once() -> None:
    places, made = await injected(1, 200)
    assert not +places.wrong
    assert max(max(wrong.values(), default=0) for wrong in places.worst) == 1
    assert max(len(wrong) for wrong in places.worst) == 2
    assert {(one.name, one.place) for one in made.injected} == {
        (fault.name, fault.place) for fault in places.faults
    }


@pytest.mark.usefixtures("quick")
async def test_what_is_alone_goes_together_with_nothing() -> None:
    places = Places()
    places.faults = [fault for fault in places.faults if fault.alone]
    made = Nemesis(places.faults, Random(2))
    await made.run(lambda: len(made.injected) >= 100)
    assert max(len(wrong) for wrong in places.worst) == 1


async def test_every_fault_comes_once_before_any_comes_again() -> None:
    places = Places()
    made = Nemesis(places.faults, Random(4))
    drawn = [made._draw()[0] for _ in range(3 * len(places.faults))]
    for first in range(0, len(drawn), len(places.faults)):
        assert set(drawn[first : first + len(places.faults)]) == set(places.faults)


@pytest.mark.usefixtures("quick")
async def test_the_same_seed_draws_the_same_faults() -> None:
    one, other = [Nemesis(Places().faults, Random(7)) for _ in range(2)]
    same = [[(fault.name, fault.place) for fault in made._draw()] for made in (one, other)]
    assert same[0] == same[1]


@pytest.mark.usefixtures("quick")
async def test_a_fault_is_healed_though_the_verification_is_cancelled() -> None:
    places = Places()
    made = Nemesis(places.faults, Random(3))
    task = asyncio.create_task(made.run(lambda: False))
    for _ in range(1000):
        await asyncio.sleep(0.0001)
        if +places.wrong:
            break
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not +places.wrong
