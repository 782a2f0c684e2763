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
    row that it holds is never older or newer than its standing.
    """

    name: str
    standing: Standing

    def apply(self, rollup: Rollup) -> None:
        """Move on by the next rollup, for all keys at once; rollups already applied change nothing."""

    def reset(self, epoch: int, at: Rollup) -> None:
        """Forget all rows and stand at this rollup: there is no way to it step by step."""

    def certify(self, fresh_at_s: float) -> None:
        """Note that at this monotonic time nothing existed that it does not show."""

    async def counters(self, keys: Sequence[Key]) -> Held[Counter]:
        """These counters."""

    def peek(self, keys: Sequence[Key]) -> list[Counter | None]:
        """What it holds of these counters, at once, and without taking it for a use of them."""

    async def documents(self, ids: Sequence[str]) -> Held[Document]:
        """These objects; deleted ones, and those that do not exist, with `data` None."""

    async def items(self, sights: Sequence[Sight]) -> Held[Item]:
        """These items: counters with newest edges and single edges, each whole or not at all."""

    def fill_counters(self, keys: Sequence[Key], read: Counters) -> None:
        """Take over rows read from the store, as far as they are valid where the replica stands.

        A row is valid if it did not change after the replica's rollup, and the replica has not moved
        past the state it was read in: else the feed has brought, or will bring, a newer one.
        """

    def fill_documents(self, ids: Sequence[str], read: Documents) -> None:
        """The same for objects."""

    def fill_items(self, sights: Sequence[Sight], read: Items) -> None:
        """The same for items, whose edges are as they were when they were read, not at its rollup.

        So edges are valid only if, beside that, nothing about their key was waiting for a rollup.
        """
