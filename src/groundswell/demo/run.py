"""The demonstration: a viral spike through the public API of a node, and what each level makes of it."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from groundswell.config import load_only
from groundswell.demo import child, writers
from groundswell.demo.buyers import BUYERS, Buyer, Shop
from groundswell.demo.readers import SESSIONS, Reader
from groundswell.demo.tally import Tally
from groundswell.demo.trace import Action, Message
from groundswell.demo.truth import Truth
from groundswell.model import KEYS_MAX, Level
from groundswell.results import Count
from groundswell.session import Groundswell
from groundswell.wiring import connect, migrate

REPLICA_DELAYS_MS: Final = (0, 150, 600)
SETTLE_S: Final = 30.0  # for the replicas to catch up after the spike
SAMPLE_S: Final = 0.1  # between two looks of the chart at every replica

Advance = Callable[[int], None]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One level's line of the table."""

    reads: int
    went_backwards: int
    missed_own_write: int
    reply_before_question: int
    stale_reads: int
    double_spent: int
    oversold: int
    p50_ms: float
    p99_ms: float
    replica_share: float  # of the reads: answered by a replica, not by the primary
    age_ms_max: float  # highest age that an answer admitted to


class TraceCheck(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the trace."""

    actions: int
    edges: int  # sum of the final counts
    counts_exact: bool  # whether every target's count is its number of distinct sources


class Result(msgspec.Struct, frozen=True):
    """What the demonstration prints with --json."""

    levels: dict[str, Row]
    trace: TraceCheck


class Sample(msgspec.Struct, frozen=True):
    """The hottest count as one replica showed it."""

    at_s: float  # since the spike began
    served_by: str
    count: int


class Outcome(msgspec.Struct, frozen=True):
    """The result, and what the report shows beside it."""

    result: Result
    samples: list[Sample]
    acknowledged: list[Sample]  # what had been acknowledged at that time
    hottest: tuple[str, int | str]
    seconds: float  # that the spike took
    replies: int
    repeated: int  # writes that were sent twice
    guarded: int  # times that a transfer overdrew, or a claim was given twice


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to demonstrate."""

    actions: Sequence[Action]
    messages: Sequence[Message]
    seconds: float
    seed: int


@contextlib.asynccontextmanager
async def running_node(store: str | None) -> AsyncIterator[str]:
    """A node for the demonstration, on a store that is thrown away unless one is named."""
    with tempfile.TemporaryDirectory(prefix="groundswell-") as folder:
        url = store or "sqlite:///" + str(Path(folder) / "demo.db")
        await migrate(load_only({"store": url}))
        delays = ",".join(map(str, REPLICA_DELAYS_MS))
        arguments = ["--store", url, "--replicas", str(len(REPLICA_DELAYS_MS))]
        async with child.node([*arguments, "--replica-delay-ms", delays, "--demo"]) as running:
            yield running.url


async def demonstrate(url: str, plan: Plan, advance: Advance) -> Outcome:
    """Drive the spike into the node at `url` while sessions at every level read; then check it."""
    truth = Truth(plan.actions)
    tallies = {level: Tally() for level in Level}
    shops = {level: Shop(level) for level in Level}
    samples: list[Sample] = []
    acknowledged: list[Sample] = []
    async with contextlib.AsyncExitStack() as stack:
        # The readers have connections of their own: they must not queue behind the writes.
        gs = await stack.enter_async_context(connect(url))
        reading = await stack.enter_async_context(connect(url))
        for shop in shops.values():
            await shop.open(gs)
        began_s = time.monotonic()

        def seen(count: Count) -> None:
            if count.level is Level.EVENTUAL:
                samples.append(Sample(time.monotonic() - began_s, count.served_by, count.value))

        watchers = [
            Reader(reading, level, n, truth, tallies[level], seed=plan.seed, seen=seen).run()
            for level in Level
            for n in range(SESSIONS)
        ]
        watchers += [
            Buyer(reading, level, shops[level], tallies[level]).run()
            for level in Level
            for _ in range(BUYERS)
        ]
        watchers.append(writers.parcel(gs, truth))
        watchers.append(_sample(reading, truth, began_s, seen, acknowledged))
        async with asyncio.TaskGroup() as group:
            background = [group.create_task(watcher) for watcher in watchers]
            await _write(gs, plan, truth, advance)
            seconds = time.monotonic() - began_s
            for task in background:
                task.cancel()
        check = await _check(gs, truth, len(plan.actions))
        await _sample_settled(gs, truth, began_s, seen)
    return Outcome(
        Result({str(level): _row(tallies[level], shops[level]) for level in Level}, check),
        samples,
        acknowledged,
        truth.hottest,
        seconds,
        len(truth.replies),
        writers.repeats(plan.actions, plan.seed),
        sum(shop.guarded for shop in shops.values()),
    )


async def _write(gs: Groundswell, plan: Plan, truth: Truth, advance: Advance) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(
            writers.spike(
                gs, plan.actions, truth, seconds=plan.seconds, seed=plan.seed, advance=advance
            )
        )
        if plan.messages:
            group.create_task(
                writers.threads(gs, plan.messages, truth, seconds=plan.seconds, advance=advance)
            )


async def _sample(
    gs: Groundswell,
    truth: Truth,
    began_s: float,
    seen: Callable[[Count], None],
    acknowledged: list[Sample],
) -> None:
    """For the chart: look at the hottest count often enough that each replica answers."""
    session = gs.session()
    kind, target = truth.hottest
    while True:
        now = Sample(time.monotonic() - began_s, "acknowledged", truth.acknowledged[kind, target])
        acknowledged.append(now)
        seen(await writers.insist(lambda: session.count(kind, target, level=Level.EVENTUAL)))
        await asyncio.sleep(SAMPLE_S)


async def _sample_settled(
    gs: Groundswell, truth: Truth, began_s: float, seen: Callable[[Count], None]
) -> None:
    """After the spike: the replicas converge, and the chart shows it."""
    session = gs.session()
    kind, target = truth.hottest
    final: dict[str, int] = {}
    async with asyncio.timeout(SETTLE_S):
        while (
            len(final) < len(REPLICA_DELAYS_MS)
            or min(final.values()) < truth.expected[kind, target]
        ):
            count = await writers.insist(lambda: session.count(kind, target, level=Level.EVENTUAL))
            final[count.served_by] = count.value
            seen(count)
            await asyncio.sleep(SAMPLE_S / len(REPLICA_DELAYS_MS))


async def _check(gs: Groundswell, truth: Truth, actions: int) -> TraceCheck:
    """Read every count of the trace at the strictest level, and compare."""
    session = gs.session()
    keys = list(truth.expected)
    found: dict[tuple[str, int | str], int] = {}
    for start in range(0, len(keys), KEYS_MAX):
        part = keys[start : start + KEYS_MAX]
        counts = await writers.insist(partial(session.counts, part, level=Level.LINEARIZABLE))
        found.update({(count.kind, count.target): count.value for count in counts})
    return TraceCheck(
        actions=actions, edges=sum(found.values()), counts_exact=found == dict(truth.expected)
    )


def _row(tally: Tally, shop: Shop) -> Row:
    return Row(
        reads=tally.reads,
        went_backwards=tally.went_backwards,
        missed_own_write=tally.missed_own_write,
        reply_before_question=tally.reply_before_question,
        stale_reads=tally.stale_reads,
        double_spent=shop.double_spent,
        oversold=shop.oversold,
        p50_ms=round(tally.percentile_ms(0.5), 2),
        p99_ms=round(tally.percentile_ms(0.99), 2),
        replica_share=round(tally.replica_reads / max(tally.reads, 1), 4),
        age_ms_max=round(tally.age_ms_max, 1),
    )


def verdicts(outcome: Outcome) -> Mapping[str, bool]:
    """What the demonstration has to show, and whether it did."""
    result = outcome.result
    rows = result.levels
    eventual = rows[Level.EVENTUAL]
    causal = rows[Level.CAUSAL]
    strict = rows[Level.LINEARIZABLE]
    return {
        "eventual: every anomaly was seen": min(
            eventual.went_backwards,
            eventual.missed_own_write,
            eventual.reply_before_question,
            eventual.stale_reads,
            eventual.double_spent,
            eventual.oversold,
        )
        > 0,
        "read_your_writes: no own write was missed": (
            rows[Level.READ_YOUR_WRITES].missed_own_write == 0
        ),
        "monotonic: nothing went backwards": rows[Level.MONOTONIC].went_backwards == 0,
        "causal: neither, and no reply came before its question": (
            causal.went_backwards + causal.missed_own_write + causal.reply_before_question == 0
        ),
        "linearizable: no anomaly at all": (
            strict.went_backwards
            + strict.missed_own_write
            + strict.reply_before_question
            + strict.stale_reads
            + strict.double_spent
            + strict.oversold
            == 0
        ),
        "causal: at least 90 % served by replicas": causal.replica_share >= 0.9,
        "transfers and claims: nothing was spent or sold twice, at any level": not outcome.guarded,
        "every count of the trace is exact": result.trace.counts_exact,
    }
