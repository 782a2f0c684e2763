"""Large commits that run side by side, and what keeps its order all the same."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from committing import Rig, at_work, likes, settle
from groundswell.committer import LARGE
from groundswell.model import Add, Delete, Open, Put, Remove, Tally, Transfer, Write
from groundswell.store import Batch, Changed

pytestmark = pytest.mark.anyio


def large(first: int, *more: Write) -> Batch:
    """Likes of a thousand sources, and more."""
    return Batch((*likes(*range(first, first + LARGE)).writes, *more))


async def begun(rig: Rig, *batches: Batch) -> list[list[Batch]]:
    """What the store has begun, when these came one after the other and none is done."""
    for batch in batches:
        await rig.submit(batch)
    return rig.store.begun


async def test_a_second_large_group_begins_beside_the_first_and_a_third_waits() -> None:
    one, two, three = large(0), large(10_000), large(20_000)
    async with at_work(group_max=1, queue_max=100_000, commits_max=2) as rig:
        assert await begun(rig, one, two, three) == [[one], [two]]
        rig.store.let_go()
        await settle()
        assert rig.store.begun == [[one], [two], [three]]


async def test_a_store_with_one_writer_is_given_one_at_a_time() -> None:
    one, two = large(0), large(10_000)
    async with at_work(group_max=1, queue_max=100_000, commits_max=1) as rig:
        assert await begun(rig, one, two) == [[one]]


async def test_small_groups_are_put_together_and_not_side_by_side() -> None:
    async with at_work(commits_max=2) as rig:
        assert await begun(rig, likes(1), likes(2), likes(3)) == [[likes(1)]]


async def test_a_single_like_does_not_wait_for_a_large_group() -> None:
    async with at_work(queue_max=100_000, commits_max=2) as rig:
        await rig.submit(large(0))
        like = await rig.submit(likes(-1))
        assert rig.store.begun == [[large(0)]], "nobody has come since it began"
        await rig.submit(large(10_000))
        assert rig.store.begun[1:] == [[likes(-1)]]
        rig.store.let_go(2)
        assert (await like).outcomes == (Changed(True),)


_DATA = msgspec.Raw(b"{}")
_MONEY = Transfer("t", "a", "b", 1)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(Add("like", 1, -1), Remove("like", 1, -1), id="edge"),
        pytest.param(Add("seat", "s", 1), Add("seat", "s", 2), id="claims of one seat"),
        pytest.param(Tally("view", 1, 1, "x"), Tally("view", 1, 1, "x"), id="tally with an id"),
        pytest.param(Put("o", "t", _DATA), Delete("o"), id="object"),
        pytest.param(_MONEY, Open("c", None, None), id="money"),
    ],
)
async def test_what_is_written_to_the_same_thing_stays_in_order(
    first: Write, second: Write
) -> None:
    one, two, three = large(0, first), large(10_000, second), large(20_000)
    async with at_work(group_max=1, queue_max=100_000, commits_max=2) as rig:
        assert await begun(rig, one, two, three) == [[one]], "and nobody overtakes"
        rig.store.let_go()
        await settle()
        assert rig.store.begun == [[one], [two], [three]]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(Add("like", 1, -1), Remove("like", 2, -1), id="edges"),
        pytest.param(Add("seat", "s", 1), Add("seat", "t", 1), id="seats"),
        pytest.param(Tally("view", 1), Tally("view", 1), id="tallies"),
        pytest.param(Put("o", "t", _DATA), Put("p", "t", _DATA), id="objects"),
        pytest.param(_MONEY, Put("a", "t", _DATA), id="money and an object"),
    ],
)
async def test_what_is_written_to_other_things_runs_beside(first: Write, second: Write) -> None:
    one, two = large(0, first), large(10_000, second)
    async with at_work(group_max=1, queue_max=100_000, commits_max=2) as rig:
        assert await begun(rig, one, two) == [[one], [two]]


async def test_closing_finishes_what_runs_side_by_side_and_what_waits() -> None:
    async with at_work(group_max=1, queue_max=100_000, commits_max=2) as rig:
        callers = [await rig.submit(large(start)) for start in (0, 10_000, 20_000, 0)]
        rig.committer.close()
        rig.store.let_go(4)
        done = await asyncio.gather(*callers)
        assert [committed.outcomes[0] for committed in done] == [
            Changed(True),
            Changed(True),
            Changed(True),
            Changed(False),
        ]
