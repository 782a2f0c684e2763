"""What a node can be asked, whether it runs in this process or behind HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Generic, Protocol, TypeVar

import msgspec

from groundswell.model import Id, Key, Write
from groundswell.store import Outcome
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
    ReadOptions,
    StatusAnswer,
    StreamEvent,
    TrendingAnswer,
    TrendingQuery,
)

T = TypeVar("T")


class Reply(msgspec.Struct, Generic[T], frozen=True):
    """An answer, and the session token that covers it and all that was sent with the call."""

    answer: T
    token: str | None  # None: no token was sent, and nothing was learnt


class Api(Protocol):
    """One node. `tokens` is the text of a session header: none, one, or several with commas.

    Every method may raise BadRequest and its subclasses, Unavailable and its subclasses; ids that do
    not fit the kind are a BadRequest, an undeclared kind is UnknownKind.
    """

    async def write(
        self, writes: Sequence[Write], *, atomic: bool = False, tokens: str | None = None
    ) -> Reply[list[Outcome]]:
        """Durable once it returns. Refusals are outcomes here, not errors."""

    async def count(
        self, kind: str, target: Id, options: ReadOptions, tokens: str | None = None
    ) -> Reply[CountAnswer]:
        """One count."""

    async def counts(
        self, keys: Sequence[Key], options: ReadOptions, tokens: str | None = None
    ) -> Reply[CountsAnswer]:
        """Up to 1,000 counts, all at one revision; the strictest level of their kinds, if none is named."""

    async def rating(
        self, kind: str, target: Id, options: ReadOptions, tokens: str | None = None
    ) -> Reply[RatingAnswer]:
        """Count, sum, average and histogram of a kind with values; BadRequest for another."""

    async def page(
        self,
        keys: Sequence[Key],
        options: ReadOptions,
        tokens: str | None = None,
        *,
        viewer: Id | None = None,
        newest: int = 3,
    ) -> Reply[PageAnswer]:
        """Up to 200 counts, each with up to 50 of its newest edges and whether `viewer` has one.

        All at one revision; the strictest level of their kinds, if none is named.
        """

    async def edge(
        self,
        kind: str,
        target: Id,
        source: Id,
        options: ReadOptions,
        tokens: str | None = None,
    ) -> Reply[EdgeAnswer]:
        """One edge; EdgeNotFound."""

    async def edges(
        self,
        kind: str,
        *,
        target: Id | None = None,
        source: Id | None = None,
        query: ListQuery,
        tokens: str | None = None,
    ) -> Reply[EdgesAnswer]:
        """Who did `kind` to `target`, or what `source` did: exactly one of them."""

    async def object(
        self, id_: str, options: ReadOptions, tokens: str | None = None
    ) -> Reply[ObjectAnswer]:
        """One object; ObjectNotFound."""

    async def account(
        self, id_: str, options: ReadOptions, tokens: str | None = None
    ) -> Reply[AccountAnswer]:
        """One account, linearizable if no level is named; AccountNotFound."""

    async def movement(self, id_: str, tokens: str | None = None) -> Reply[MovementAnswer]:
        """One transfer as it is now; TransferNotFound."""

    async def movements(
        self, account: str, query: HistoryQuery, tokens: str | None = None
    ) -> Reply[MovementsAnswer]:
        """The transfers from and to an account as they are now; of an unknown one none."""

    async def trending(
        self, kind: str, query: TrendingQuery, tokens: str | None = None
    ) -> Reply[TrendingAnswer]:
        """What grew most lately, as this node has seen it: at `eventual`."""

    def stream(self, keys: Sequence[Key]) -> AsyncGenerator[StreamEvent, None]:
        """Up to 100 counts now, then those that change: at `eventual`, never going backwards.

        Ends when the node stops. Overloaded where too many are open.
        """

    async def status(self) -> StatusAnswer:
        """Where the node stands."""
