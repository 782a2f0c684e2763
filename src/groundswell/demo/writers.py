"""Drives the spike into a node: the trace, the discussions and the parcel, through the public API."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, TypeVar

import msgspec

from groundswell.demo.trace import Action, Message
from groundswell.demo.truth import Truth
from groundswell.errors import Unavailable
from groundswell.model import Add, Put, Remove, Tally, Write
from groundswell.session import Groundswell, Session
from groundswell.store import Changed, Outcome

TICK_S: Final = 0.025  # how long writes are collected before they are sent
BATCH_MAX: Final = 1_000
CONNECTIONS: Final = 4
REPEATED_SHARE: Final = 0.2  # of the writes, sent again as after a lost answer
REPEAT_TICKS: Final = 8  # how much later, at most
RETRY_S: Final = 0.2
PARCEL: Final = "parcel-1"
PARCEL_S: Final = 0.05  # between two changes of its status

Advance = Callable[[int], None]
T = TypeVar("T")


def object_id(message: int) -> str:
    """The object that holds a message."""
    return f"message-{message}"


async def spike(
    gs: Groundswell,
    actions: Sequence[Action],
    truth: Truth,
    *,
    seconds: float,
    seed: int,
    advance: Advance,
) -> None:
    """Send all actions within `seconds`, at the trace's own rhythm, a fifth of them twice.

    Goes on after errors of the node with the same writes: all of them arrive. Takes longer than
    `seconds` where the node does.
    """
    queue: asyncio.Queue[list[Action] | None] = asyncio.Queue(CONNECTIONS)

    async def send() -> None:
        session = gs.session()
        while (batch := await queue.get()) is not None:
            outcomes = await insist(_sending(session, [_write(action) for action in batch]))
            for action, outcome in zip(batch, outcomes, strict=True):
                if action.op == "add" and isinstance(outcome, Changed) and outcome.changed:
                    truth.acknowledged[action.kind, action.target] += 1
            advance(len(batch))

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(send())
        began_s = time.monotonic()
        for tick, due in enumerate(_ticks(actions, seconds, random.Random(seed))):
            await asyncio.sleep(began_s + tick * TICK_S - time.monotonic())
            for start in range(0, len(due), BATCH_MAX):
                await queue.put(due[start : start + BATCH_MAX])
        for _ in range(CONNECTIONS):
            await queue.put(None)


def _ticks(actions: Sequence[Action], seconds: float, rng: random.Random) -> Iterator[list[Action]]:
    """What is to be sent in each tick: the actions due, and earlier ones once more."""
    first_s = actions[0].t
    scale = seconds / max(actions[-1].t - first_s, 1.0)
    again: dict[int, list[Action]] = {}
    tick, due = 0, list[Action]()
    for action in actions:
        while (action.t - first_s) * scale >= (tick + 1) * TICK_S:
            yield due + again.pop(tick, [])
            tick, due = tick + 1, []
        due.append(action)
        if rng.random() < REPEATED_SHARE:
            again.setdefault(tick + 1 + rng.randrange(REPEAT_TICKS), []).append(action)
    yield due + [action for tick in sorted(again) for action in again[tick]]


def repeats(actions: Sequence[Action], seed: int) -> int:
    """How many of the actions `spike` sends twice."""
    rng = random.Random(seed)
    count = 0
    for _ in actions:
        if rng.random() < REPEATED_SHARE:
            rng.randrange(REPEAT_TICKS)
            count += 1
    return count


def _write(action: Action) -> Write:
    match action.op:
        case "add":
            return Add(action.kind, action.target, action.source)
        case "remove":
            return Remove(action.kind, action.target, action.source)
        case _:
            # Without an identity a tally that is sent twice would count twice.
            return Tally(action.kind, action.target, 1, f"{action.source}@{action.t}")


async def threads(
    gs: Groundswell,
    messages: Sequence[Message],
    truth: Truth,
    *,
    seconds: float,
    advance: Advance,
) -> None:
    """One session writes all messages, in order, at an even pace: objects, and `reply` edges."""
    session = gs.session()
    began_s = time.monotonic()
    done = 0
    while done < len(messages):
        await asyncio.sleep(TICK_S)
        passed = (time.monotonic() - began_s) / seconds
        due = messages[done : max(int(len(messages) * passed), done + 1)][: BATCH_MAX // 2]
        done += len(due)
        truth.replies += [message for message in due if message.parent]
        writes = [write for message in due for write in _message(message)]
        await insist(_sending(session, writes))
        truth.replies_acknowledged = len(truth.replies)
        advance(len(due))


def _message(message: Message) -> Iterator[Write]:
    data = {"parent": message.parent, "discussion": message.discussion}
    yield Put(object_id(message.id), "message", msgspec.Raw(msgspec.json.encode(data)))
    if message.parent:
        yield Add("reply", message.parent, message.id)


async def parcel(gs: Groundswell, truth: Truth) -> None:
    """A parcel on its way: its status changes until the task is cancelled."""
    session = gs.session()
    while True:
        data = msgspec.Raw(msgspec.json.encode({"stop": truth.parcel + 1}))
        outcomes = await insist(_sending(session, [Put(PARCEL, "parcel", data)]))
        truth.parcel = getattr(outcomes[0], "version", truth.parcel)
        await asyncio.sleep(PARCEL_S)


def _sending(session: Session, writes: list[Write]) -> Callable[[], Awaitable[list[Outcome]]]:
    return lambda: session.write(writes)


async def insist(call: Callable[[], Awaitable[T]]) -> T:
    """Call again until the node answers: the same writes, so that nothing counts twice."""
    while True:
        try:
            return await call()
        except Unavailable:
            await asyncio.sleep(RETRY_S)
