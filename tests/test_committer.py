from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from committing import at_work, likes, settle
from groundswell.committer import HALVED_MIN
from groundswell.errors import BadRequest, Overloaded, StoreUnavailable
from groundswell.model import Put, Remove
from groundswell.store import Batch, Changed, Committed, Refused

pytestmark = pytest.mark.anyio

_EMPTY = msgspec.Raw(b"{}")


async def test_a_write_is_acknowledged_only_after_its_commit() -> None:
    async with at_work() as rig:
        mine = await rig.submit(likes(1))
        assert not mine.done()
        assert (await rig.store.head()).revision.xmax == 1
        rig.store.let_go()
        committed = await mine
        assert (await rig.store.head()).revision.sees(committed.xid or 0)


async def test_a_lone_write_is_committed_at_once() -> None:
    async with at_work() as rig:
        await rig.submit(likes(1))
        assert rig.store.begun == [[likes(1)]]


async def test_what_arrives_while_a_commit_runs_goes_into_the_next_one_in_order() -> None:
    async with at_work() as rig:
        batches = [likes(source) for source in range(6)]
        callers = [await rig.submit(batch) for batch in batches]
        assert rig.store.begun == [batches[:1]]
        rig.store.let_go()
        await settle()
        assert rig.store.begun == [batches[:1], batches[1:]]
        assert [caller.done() for caller in callers] == [True] + [False] * 5
        rig.store.let_go()
        results = await asyncio.gather(*callers)
        assert [result.xid for result in results] == [1, 2, 2, 2, 2, 2]
        assert [result.slot for result in results] == [0, 0, 1, 2, 3, 4]


async def test_the_store_has_the_next_group_before_the_callers_of_the_last_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with at_work() as rig:
        commit = rig.store.commit
        begun: list[int] = []

        async def in_a_task(batches: Sequence[Batch]) -> list[Committed]:  # as PostgreSQL's does it
            return await asyncio.create_task(commit(batches))

        async def call() -> None:
            await rig.committer.submit(likes(1))
            begun.append(len(rig.store.begun))

        monkeypatch.setattr(rig.store, "commit", in_a_task)
        first = asyncio.create_task(call())
        await settle()
        await rig.submit(likes(2))
        rig.store.let_go()
        await first
        assert begun == [2]


async def test_half_of_all_who_are_about_are_committed_while_the_other_half_is_answered() -> None:
    async with at_work(group_max=1000) as rig:
        waiting = [rig.committer.submit(likes(source)) for source in range(HALVED_MIN * 4 + 1)]
        await settle()
        waiting += [rig.committer.submit(likes(1000 + source)) for source in range(HALVED_MIN * 2)]
        sizes = [len(rig.store.begun[0])]
        for again in range(2, 6):
            rig.store.let_go()
            await settle()
            sizes.append(len(rig.store.begun[-1]))
            for source in range(sizes[-2]):  # whoever was answered is back
                waiting.append(rig.committer.submit(likes(1000 * again + source)))
        everybody = HALVED_MIN * 6 + 1
        assert sizes[0] == HALVED_MIN * 2 + 1, "of those who were there"
        assert all(abs(size - everybody / 2) <= 1 for size in sizes[-2:]), sizes
        rig.store.let_go(100)
        await asyncio.gather(*waiting)


async def test_a_few_are_committed_together() -> None:
    async with at_work() as rig:
        await rig.submit(likes(-1))
        for source in range(HALVED_MIN):
            rig.committer.submit(likes(source))
        rig.store.let_go()
        await settle()
        assert [len(group) for group in rig.store.begun] == [1, HALVED_MIN]


async def test_a_later_write_sees_an_earlier_one_of_its_group() -> None:
    async with at_work() as rig:
        await rig.submit(likes(0))
        add = await rig.submit(likes(1))
        again = await rig.submit(likes(1))
        remove = await rig.submit(Batch((Remove("like", 1, 1),)))
        rig.store.let_go(2)
        outcomes = [(await caller).outcomes for caller in (add, again, remove)]
        assert outcomes == [(Changed(True),), (Changed(False),), (Changed(True),)]


async def test_a_group_holds_at_most_group_max_writes() -> None:
    async with at_work(group_max=5) as rig:
        batches = [likes(0), likes(1, 2), likes(3, 4), likes(5, 6), likes(7)]
        for batch in batches:
            await rig.submit(batch)
        rig.store.let_go(3)
        await settle()
        assert rig.store.begun == [batches[:1], batches[1:3], batches[3:]]


async def test_a_batch_is_never_split() -> None:
    async with at_work(group_max=2) as rig:
        large = likes(*range(7))
        await rig.submit(likes(9))
        caller = await rig.submit(large)
        rig.store.let_go(2)
        assert len((await caller).outcomes) == 7
        assert rig.store.begun[1] == [large]


async def test_a_full_queue_refuses_at_once_and_queues_nothing() -> None:
    async with at_work(queue_max=3) as rig:
        await rig.submit(likes(0))
        waiting = [await rig.submit(likes(1, 2)), await rig.submit(likes(3))]
        refused = await rig.submit(likes(4, 5))
        with pytest.raises(Overloaded, match="3 writes are waiting") as caught:
            refused.result()
        assert caught.value.retry_after_s > 0
        rig.store.let_go(2)
        await asyncio.gather(*waiting)
        assert rig.store.begun[1:] == [[likes(1, 2), likes(3)]]
        assert rig.metric("overloaded_total") == 2


async def test_there_is_room_again_after_a_commit() -> None:
    async with at_work(queue_max=1) as rig:
        await rig.submit(likes(0))
        await rig.submit(likes(1))
        with pytest.raises(Overloaded):
            (await rig.submit(likes(2))).result()
        rig.store.let_go()
        await settle()
        after = await rig.submit(likes(3))
        rig.store.let_go(2)
        assert (await after).outcomes == (Changed(True),)


async def test_a_batch_larger_than_the_queue_is_taken_when_nothing_waits() -> None:
    async with at_work(queue_max=2) as rig:
        rig.store.let_go()
        assert len((await (await rig.submit(likes(*range(9))))).outcomes) == 9


async def test_an_unavailable_store_reaches_every_caller_of_the_group_and_no_other() -> None:
    async with at_work() as rig:
        first = await rig.submit(likes(0))
        group = [await rig.submit(likes(1)), await rig.submit(likes(2))]
        rig.store.let_go()
        await first
        await settle()
        after = await rig.submit(likes(3))
        rig.store.failures = [StoreUnavailable("gone")]
        rig.store.let_go()
        assert all(
            isinstance(error, StoreUnavailable)
            for error in await asyncio.gather(*group, return_exceptions=True)
        )
        rig.store.let_go()
        assert (await after).outcomes == (Changed(True),)
        assert rig.store.begun[1:] == [[likes(1), likes(2)], [likes(3)]], "nothing is repeated"


@pytest.mark.parametrize("error", [RuntimeError("a bug"), BadRequest("a refusal")])
async def test_an_unexpected_error_of_one_batch_does_not_take_the_others_down(
    error: Exception,
) -> None:
    async with at_work() as rig:
        await rig.submit(likes(0))
        rig.store.poison = (likes(2), error)
        callers = [await rig.submit(likes(source)) for source in (1, 2, 3)]
        rig.store.let_go(10)
        one, two, three = await asyncio.gather(*callers, return_exceptions=True)
        assert two is error
        assert isinstance(one, Committed)
        assert isinstance(three, Committed)
        assert (await rig.store.recount("like", 1)).count == 3


async def test_the_committer_goes_on_after_an_unexpected_error() -> None:
    async with at_work() as rig:
        rig.store.failures = [RuntimeError("a bug")]
        rig.store.let_go(2)
        with pytest.raises(RuntimeError, match="a bug"):
            await (await rig.submit(likes(1)))
        assert (await (await rig.submit(likes(2)))).outcomes == (Changed(True),)


async def test_the_batch_of_a_cancelled_caller_is_committed_all_the_same() -> None:
    async with at_work() as rig:
        running = await rig.submit(likes(0))
        waiting = await rig.submit(likes(1))
        other = await rig.submit(likes(2))
        for caller in (running, waiting):
            caller.cancel()
        rig.store.let_go(2)
        assert (await other).outcomes == (Changed(True),)
        assert (await rig.store.recount("like", 1)).count == 3


async def test_cancelled_callers_of_a_failed_group_do_no_harm() -> None:
    async with at_work() as rig:
        waiting = await rig.submit(likes(1))
        waiting.cancel()
        rig.store.failures = [StoreUnavailable("gone")]
        rig.store.let_go(2)
        assert (await (await rig.submit(likes(2)))).outcomes == (Changed(True),)


async def test_closing_finishes_what_was_accepted_and_refuses_what_comes() -> None:
    async with at_work() as rig:
        callers = [await rig.submit(likes(source)) for source in range(3)]
        rig.committer.close()
        with pytest.raises(StoreUnavailable, match="stopping; nothing was changed"):
            await rig.committer.submit(likes(9))
        rig.store.let_go(2)
        assert [(await caller).outcomes for caller in callers] == [(Changed(True),)] * 3
    assert (await rig.store.recount("like", 1)).count == 3


async def test_closing_an_idle_committer_ends_it() -> None:
    async with at_work() as rig:
        await settle()
    assert rig.store.begun == []


async def test_whoever_rolls_up_hears_of_each_commit() -> None:
    async with at_work() as rig:
        rig.store.failures = [StoreUnavailable("gone")]
        rig.store.let_go(2)
        with pytest.raises(StoreUnavailable):
            await (await rig.submit(likes(1)))
        assert rig.notified == 0
        await (await rig.submit(likes(2)))
        assert rig.notified == 1


async def test_outcomes_are_counted() -> None:
    async with at_work() as rig:
        rig.store.let_go()
        put = Put("a", "t", _EMPTY)
        batch = Batch((*likes(1, 2, 2).writes, Put("a", "t", _EMPTY, 3), put, put))
        committed = await (await rig.submit(batch))
        assert isinstance(committed.outcomes[3], Refused)
        for outcome, writes in {"changed": 3, "unchanged": 2, "refused": 1}.items():
            assert rig.metric("writes_total", outcome=outcome) == writes
        assert rig.metric("commit_writes_sum") == 6
