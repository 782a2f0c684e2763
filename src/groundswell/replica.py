"""The contract of a replica: a copy of counts and objects that stands at some revision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

import msgspec

from groundswell.consistency import Standing
from groundswell.model import Counter, Document, Key
from groundswell.store import Counters, Documents, Item, Items, Rollup, Sight

T = TypeVar("T")


class Held(msgspec.Struct, Generic[T], frozen=True):
    """What a replica holds of what it was asked for; all rows belong to the one standing."""

    standing: Standing
    rows: list[T | None]  # as asked, in order; None: not held, and says nothing about the store


class Replica(Protocol):
    """A consistent prefix: exactly the effect of the transactions in its revision (rule R4).

    It may forget rows to stay within its memory, and gets them back by being filled from the store. A
    row that it shows is never older or newer than the standing that it shows it with.

    Rows may be kept elsewhere, shared with other nodes, and then move on before `standing` does: what is
    read says itself where it stands. What has to be waited for is in methods that may raise
    ReplicaUnavailable where they say so.
    """

    name: str
    standing: Standing  # rows are of this rollup or a later one, unless they were lost
    away: bool  # its rows cannot be reached now; whoever reads had better go elsewhere

    async def reach(self, epoch: int, number: int) -> None:
        """Return when its rows are of this rollup or a later one, so that `apply` or `reset` can follow.

        They do not wait, so that nothing else happens meanwhile. Where rows are kept in this process
        there is nothing to do before. Raises ReplicaUnavailable, StoreUnavailable.
        """

    def apply(self, rollup: Rollup) -> None:
        """Move on by the next rollup, for all keys at once; rollups already applied change nothing."""

    def reset(self, epoch: int, at: Rollup) -> None:
        """Forget all rows and stand at this rollup: there is no way to it step by step."""

    def certify(self, fresh_at_s: float) -> None:
        """Note that at this monotonic time nothing existed that it does not show."""

    async def counters(self, keys: Sequence[Key]) -> Held[Counter]:
        """These counters. This and the two below may raise ReplicaUnavailable."""

    def peek(self, keys: Sequence[Key]) -> list[Counter | None]:
        """What it holds of these counters, at once, and without taking it for a use of them."""

    async def documents(self, ids: Sequence[str]) -> Held[Document]:
        """These objects; deleted ones, and those that do not exist, with `data` None."""

    async def items(self, sights: Sequence[Sight]) -> Held[Item]:
        """These items: counters with newest edges and single edges, each whole or not at all."""

    async def fill_counters(self, keys: Sequence[Key], read: Counters) -> None:
        """Take over rows read from the store, as far as they are valid where the replica stands.

        A row is valid if it did not change after the replica's rollup, and the replica has not moved
        past the state it was read in: else the feed has brought, or will bring, a newer one. Where rows
        cannot be kept now, nothing happens.
        """

    async def fill_documents(self, ids: Sequence[str], read: Documents) -> None:
        """The same for objects."""

    async def fill_items(self, sights: Sequence[Sight], read: Items) -> None:
        """The same for items, whose edges are as they were when they were read, not at its rollup.

        So edges are valid only if, beside that, nothing about their key was waiting for a rollup.
        """
