"""The simulated server is calibrated: what a real PostgreSQL tells on a schedule, it can tell as well.

A schedule is played on PostgreSQL once, and on the simulated server with seed after seed until that has
told the same. What the real one does and the simulated one cannot do would be missing from every
simulation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import Random
from typing import Final, NamedTuple

import pytest

from clusters import Cluster, Installation
from groundswell.model import Add, Put, Remove
from groundswell.stores.postgres import direct, server
from groundswell.testing.base import json
from groundswell.verify.simulation.loop import SimulatedLoop, run
from groundswell.verify.simulation.primary import Pace
from pg_nodes import migrated, on_both_queues
from verify.simulation.schedules import FAILED, Op, Outcome, Schedule, Step, Told, draw, play
from verify.simulation.stages import RealStage, SimulatedStage

pytestmark = pytest.mark.anyio

SCHEDULES: Final = 15
SEEDS: Final = 5_000  # that are tried before the simulated server is said to be unable


class Pair(NamedTuple):
    primary: Cluster
    standby: Cluster


def drawn(rng: Random) -> Pace:
    """As different as schedules need it."""
    return Pace(
        flush_s=rng.choice((0.0005, 0.002)),
        visible_s=rng.choice((0.0001, 0.005)),
        slow_s=rng.choice((0.02, 0.2)),
        slow_share=rng.choice((0.0, 0.3)),
        long_visible_share=rng.choice((0.0, 0.3, 0.6)),
    )


def imagined(schedule: Schedule, seed: int, pace: Pace | None = None) -> Outcome:
    """What the simulated server tells."""
    rng = Random(seed)
    loop = SimulatedLoop(Random(rng.getrandbits(64)))

    async def playing() -> Outcome:
        stage = SimulatedStage(rng, pace or drawn(rng), loop)
        await stage.open()
        return await play(schedule, stage)

    return run(playing(), loop)


def seed_of(
    schedule: Schedule, outcome: Outcome, pace: Pace | None = None, *, tries: int = SEEDS
) -> int | None:
    """One with which the simulated server tells the same; None if there is none among so many."""
    return next((s for s in range(tries) if imagined(schedule, s, pace) == outcome), None)


async def seen(pair: Pair, queue: str, schedule: Schedule, rng: Random) -> Outcome:
    """What PostgreSQL tells."""
    stage = RealStage(*pair, await migrated(pair.primary, queue), rng)
    await stage.open()
    try:
        return await play(schedule, stage)
    finally:
        await stage.close()


@pytest.fixture(autouse=True)
def unforced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores wait for standbys as their URL says: else all would wait as soon as one is held up."""
    forced = "ELSE 'on' END"
    assert forced in server._SESSION
    as_said = "ELSE current_setting('synchronous_commit') END"
    monkeypatch.setattr(server, "_SESSION", server._SESSION.replace(forced, as_said))


@pytest.fixture(scope="module")
def pair(installation: Installation) -> Iterator[Pair]:
    """A primary and its standby, which schedules leave as they were."""
    with Cluster(installation, in_memory=True) as primary:
        yield Pair(primary, primary.standby())


@on_both_queues
async def test_the_simulated_server_can_tell_what_postgresql_tells(
    pair: Pair, queue: str, seed: int
) -> None:
    rng = Random(seed)
    seeds = []
    for _ in range(SCHEDULES):
        schedule = draw(rng)
        outcome = await seen(pair, queue, schedule, rng)
        seeds.append(await asyncio.to_thread(seed_of, schedule, outcome))
        assert seeds[-1] is not None, (schedule, outcome)
    assert any(seeds), "the first seed always told the same: nothing was left to chance"


# --- where order matters most, and where it would be seen if the simulated server had another one ---

LIKES: Final = (Op("commit", (Add("like", 1, 2),), "held"), Op("commit", (Add("like", 1, 3),)))
FORK: Final = Schedule(
    (*LIKES, Op("edges"), Op("edges", at="standby")),
    (
        Step("begin", 0),
        Step("pause replay"),
        *(Step(act, op) for op in (1, 2, 3) for act in ("begin", "end")),
        Step("end", 0),
    ),
)
CRASH: Final = Schedule(
    (LIKES[0], Op("edges")), (Step("begin", 0), Step("crash"), Step("begin", 1), Step("end", 1))
)
# An edge is removed that a commit, which adds it though it is there, has locked.
BESIDE: Final = Schedule(
    (
        Op("commit", (Add("like", 1, 1), Put("y", "t", json(n=1))), "held"),
        Op("commit", (Remove("like", 1, 1),)),
        Op("edge"),
    ),
    (Step("begin", 0), Step("begin", 1), Step("begin", 2), Step("end", 2), Step("end", 1)),
)
AT_ONCE: Final = Pace(flush_s=0.001)  # what is durable is visible
NEVER: Final = Pace(flush_s=1e9)  # nothing is durable before it is acknowledged


def sources(told: Told) -> list[int]:
    """Of the edges that a list showed."""
    edges, _ = told
    return sorted(edge[2] for edge in edges)


async def compare(schedule: Schedule, outcome: Outcome, *, without: Pace) -> None:
    """The simulated server can tell that, and one of another order cannot."""

    def both() -> tuple[int | None, int | None]:
        found = seed_of(schedule, outcome)
        return found, seed_of(schedule, outcome, without, tries=200 + 10 * (found or 0))

    found, wrong = await asyncio.to_thread(both)
    assert found is not None
    assert wrong is None


@on_both_queues
async def test_a_long_fork_is_one_of_the_things_that_both_can_tell(pair: Pair, queue: str) -> None:
    outcome = await seen(pair, queue, FORK, Random(1))
    assert (sources(outcome[2]), sources(outcome[3])) == ([1, 3], [1, 2])
    await compare(FORK, outcome, without=AT_ONCE)


@on_both_queues
async def test_a_crash_that_keeps_what_nobody_was_told_is_another(pair: Pair, queue: str) -> None:
    outcome = await seen(pair, queue, CRASH, Random(1))
    assert outcome[0] == FAILED
    assert sources(outcome[1]) == [1, 2]
    await compare(CRASH, outcome, without=NEVER)


@on_both_queues
async def test_a_write_that_has_waited_knows_what_it_saw_before(
    monkeypatch: pytest.MonkeyPatch, pair: Pair, queue: str
) -> None:
    for attempt in range(20):  # on a busy machine the removal may come too late to wait
        outcome = await seen(pair, queue, BESIDE, Random(attempt))
        removed = outcome[1]
        if removed[-1] == ("sees", 1):
            break
    assert removed == (((True,),), (("like", 1, -1, 0),), ("sees", 1)), outcome
    assert await asyncio.to_thread(seed_of, BESIDE, outcome) is not None
    # With a plan, which looks once more under all locks, it would have seen the other.
    monkeypatch.setattr(direct.Group, "of", lambda batches, kinds: None)
    assert await asyncio.to_thread(seed_of, BESIDE, outcome, tries=500) is None
