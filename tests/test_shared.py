from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from groundswell.shared import ABREAST, PATIENCE_S, Shared

pytestmark = pytest.mark.anyio

Asked = tuple[int, ...]


async def test_calls_that_arrive_meanwhile_share_work_of_a_bounded_size() -> None:
    groups: list[list[Asked]] = []

    async def work(group: Sequence[Asked]) -> Callable[[Asked], int]:
        groups.append(list(group))
        await asyncio.sleep(0)
        return sum

    shared = Shared[Asked, int](work, len, 4)
    asked: list[Asked] = [(1,), (1, 2), (3, 4), (5, 6), (1, 2, 3, 4, 5), (7,)]
    assert await asyncio.gather(*map(shared, asked)) == [1, 3, 7, 11, 15, 7]
    assert groups == [[(1,), (1, 2)], [(3, 4), (5, 6)], [(1, 2, 3, 4, 5)], [(7,)]]


async def test_an_answer_that_cannot_be_given_leaves_the_others_theirs() -> None:
    async def work(group: Sequence[Asked]) -> Callable[[Asked], int]:
        return max

    shared = Shared[Asked, int](work, len, 4)
    found = await asyncio.gather(*map(shared, [(1,), (), (3,)]), return_exceptions=True)
    assert [found[0], found[2]] == [1, 3]
    assert isinstance(found[1], ValueError)


async def test_an_error_of_the_work_is_everybodys() -> None:
    async def work(group: Sequence[Asked]) -> Callable[[Asked], int]:
        raise OSError("gone")

    shared = Shared[Asked, int](work, len, 4)
    found = await asyncio.gather(*map(shared, [(1,), (2,)]), return_exceptions=True)
    assert all(isinstance(error, OSError) for error in found)


async def test_where_work_takes_its_time_some_of_it_goes_on_side_by_side() -> None:
    groups: list[list[Asked]] = []
    go = asyncio.Event()

    async def work(group: Sequence[Asked]) -> Callable[[Asked], int]:
        groups.append(list(group))
        await go.wait()
        return sum

    shared = Shared[Asked, int](work, len, 4)
    calls = []
    async with asyncio.timeout(60):
        for n in range(1, ABREAST + 1):
            calls += [asyncio.create_task(shared((n,))), asyncio.create_task(shared((n, n)))]
            while len(groups) < n:  # noqa: ASYNC110
                await asyncio.sleep(PATIENCE_S / 10)
        calls += [asyncio.create_task(shared((9,))), asyncio.create_task(shared((10,)))]
        await asyncio.sleep(5 * PATIENCE_S)
        assert groups == [[(n,), (n, n)] for n in range(1, ABREAST + 1)]
        go.set()
        expected = [size * n for n in range(1, ABREAST + 1) for size in (1, 2)]
        assert await asyncio.gather(*calls) == [*expected, 9, 10]
    assert groups[ABREAST:] == [[(9,), (10,)]]


async def test_whoever_goes_away_leaves_the_others_theirs() -> None:
    async def work(group: Sequence[Asked]) -> Callable[[Asked], int]:
        await asyncio.sleep(0)
        return sum

    shared = Shared[Asked, int](work, len, 4)
    calls = [asyncio.create_task(shared((n,))) for n in range(9)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    assert await asyncio.gather(*calls[1::2]) == [1, 3, 5, 7]
