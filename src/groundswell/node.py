"""One node: the parts put together, and what it answers. No transport in it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from importlib.metadata import version
from typing import Any, Final

import msgspec

from groundswell.answers import age_ms, stream_event, trending_answer
from groundswell.api import Reply
from groundswell.committer import Committer
from groundswell.consistency import Level
from groundswell.errors import (
    BadRequest,
    GroundswellError,
    Overloaded,
    ReplicaUnavailable,
    StoreUnavailable,
    TooLarge,
)
from groundswell.follower import Follower, Tail
from groundswell.kinds import Kinds, check_write
from groundswell.model import STREAM_KEYS_MAX, TRENDS_MAX, WRITES_MAX, Key, Write
from groundswell.pulse import WATCHERS_MAX, Pulse, Watcher
from groundswell.reader import Reader
from groundswell.reads import Reads
from groundswell.replica import Replica
from groundswell.rollup import RollupWorker
from groundswell.store import Batch, Head, Outcome, Refused, Source, Store
from groundswell.stream import News, Place, Stream, Streams
from groundswell.telemetry import Telemetry
from groundswell.trending import WINDOW_S_MAX, Trending
from groundswell.wire import (
    ReplicaStatus,
    StatusAnswer,
    StreamEvent,
    TrendingAnswer,
    TrendingQuery,
)

log = logging.getLogger(__name__)

SETTLE_S: Final = 0.5  # between two looks at what has expired
SETTLED_MAX: Final = 1_000  # holds or claims, at one of them


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """How a node works; the defaults suit one machine."""

    group_max: int | None = None  # writes in one commit; None: as many as the store advises
    queue_max: int = 50_000  # writes waiting for a commit
    events_max: int = 10_000  # events in one rollup
    rollup_pause_ms: int = 20  # between two rollups
    poll_ms: int = 50  # how soon what other processes did is noticed
    wait_ms: int = 100  # how long a read waits for a replica, where it does not say
    streams_max: int = 1_000  # streams of counts open at the same time


class Node(Reads):
    """Implements `groundswell.api.Api` over a store and its replicas."""

    def __init__(
        self,
        store: Store,
        kinds: Kinds,
        replicas: Sequence[tuple[Replica, float]],
        tuning: Tuning | None = None,
        *,
        standby: Source | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`replicas` come with the seconds by which each is held back.

        They are fed from `standby` where there is one, which also shows lists and single edges to those
        who read at `eventual`.
        """
        self._clock = clock
        tuning = tuning or Tuning()
        telemetry = Telemetry()
        self._replicas = replicas
        self.worker = RollupWorker(
            store,
            telemetry,
            events_max=tuning.events_max,
            pause_s=tuning.rollup_pause_ms / 1000,
            poll_s=tuning.poll_ms / 1000,
            rolled=self.rolled,
            clock=clock,
        )
        self._committer = Committer(
            store,
            kinds,
            telemetry,
            group_max=tuning.group_max or store.group_max,
            queue_max=tuning.queue_max,
            committed=self.worker.notify,
        )
        held = [replica for replica, _ in replicas]
        reader = Reader(store, held, self.worker, telemetry, source=standby, clock=clock)
        super().__init__(store, kinds, reader, telemetry, wait_ms=tuning.wait_ms, standby=standby)
        source = standby or store
        #: The open streams of counts.
        self.streams = Streams(store, source, held, streams_max=tuning.streams_max)
        nearest, _ = min(replicas, key=lambda one: one[1])
        self._trending = Trending(source, nearest, [kind.name for kind in kinds], clock=clock)
        #: One per replica, in order.
        self.followers = self._following(Tail(source, clock=clock), poll_s=tuning.poll_ms / 1000)
        self._pulse = Pulse(store, source, self.followers, telemetry, clock=clock)
        self._began_s = self._clock()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    def _following(self, tail: Tail, *, poll_s: float) -> list[Follower]:
        """A follower per replica, each with those who want to hear of it."""
        nearest = self._trending.replica
        return [
            Follower(
                tail,
                replica,
                poll_s=poll_s,
                delay_s=delay_s,
                moved=self._reader.moved,
                watches=(room, self._trending) if replica is nearest else (room,),
            )
            for (replica, delay_s), room in zip(self._replicas, self.streams.rooms, strict=True)
        ]

    # --- life -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to work; returns when every replica knows where it stands."""
        for follower in self.followers:
            try:
                await follower.step()
            except ReplicaUnavailable as error:  # it is a copy: the node does without for now
                log.warning("replica %s: %s", follower.replica.name, error)
        self._spawn("committer", self._committer.run())
        self._spawn("rollup", self.worker.run())
        self._spawn("settling", self._settle())
        self._spawn("trending", self._trending.run())
        self._spawn("pulse", self._pulse.run())
        for follower in self.followers:
            self._spawn(f"follower {follower.replica.name}", follower.run())

    async def stop(self) -> None:
        """Finish the accepted writes, then let go of the store; calling it twice does nothing."""
        if self._stopping:
            return
        self._stopping = True
        self.end_streams()
        self._committer.close()
        for task in self._tasks[1:]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._standby is not None:
            await self._standby.close()
        await self._store.close()

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not self._stopping and not task.cancelled() and (error := task.exception()):
            log.critical(
                "%s failed; this node has to be restarted", task.get_name(), exc_info=error
            )

    def rolled(self) -> None:
        """There is a new rollup, made here or elsewhere: let the replicas have it at once."""
        self.worker.heard()
        for follower in self.followers:
            follower.notify()

    def is_alive(self) -> bool:
        """Whether all parts of the node work."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    def is_ready(self) -> bool:
        """Whether it should be sent requests: alive, not stopping, every replica in the feed or away."""
        return (
            self.is_alive()
            and not self._stopping
            and all(
                replica.away or replica.standing.epoch == self._store.epoch
                for replica, _ in self._replicas
            )
        )

    async def _settle(self) -> None:
        """Let go of what has expired, so that replicas show it; writes do not wait for that."""
        while True:
            await asyncio.sleep(SETTLE_S)
            with contextlib.suppress(StoreUnavailable, Overloaded):
                if found := await self._store.expired(SETTLED_MAX):
                    await self._committer.submit(Batch(tuple(found)))

    # --- writes ---------------------------------------------------------------------------------

    async def write(
        self, writes: Sequence[Write], *, atomic: bool = False, tokens: str | None = None
    ) -> Reply[list[Outcome]]:
        session = self._tokens.decode(tokens)
        if len(writes) > WRITES_MAX:
            raise TooLarge(f"{len(writes)} writes in one call; the limit is {WRITES_MAX}.")
        checked, refused = self._check(writes, atomic=atomic)
        if not checked:
            return Reply([*refused.values()], session.encode() if session else None)
        if session is not None:
            await self._reader.check(session)
        committed = await self._committer.submit(Batch(tuple(checked), atomic))
        self._reader.heard(committed.seen)
        outcomes = list(committed.outcomes)
        for index, refusal in refused.items():
            outcomes.insert(index, refusal)
        return Reply(outcomes, self._tokens.after_write(session, committed))

    def _check(
        self, writes: Sequence[Write], *, atomic: bool
    ) -> tuple[list[Write], dict[int, Refused]]:
        """The writes that may be tried, and the refusals of the others by their places, ascending."""
        checked: list[Write] = []
        refused: dict[int, Refused] = {}
        for index, write in enumerate(writes):
            try:
                checked.append(check_write(self.kinds, write))
            except GroundswellError as error:
                if atomic:
                    error.index = index if len(writes) > 1 else None
                    raise
                refused[index] = Refused(error.code, error.detail)
        return checked, refused

    # --- what goes on ---------------------------------------------------------------------------

    async def trending(
        self, kind: str, query: TrendingQuery, tokens: str | None = None
    ) -> Reply[TrendingAnswer]:
        declared = self.kinds[kind]
        if not 1 <= query.window_s <= WINDOW_S_MAX:
            raise BadRequest(f"window_s must be from 1 to {WINDOW_S_MAX}.")
        if not 1 <= query.limit <= TRENDS_MAX:
            raise BadRequest(f"limit must be from 1 to {TRENDS_MAX}.")
        session = self._tokens.decode(tokens)
        found = self._trending.top(declared.name, query.window_s, query.limit)
        at = self._trending.replica.standing
        return Reply(
            trending_answer(
                found, query, self._trending.replica.name, self._clock() - at.fresh_at_s
            ),
            self._tokens.after_read(Level.EVENTUAL, session, at.revision),
        )

    async def open_stream(
        self, keys: Sequence[Key], after: str | None = None, tokens: str | None = None
    ) -> Stream:
        """A stream that whoever asks has to close; `after` is the id of the last event of another."""
        if not keys:
            raise BadRequest("No keys were given.")
        if len(keys) > STREAM_KEYS_MAX:
            raise TooLarge(f"{len(keys)} keys in one stream; the limit is {STREAM_KEYS_MAX}.")
        checked = [self.kinds.key(kind, target) for kind, target in dict.fromkeys(keys)]
        self._tokens.decode(tokens)  # nothing is added on top, but a bad one is told as anywhere
        return await self.streams.open(checked, None if after is None else Place.decode(after))

    async def stream(self, keys: Sequence[Key]) -> AsyncGenerator[StreamEvent, None]:
        stream = await self.open_stream(keys)
        try:
            while (news := await stream.next()) is not None:
                yield self.told(stream, news)
        finally:
            stream.close()

    def told(self, stream: Stream, news: News) -> StreamEvent:
        """The news of a stream as it is told now."""
        return stream_event(news, self.kinds, stream.served_by, self._clock())

    def open_pulse(self, key: Key) -> Watcher:
        """What the node does, ten times a second; to be closed by whoever asks. Raises Overloaded."""
        return self._pulse.open(self.kinds.key(*key))

    @property
    def streams_max(self) -> int:
        """How many requests may go on and on."""
        return self.streams.max + WATCHERS_MAX

    def end_streams(self) -> None:
        """End all requests that go on and on."""
        self.streams.close()
        self._pulse.close()

    # --- the node itself ------------------------------------------------------------------------

    async def status(self) -> StatusAnswer:
        backlog, head = await self._standing()
        now_s = self._clock()
        return StatusAnswer(
            version=version("groundswell"),
            store=f"{self._store.label}, {self._store.identity}",
            epoch=head.epoch,
            revision=str(head.revision),
            rollup=head.rollup,
            backlog=backlog,
            replicas=[
                ReplicaStatus(
                    replica.name,
                    replica.standing.rollup,
                    str(replica.standing.revision),
                    age_ms(now_s - replica.standing.fresh_at_s),
                    follower.delay_s * 1000,
                    follower.following,
                )
                for follower in self.followers
                for replica in (follower.replica,)
            ],
            kinds=[msgspec.to_builtins(kind) for kind in self.kinds],
            uptime_s=round(now_s - self._began_s, 3),
        )

    async def metrics(self) -> bytes:
        """All metrics in Prometheus's text format."""
        with contextlib.suppress(StoreUnavailable):  # the other metrics tell most when it is away
            backlog, head = await self._standing()
            self.telemetry.backlog.set(backlog)
            self.telemetry.rollup_number.set(head.rollup)
        self.telemetry.streams.set(len(self.streams))
        now_s = self._clock()
        for replica, _ in self._replicas:
            at = replica.standing
            self.telemetry.replica_age.labels(replica.name).set(now_s - at.fresh_at_s)
            self.telemetry.replica_rollup.labels(replica.name).set(at.rollup)
            self.telemetry.replica_away.labels(replica.name).set(replica.away)
        return self.telemetry.exposition()

    async def _standing(self) -> tuple[int, Head]:
        """What waits for a rollup, and where the store stands: beyond what no longer waits."""
        backlog = await self._store.backlog()
        return backlog, await self._store.head()
