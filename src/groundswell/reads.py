"""What a node answers to reads: each checked, served as it was asked for, and told how. No transport."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from groundswell.accounts import account as account_of
from groundswell.answers import (
    account_answer,
    before,
    edge_answer,
    edges_answer,
    info,
    item,
    missing,
    movement_answer,
    movements_answer,
    overlaid,
    page_item,
    rating_answer,
    sights,
    strictest,
    window,
)
from groundswell.api import Reply
from groundswell.consistency import Level
from groundswell.errors import (
    AccountNotFound,
    BadRequest,
    EdgeNotFound,
    ObjectNotFound,
    StoreUnavailable,
    TooLarge,
    TransferNotFound,
)
from groundswell.kinds import Kind, Kinds, bucket, check_id, check_object_id, check_text
from groundswell.model import ACCOUNT, INT_MAX, KEYS_MAX, Id, Key
from groundswell.reader import PRIMARY, Reader, Want
from groundswell.store import Source, Store
from groundswell.telemetry import Telemetry
from groundswell.tokens import Tokens
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
)

T = TypeVar("T")

WAIT_MS_MAX: Final = 60_000
STANDBY: Final = "standby"


class Reads:
    """The reads of `groundswell.api.Api`, over a store, its replicas and perhaps its standby.

    A base of `Node` rather than a part of it: counts are read by the ten thousand a second, and nothing
    is to stand between the call and the answer.
    """

    def __init__(
        self,
        store: Store,
        kinds: Kinds,
        reader: Reader,
        telemetry: Telemetry,
        *,
        wait_ms: int,
        standby: Source | None = None,
    ) -> None:
        """`wait_ms` is how long a read waits for a replica, where it does not say."""
        #: The declared kinds.
        self.kinds = kinds
        self.telemetry = telemetry
        self._store = store
        self._standby = standby
        self._reader = reader
        self._tokens = Tokens(store)
        self._wait_ms = wait_ms
        self._wants = {
            (level, primary): Want(level, None, wait_ms / 1000, primary)
            for level in Level
            for primary in (True, False)
        }

    # --- counts ---------------------------------------------------------------------------------

    async def count(
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

    async def counts(
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

    async def rating(
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

    async def page(
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
        wait_ms = self._wait_ms if options.wait_ms is None else options.wait_ms
        if not 0 <= wait_ms <= WAIT_MS_MAX:
            raise BadRequest(f"wait_ms must be from 0 to {WAIT_MS_MAX}.")
        max_age_s = None if options.max_age_ms is None else options.max_age_ms / 1000
        return Want(level, max_age_s, wait_ms / 1000, primary)

    # --- edges and objects ----------------------------------------------------------------------

    async def edge(
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
            error = EdgeNotFound(f"There is no {kind} of {target} by {source}.")
            raise missing(error, read, token)
        return Reply(edge_answer(edge, read), token)

    async def edges(
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
        token = self._tokens.after_read(want.level, session, page.revision)
        return Reply(edges_answer(page, read), token)

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

    async def object(
        self, id_: str, options: ReadOptions, tokens: str | None = None
    ) -> Reply[ObjectAnswer]:
        check_object_id(id_)
        want = self._want(Level.CAUSAL, options)
        session = self._tokens.decode(tokens)
        served = await self._reader.documents((id_,), want, session)
        token = self._tokens.after_read(want.level, session, served.revision)
        found, read = served.rows[0], info(want, served)
        if found.data is None:
            raise missing(ObjectNotFound(f"There is no object {id_!r}."), read, token)
        return Reply(ObjectAnswer(found.id, found.type, found.version, found.data, read), token)

    # --- accounts -------------------------------------------------------------------------------

    async def account(
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
            raise missing(AccountNotFound(f"There is no account {id_!r}."), read, token)
        return Reply(account_answer(found, read), token)

    async def movement(self, id_: str, tokens: str | None = None) -> Reply[MovementAnswer]:
        check_text(id_, "transfer id")
        session = self._tokens.decode(tokens)
        want = self._wants[Level.LINEARIZABLE, True]
        (found, revision), read = await self._asked_now(want, self._store.movement(id_))
        token = self._tokens.after_read(want.level, session, revision)
        if found is None:
            raise missing(TransferNotFound(f"There is no transfer {id_!r}."), read, token)
        return Reply(movement_answer(found, read), token)

    async def movements(
        self, account: str, query: HistoryQuery, tokens: str | None = None
    ) -> Reply[MovementsAnswer]:
        check_text(account, "account id")
        at = before(query)
        session = self._tokens.decode(tokens)
        want = self._wants[Level.LINEARIZABLE, True]
        asked = self._store.movements(account, query.limit, at)
        found, read = await self._asked_now(want, asked)
        token = self._tokens.after_read(want.level, session, found.revision)
        return Reply(movements_answer(found, read), token)

    async def _asked_now(self, want: Want, asked: Awaitable[T]) -> tuple[T, ReadInfo]:
        """What the primary says."""
        found = await asked
        self.telemetry.reads.labels(want.level, PRIMARY).inc()
        return found, ReadInfo(want.level, PRIMARY, 0.0, 0.0)
