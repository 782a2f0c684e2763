"""Schedules of a few operations at a store, real or simulated, and what each of them was told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from random import Random
from typing import Any, Final, Literal, NamedTuple, Protocol

import msgspec

from groundswell.errors import GroundswellError
from groundswell.kinds import Kind, Kinds
from groundswell.model import Account, Add, Document, Open, Put, Remove, Transfer, Write
from groundswell.revision import Revision
from groundswell.store import Batch, Committed, CountChange, Rollup, Sight, Source, Store, Window
from groundswell.testing.base import ENOUGH, json

KINDS: Final = Kinds((Kind(name="like"),))
TARGETS: Final = (1, 2)
BASE: Final = (
    Add("like", 1, 1),
    Put("x", "t", json(n=0)),
    Open("bank", floor=None),
    Open("till"),
)
FAILED: Final = "unavailable"

Place = Literal["primary", "standby"]
How = Literal["", "held", "slow"]
Act = Literal["begin", "end", "pause replay", "resume replay", "crash"]


class Op(NamedTuple):
    """One call. Of those that write, `held` ones stay durable and invisible until they are finished,
    and `slow` ones stay undecided."""

    verb: str
    writes: tuple[Write, ...] = ()
    how: How = ""
    at: Place = "primary"
    events_max: int = ENOUGH


class Step(NamedTuple):
    """Begin an operation, wait for its end, or do something to a server."""

    act: Act
    op: int = -1


class Schedule(NamedTuple):
    """What is done, in which order."""

    ops: tuple[Op, ...]
    steps: tuple[Step, ...]


class Stage(Protocol):
    """Where a schedule is played: a store that holds `BASE`, rolled up, and a standby that shows it."""

    @property
    def store(self) -> Store:
        """On the primary."""

    @property
    def standby(self) -> Source:
        """On the standby."""

    async def begin(self, op: Op) -> asyncio.Task[Any]:
        """Begin it, and come back once it is on its way, or has ended."""

    async def release(self, op: Op) -> None:
        """Let it go on, if it was held up."""

    async def act(self, what: Act) -> None:
        """Do that to a server."""

    async def caught_up(self) -> None:
        """Wait until the standby shows everything."""


# --- to play one ------------------------------------------------------------------------------------

Told = Any  # what an operation was told, without times and ids of transactions
Outcome = tuple[Told, ...]


async def play(schedule: Schedule, stage: Stage) -> Outcome:
    """What each operation was told, and then what everybody is told when all is quiet."""
    tasks: dict[int, asyncio.Task[Any]] = {}
    ended: set[int] = set()
    for step in (*schedule.steps, *(Step("end", op) for op in range(len(schedule.ops)))):
        if step.act == "begin":
            tasks[step.op] = await stage.begin(schedule.ops[step.op])
        elif step.act != "end":
            await stage.act(step.act)
        elif step.op not in ended:
            ended.add(step.op)
            for number in _in_its_way(schedule, step.op, [op for op in tasks if op not in ended]):
                await stage.release(schedule.ops[number])
            await asyncio.wait((tasks[step.op],))
    found = [_result(tasks[op]) for op in range(len(schedule.ops))]
    names = {one.xid: number for number, one in enumerate(found) if isinstance(one, Committed)}
    names.pop(None, None)
    await stage.act("resume replay")
    last = await _in_the_end(stage)
    return tuple(told(one, names) for one in (*found, *last))


def _in_its_way(schedule: Schedule, op: int, running: list[int]) -> list[int]:
    """What has to go on before this one can end: itself, and all if it may wait for a lock of theirs."""
    mine = _locks(schedule.ops[op])
    blocked = any(mine & _locks(schedule.ops[other]) for other in running)
    return [op, *running] if blocked else [op]


def _locks(op: Op) -> set[Any]:
    if op.verb == "rollup":
        return {"rollup"}
    locks: set[Any] = set()
    for write in op.writes:
        if isinstance(write, Add | Remove):
            locks.add((write.target, write.source))
        else:
            locks.add(type(write))
    return locks


def _result(task: asyncio.Task[Any]) -> Any:
    error = task.exception()
    if error is None:
        return task.result()
    if isinstance(error, GroundswellError):
        return FAILED
    raise error


async def _in_the_end(stage: Stage) -> list[Any]:
    while await patiently(partial(stage.store.rollup, ENOUGH)):
        pass
    await stage.caught_up()
    looks = [Op(verb, at=at) for at in LOOKS for verb in LOOKS[at]]
    return [await patiently(partial(do, op, stage.store, stage.standby)) for op in looks]


async def patiently(call: Callable[[], Awaitable[Any]]) -> Any:
    """After a crash the first call may still meet the old connection."""
    for _ in range(200):
        try:
            return await call()
        except GroundswellError:
            await asyncio.sleep(0.05)
    return await call()


async def do(op: Op, store: Store, standby: Source) -> Any:
    """One operation."""
    if op.verb == "commit":
        [committed] = await store.commit([Batch(op.writes)])
        return committed
    if op.verb == "rollup":
        return await store.rollup(op.events_max)
    return await _ASKS[op.verb](store if op.at == "primary" else standby)


_KEYS: Final = [("like", target) for target in TARGETS]
_ASKS: Final[dict[str, Callable[[Any], Awaitable[Any]]]] = {
    "counters": lambda store: store.counters(_KEYS),
    "documents": lambda store: store.documents(["x", "y"]),
    "edges": lambda store: store.edges("like", 1, Window()),
    "edge": lambda store: store.edge("like", 1, 1),
    "feed": lambda store: store.feed(0, ENOUGH),
    "standing": lambda store: store.standing(),
    "current": lambda store: store.current(_KEYS),
    "items": lambda store: store.items([Sight(key, 1, 5) for key in _KEYS]),
    "account": lambda store: store.account("till"),
    "movements": lambda store: store.movements("till", 50),
}
LOOKS: Final[Mapping[Place, tuple[str, ...]]] = {
    "primary": tuple(_ASKS),
    "standby": ("counters", "documents", "edges", "edge", "feed"),
}


# --- what it was told -------------------------------------------------------------------------------


def told(found: Any, names: Mapping[int | None, int]) -> Told:
    """It without times, and with transactions called by their operations; revisions by those they see."""
    if isinstance(found, Revision):
        return ("sees", *sorted(name for xid, name in names.items() if xid and found.sees(xid)))
    if isinstance(found, tuple | list):
        return tuple(told(one, names) for one in found)
    if isinstance(found, Document | Account):
        shown = _fields(found, names, "xid")
        return (*shown, names.get(found.xid))
    if isinstance(found, Committed):
        return _fields(found, names, "xid", "slot")
    if isinstance(found, Rollup):  # its changes are in no order
        counts, documents = sorted(found.counts, key=_key), sorted(found.documents, key=_key)
        return (found.number, *(told(one, names) for one in (found.revision, counts, documents)))
    return _fields(found, names) if isinstance(found, msgspec.Struct) else found


def _key(changed: CountChange | Document) -> Any:
    return changed.id if isinstance(changed, Document) else (changed.kind, changed.target)


_TIMES: Final = {"created_ms", "expires_ms", "epoch", "next", "prev", "place"}


def _fields(found: Any, names: Mapping[int | None, int], *left_out: str) -> Told:
    shown = [name for name in found.__struct_fields__ if name not in _TIMES | set(left_out)]
    return tuple(
        bytes(value) if name == "data" and value is not None else told(value, names)
        for name in shown
        for value in (getattr(found, name),)
    )


# --- to draw one ------------------------------------------------------------------------------------


def draw(rng: Random) -> Schedule:
    """Three to six operations, up to three of them at once."""
    ops = tuple(_op(rng, number) for number in range(rng.randint(3, 6)))
    steps: list[Step] = []
    waiting, running = list(range(len(ops))), list[int]()
    while waiting or running:
        if waiting and len(running) < 3 and (not running or rng.random() < 0.6):
            running.append(waiting.pop(0))
            steps.append(Step("begin", running[-1]))
        else:
            steps.append(Step("end", running.pop(rng.randrange(len(running)))))
    shares: dict[Act, float] = {"pause replay": 0.3, "resume replay": 0.3, "crash": 0.2}
    for what, share in shares.items():
        if rng.random() < share:
            steps.insert(rng.randrange(len(steps) + 1), Step(what))
    return Schedule(ops, tuple(steps))


def _op(rng: Random, number: int) -> Op:
    verb = rng.choice(("commit", "commit", "commit", "rollup", "look", "look"))
    if verb == "commit":
        how: How = rng.choice(("", "held", "slow"))
        fresh = Add("like", rng.choice(TARGETS), 100 + number)
        if how == "slow":
            return Op("commit", (fresh,), "slow")
        writes = rng.choice(
            (
                (fresh,),
                (fresh, Put("x", "t", json(n=number))),
                (Remove("like", 1, 1),),
                (Add("like", 1, 1), Put("y", "t", json(n=number))),
                (Transfer(f"t{number}", "bank", "till", number + 1),),
            )
        )
        return Op("commit", writes, how)
    if verb == "rollup":
        how = rng.choice(("", "held"))
        return Op("rollup", how=how, events_max=rng.choice((1, ENOUGH)))
    at: Place = rng.choice(("primary", "standby"))
    return Op(rng.choice(LOOKS[at]), at=at)
