"""One node: the parts put together, and what it answers. No transport in it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from importlib.metadata import version
from typing import Any, Final, TypeVar

import msgspec
from msgspec.structs import asdict

from groundswell.accounts import account as account_of
from groundswell.answers import (
    account_item,
    age_ms,
    edge_item,
    info,
    item,
    learnt,
    movement_item,
    overlaid,
    page_item,
    place,
    rating_answer,
    sights,
    stream_event,
    strictest,
    trending_answer,
    window,
)
from groundswell.api import Reply
from groundswell.committer import Committer
from groundswell.consistency import Level
from groundswell.errors import (
    AccountNotFound,
    BadRequest,
    EdgeNotFound,
    GroundswellError,
    ObjectNotFound,
    Overloaded,
    StoreUnavailable,
    TooLarge,
    TransferNotFound,
)
from groundswell.follower import Follower, Tail
from groundswell.kinds import (
    Kind,
    Kinds,
    bucket,
    check_id,
    check_object_id,
    check_text,
    check_write,
)
from groundswell.model import (
    ACCOUNT,
    INT_MAX,
    KEYS_MAX,
    STREAM_KEYS_MAX,
    TRENDS_MAX,
    WRITES_MAX,
    Id,
    Key,
    Write,
)
from groundswell.reader import PRIMARY, Reader, Want
from groundswell.replica import Replica
from groundswell.rollup import RollupWorker
from groundswell.store import Batch, Outcome, Refused, Source, Store
from groundswell.stream import News, Place, Stream, Streams
from groundswell.telemetry import Telemetry
from groundswell.tokens import Tokens
from groundswell.trending import WINDOW_S_MAX, Trending
from groundswell.wire import (
    AccountAnswer,
    CountAnswer,
    CountsAnswer,
    EdgeAnswer,
    EdgesAnswer,
    HistoryQuery,
    ListQuery,
    MovementAnswer,
    MovementsAnswer,
    ObjectAnswer,
    PageAnswer,
    RatingAnswer,
    ReadInfo,
    ReadOptions,
    ReplicaStatus,
    StatusAnswer,
    StreamEvent,
    TrendingAnswer,
    TrendingQuery,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

WAIT_MS_MAX: Final = 60_000
STANDBY: Final = "standby"
SETTLE_S: Final = 0.5  # between two looks at what has expired
SETTLED_MAX: Final = 1_000  # holds or claims, at one of them


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """How a node works; the defaults suit one machine."""

    group_max: int = 10_000  # writes in one commit
    queue_max: int = 50_000  # writes waiting for a commit
    events_max: int = 10_000  # events in one rollup
    rollup_pause_ms: int = 20  # between two rollups
    poll_ms: int = 50  # how soon what other processes did is noticed
    wait_ms: int = 100  # how long a read waits for a replica, where it does not say
    streams_max: int = 1_000  # streams of counts open at the same time


class Node:
    """Implements `groundswell.api.Api` over a store and its replicas."""

    def __init__(
        self,
        store: Store,
        kinds: Kinds,
        replicas: Sequence[tuple[Replica, float]],
        tuning: Tuning | None = None,
        *,
        standby: Source | None = None,
    ) -> None:
        """`replicas` come with the seconds by which each is held back.

        They are fed from `standby` where there is one, which also shows lists and single edges to those
        who read at `eventual`.
        """
        tuning = tuning or Tuning()
        self._store = store
        self._standby = standby
        #: The declared kinds.
        self.kinds = kinds
        self._tuning = tuning
        self._replicas = replicas
        self._began_s = time.monotonic()
        self.telemetry = Telemetry()
        self._worker = RollupWorker(
            store,
            self.telemetry,
            events_max=tuning.events_max,
            pause_s=tuning.rollup_pause_ms / 1000,
            poll_s=tuning.poll_ms / 1000,
            rolled=self.rolled,
        )
        self._reader = Reader(
            store,
            [replica for replica, _ in replicas],
            self._worker,
            self.telemetry,
            source=standby,
        )
        held = [replica for replica, _ in replicas]
        #: The open streams of counts.
        self.streams = Streams(store, standby or store, held, streams_max=tuning.streams_max)
        nearest, _ = min(replicas, key=lambda one: one[1])
        self._trending = Trending(standby or store, nearest, [kind.name for kind in kinds])
        tail = Tail(standby or store)
        self._followers = [
            Follower(
                tail,
                replica,
                poll_s=tuning.poll_ms / 1000,
                delay_s=delay_s,
                moved=self._reader.moved,
                watches=(room, self._trending) if replica is nearest else (room,),
            )
            for (replica, delay_s), room in zip(replicas, self.streams.rooms, strict=True)
        ]
        self._committer = Committer(
            store,
            self.telemetry,
            group_max=tuning.group_max,
            queue_max=tuning.queue_max,
            committed=self._worker.notify,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._tokens = Tokens(store)
        self._wants = {
            (level, primary): Want(level, None, tuning.wait_ms / 1000, primary)
            for level in Level
            for primary in (True, False)
        }

    # --- life -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to work; returns when every replica knows where it stands."""
        for follower in self._followers:
            await follower.step()
        self._spawn("committer", self._committer.run())
        self._spawn("rollup", self._worker.run())
        self._spawn("settling", self._settle())
        self._spawn("trending", self._trending.run())
        for (replica, _), follower in zip(self._replicas, self._followers, strict=True):
            self._spawn(f"follower {replica.name}", follower.run())

    async def stop(self) -> None:
        """Finish the accepted writes, then let go of the store; calling it twice does nothing."""
        if self._stopping:
            return
        self._stopping = True
        self.streams.close()
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
        self._worker.heard()
        for follower in self._followers:
            follower.notify()

    def is_alive(self) -> bool:
        """Whether all parts of the node work."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    def is_ready(self) -> bool:
        """Whether it should be sent requests: alive, not stopping, every replica in the feed."""
        return (
            self.is_alive()
            and not self._stopping
            and all(replica.standing.epoch == self._store.epoch for replica, _ in self._replicas)
        )

    # --- writes ---------------------------------------------------------------------------------

    async def write(  # noqa: D102
        self, writes: Sequence[Write], *, atomic: bool = False, tokens: str | None = None
    ) -> Reply[list[Outcome]]:
        session = self._tokens.decode(tokens)
        if len(writes) > WRITES_MAX:
            raise TooLarge(f"{len(writes)} writes in one call; the limit is {WRITES_MAX}.")
        checked, refused = self._check(writes, atomic=atomic)
        if not checked:
            return Reply([*refused.values()], session.encode() if session else None)
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

    # --- counts ---------------------------------------------------------------------------------

    async def count(  # noqa: D102
        self, kind: str, target: Id, options: ReadOptions, tokens: str | None = None
    ) -> Reply[CountAnswer]:
        declared = self.kinds[kind]
        key = (kind, check_id(declared.target, target, "target"))
        want = self._want(declared.consistency, options)
        session = self._tokens.decode(tokens)
        served = await self._reader.counters((key,), want, session)
        count, sum_, pending = overlaid(key, served.rows[0], served)
        answer = CountAnswer(
            count=count,
            pending=pending,
            read=info(want, served),
            sum=None if declared.value is None else sum_,
        )
        return Reply(answer, self._tokens.after_read(want.level, session, served.revision))

    async def counts(  # noqa: D102
        self, keys: Sequence[Key], options: ReadOptions, tokens: str | None = None
    ) -> Reply[CountsAnswer]:
        if not keys:
            raise BadRequest("No keys were given.")
        if len(keys) > KEYS_MAX:
            raise TooLarge(f"{len(keys)} keys in one read; the limit is {KEYS_MAX}.")
        checked = [self.kinds.key(kind, target) for kind, target in keys]
        declared = {kind: self.kinds[kind] for kind, _ in keys}
        want = self._want(strictest(declared.values()), options)
        session = self._tokens.decode(tokens)
        served = await self._reader.counters(checked, want, session)
        items = [
            item(key, row, served, declared[key[0]])
            for key, row in zip(checked, served.rows, strict=True)
        ]
        return Reply(
            CountsAnswer(items, info(want, served)),
            self._tokens.after_read(want.level, session, served.revision),
        )

    async def rating(  # noqa: D102
        self, kind: str, target: Id, options: ReadOptions, tokens: str | None = None
    ) -> Reply[RatingAnswer]:
        declared = self.kinds[kind]
        if declared.value is None:
            raise BadRequest(f"Edges of kind {kind} carry no value.")
        target = check_id(declared.target, target, "target")
        want = self._want(declared.consistency, options)
        session = self._tokens.decode(tokens)
        keys = [
            (kind, target),
            *((bucket(kind, value), target) for value in declared.value.buckets),
        ]
        served = await self._reader.counters(keys, want, session)
        answer = rating_answer(declared.value, keys, served, info(want, served))
        return Reply(answer, self._tokens.after_read(want.level, session, served.revision))

    async def page(  # noqa: D102
        self,
        keys: Sequence[Key],
        options: ReadOptions,
        tokens: str | None = None,
        *,
        viewer: Id | None = None,
        newest: int = 3,
    ) -> Reply[PageAnswer]:
        asked = sights(self.kinds, keys, viewer, newest)
        declared = [self.kinds[kind] for kind in {kind for kind, _ in keys}]
        want = self._want(strictest(declared), options)
        session = self._tokens.decode(tokens)
        served = await self._reader.items(asked, want, session)
        valued = {kind.name for kind in declared if kind.value is not None}
        items = [
            page_item(sight, found, valued=sight.key[0] in valued)
            for sight, found in zip(asked, served.rows, strict=True)
        ]
        return Reply(
            PageAnswer(items, info(want, served)),
            self._tokens.after_read(want.level, session, served.revision),
        )

    def _want(self, default: Level, options: ReadOptions) -> Want:
        level = options.consistency or default
        primary = options.fallback == "primary"
        if options.max_age_ms is None and options.wait_ms is None:
            return self._wants[level, primary]
        if options.max_age_ms is not None and not 0 <= options.max_age_ms <= INT_MAX:
            raise BadRequest(f"max_age_ms must be from 0 to {INT_MAX}.")
        wait_ms = self._tuning.wait_ms if options.wait_ms is None else options.wait_ms
        if not 0 <= wait_ms <= WAIT_MS_MAX:
            raise BadRequest(f"wait_ms must be from 0 to {WAIT_MS_MAX}.")
        max_age_s = None if options.max_age_ms is None else options.max_age_ms / 1000
        return Want(level, max_age_s, wait_ms / 1000, primary)

    # --- what goes on ---------------------------------------------------------------------------

    async def trending(  # noqa: D102
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
                found, query, self._trending.replica.name, time.monotonic() - at.fresh_at_s
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

    async def stream(self, keys: Sequence[Key]) -> AsyncGenerator[StreamEvent, None]:  # noqa: D102
        stream = await self.open_stream(keys)
        try:
            while (news := await stream.next()) is not None:
                yield self.told(stream, news)
        finally:
            stream.close()

    def told(self, stream: Stream, news: News) -> StreamEvent:
        """The news of a stream as it is told now."""
        return stream_event(news, self.kinds, stream.served_by, time.monotonic())

    # --- edges and objects ----------------------------------------------------------------------

    async def edge(  # noqa: D102
        self,
        kind: str,
        target: Id,
        source: Id,
        options: ReadOptions,
        tokens: str | None = None,
    ) -> Reply[EdgeAnswer]:
        declared = self._with_edges(kind)
        target = check_id(declared.target, target, "target")
        source = check_id(declared.source, source, "source")
        want = self._want(declared.consistency, options)
        session = self._tokens.decode(tokens)
        (edge, revision), read = await self._asked(want, lambda at: at.edge(kind, target, source))
        token = self._tokens.after_read(want.level, session, revision)
        if edge is None:
            error = EdgeNotFound(
                f"There is no {kind} of {target} by {source}.", read=msgspec.to_builtins(read)
            )
            raise learnt(error, token)
        answer = EdgeAnswer(
            kind=kind,
            target=edge.target,
            source=edge.source,
            created_ms=edge.created_ms,
            value=edge.value,
            data=edge.data,
            expires_ms=edge.expires_ms,
            read=read,
        )
        return Reply(answer, token)

    async def edges(  # noqa: D102
        self,
        kind: str,
        *,
        target: Id | None = None,
        source: Id | None = None,
        query: ListQuery,
        tokens: str | None = None,
    ) -> Reply[EdgesAnswer]:
        declared = self._with_edges(kind)
        want = self._want(declared.consistency, query)
        session = self._tokens.decode(tokens)
        if target is not None and source is None:
            end = check_id(declared.target, target, "target")
            part = window(query, declared.source)
            page, read = await self._asked(want, lambda at: at.edges(kind, end, part))
        elif source is not None and target is None:
            if not declared.inverse:
                raise BadRequest(f"Kind {kind} is not declared with inverse = true.")
            end = check_id(declared.source, source, "source")
            part = window(query, declared.target)
            page, read = await self._asked(want, lambda at: at.inverse(kind, end, part))
        else:
            raise BadRequest("Name the target or the source of the list, and not both.")
        answer = EdgesAnswer(
            [edge_item(edge) for edge in page.edges],
            None if page.next is None else page.next.encode(),
            None if page.prev is None else page.prev.encode(),
            read,
        )
        return Reply(answer, self._tokens.after_read(want.level, session, page.revision))

    def _with_edges(self, kind: str) -> Kind:
        declared = self.kinds[kind]
        if not declared.unique:
            raise BadRequest(f"Kind {kind} stores no edges, only their count.")
        return declared

    async def _asked(self, want: Want, ask: Callable[[Source], Awaitable[T]]) -> tuple[T, ReadInfo]:
        """What the standby says, where the level allows that, or else the primary."""
        if self._standby is not None and want.level is Level.EVENTUAL:
            with contextlib.suppress(StoreUnavailable):
                found = await ask(self._standby)
                self.telemetry.reads.labels(want.level, STANDBY).inc()
                return found, ReadInfo(want.level, STANDBY, None, 0.0)
        return await self._asked_now(want, ask(self._store))

    async def object(  # noqa: D102
        self, id_: str, options: ReadOptions, tokens: str | None = None
    ) -> Reply[ObjectAnswer]:
        check_object_id(id_)
        want = self._want(Level.CAUSAL, options)
        session = self._tokens.decode(tokens)
        served = await self._reader.documents((id_,), want, session)
        token = self._tokens.after_read(want.level, session, served.revision)
        found = served.rows[0]
        if found.data is None:
            read = msgspec.to_builtins(info(want, served))
            raise learnt(ObjectNotFound(f"There is no object {id_!r}.", read=read), token)
        return Reply(
            ObjectAnswer(found.id, found.type, found.version, found.data, info(want, served)),
            token,
        )

    # --- accounts -------------------------------------------------------------------------------

    async def account(  # noqa: D102
        self, id_: str, options: ReadOptions, tokens: str | None = None
    ) -> Reply[AccountAnswer]:
        check_text(id_, "account id")
        want = self._want(Level.LINEARIZABLE, options)
        session = self._tokens.decode(tokens)
        if want.level is Level.LINEARIZABLE:
            (found, revision), read = await self._asked_now(want, self._store.account(id_))
        else:
            served = await self._reader.documents((ACCOUNT + id_,), want, session)
            found, revision, read = account_of(served.rows[0]), served.revision, info(want, served)
        token = self._tokens.after_read(want.level, session, revision)
        if found is None:
            error = AccountNotFound(f"There is no account {id_!r}.", read=msgspec.to_builtins(read))
            raise learnt(error, token)
        return Reply(AccountAnswer(**asdict(account_item(found)), read=read), token)

    async def movement(self, id_: str, tokens: str | None = None) -> Reply[MovementAnswer]:  # noqa: D102
        check_text(id_, "transfer id")
        session = self._tokens.decode(tokens)
        want = self._wants[Level.LINEARIZABLE, True]
        (found, revision), read = await self._asked_now(want, self._store.movement(id_))
        token = self._tokens.after_read(want.level, session, revision)
        if found is None:
            error = TransferNotFound(
                f"There is no transfer {id_!r}.", read=msgspec.to_builtins(read)
            )
            raise learnt(error, token)
        return Reply(MovementAnswer(**asdict(movement_item(found)), read=read), token)

    async def movements(  # noqa: D102
        self, account: str, query: HistoryQuery, tokens: str | None = None
    ) -> Reply[MovementsAnswer]:
        check_text(account, "account id")
        cursor = place(query)
        session = self._tokens.decode(tokens)
        want = self._wants[Level.LINEARIZABLE, True]
        asked = self._store.movements(account, query.limit, cursor)
        found, read = await self._asked_now(want, asked)
        answer = MovementsAnswer(
            [movement_item(movement) for movement in found.rows],
            None if found.next is None else found.next.encode(),
            read,
        )
        return Reply(answer, self._tokens.after_read(want.level, session, found.revision))

    async def _asked_now(self, want: Want, asked: Awaitable[T]) -> tuple[T, ReadInfo]:
        """What the primary says."""
        found = await asked
        self.telemetry.reads.labels(want.level, PRIMARY).inc()
        return found, ReadInfo(want.level, PRIMARY, 0.0, 0.0)

    async def _settle(self) -> None:
        """Let go of what has expired, so that replicas show it; writes do not wait for that."""
        while True:
            await asyncio.sleep(SETTLE_S)
            with contextlib.suppress(StoreUnavailable, Overloaded):
                if found := await self._store.expired(SETTLED_MAX):
                    await self._committer.submit(Batch(tuple(found)))

    # --- the node itself ------------------------------------------------------------------------

    async def status(self) -> StatusAnswer:  # noqa: D102
        head = await self._store.head()
        now_s = time.monotonic()
        return StatusAnswer(
            version=version("groundswell"),
            store=f"{self._store.label}, {self._store.identity}",
            epoch=head.epoch,
            revision=str(head.revision),
            rollup=head.rollup,
            backlog=await self._store.backlog(),
            replicas=[
                ReplicaStatus(
                    replica.name,
                    replica.standing.rollup,
                    str(replica.standing.revision),
                    age_ms(now_s - replica.standing.fresh_at_s),
                    delay_s * 1000,
                )
                for replica, delay_s in self._replicas
            ],
            kinds=[msgspec.to_builtins(kind) for kind in self.kinds],
            uptime_s=round(time.monotonic() - self._began_s, 3),
        )

    async def metrics(self) -> bytes:
        """All metrics in Prometheus's text format."""
        with contextlib.suppress(StoreUnavailable):  # the other metrics tell most when it is away
            head = await self._store.head()
            self.telemetry.backlog.set(await self._store.backlog())
            self.telemetry.rollup_number.set(head.rollup)
        self.telemetry.streams.set(len(self.streams))
        now_s = time.monotonic()
        for replica, _ in self._replicas:
            at = replica.standing
            self.telemetry.replica_age.labels(replica.name).set(now_s - at.fresh_at_s)
            self.telemetry.replica_rollup.labels(replica.name).set(at.rollup)
        return self.telemetry.exposition()
