"""Sessions that read at one level during the spike, and what goes wrong for them."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Final, TypeVar

from groundswell.demo.tally import Tally
from groundswell.demo.truth import Truth
from groundswell.demo.writers import PARCEL, insist, object_id
from groundswell.errors import ObjectNotFound, Unavailable
from groundswell.model import Level
from groundswell.results import Count
from groundswell.session import Groundswell

SESSIONS: Final = 3  # per level
THINK_S: Final = 0.004  # between two steps of a session
RECENT: Final = 400  # replies among which a reader looks

T = TypeVar("T")
Seen = Callable[[Count], None]


class Reader:
    """One session at one level: refreshes a count, reviews, tracks a parcel, follows a discussion.

    A read is stale if it began after a write had been acknowledged and does not show it.
    """

    def __init__(
        self,
        gs: Groundswell,
        level: Level,
        number: int,
        truth: Truth,
        tally: Tally,
        *,
        seed: int,
        seen: Seen,
    ) -> None:
        self._session = gs.session()
        self._level = level
        self._truth = truth
        self._tally = tally
        self._rng = random.Random(f"{seed} {level} {number}")
        self._seen = seen
        #: Something that only this session writes to.
        self._own = 1_000_000 + 100 * list(Level).index(level) + number
        self._reviews = 0
        self._highest = 0  # of the hottest count
        self._parcel = 0  # newest version of the parcel seen

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            for story in (self._refresh, self._track, self._review, self._note, self._follow):
                with contextlib.suppress(Unavailable):  # a refusal shows nothing that is wrong
                    await story()
                await asyncio.sleep(THINK_S)

    async def _refresh(self) -> None:
        """Story of the goalkeeper: a count that only grows, looked at again."""
        kind, target = self._truth.hottest
        acknowledged = self._truth.acknowledged[kind, target]
        count = await self._tally.timed(self._session.count(kind, target, level=self._level))
        self._tally.went_backwards += count.value < self._highest
        self._tally.stale_reads += count.value < acknowledged
        self._highest = max(self._highest, count.value)
        self._seen(count)

    async def _track(self) -> None:
        """Story of the parcel: its status must not travel back in time."""
        acknowledged = self._truth.parcel
        version = await self._version(PARCEL)
        self._tally.went_backwards += version < self._parcel
        self._tally.stale_reads += version < acknowledged
        self._parcel = max(self._parcel, version)

    async def _review(self) -> None:
        """Story of the review: I wrote one, the count must have it."""
        self._reviews += 1
        value = self._rng.randint(1, 5)
        await insist(lambda: self._session.add("review", self._own, self._reviews, value=value))
        count = await self._tally.timed(self._session.count("review", self._own, level=self._level))
        self._tally.missed_own_write += count.value < self._reviews
        self._tally.stale_reads += count.value < self._reviews

    async def _note(self) -> None:
        """The same with the text of it: the refreshed page must show what I saved."""
        id_ = f"review-{self._own}"
        saved = await self._session.put(id_, "review", {"text": f"edit {self._reviews}"})
        version = await self._version(id_)
        self._tally.missed_own_write += version < saved
        self._tally.stale_reads += version < saved

    async def _follow(self) -> None:
        """Story of the thread: whoever sees a reply must see what it replies to."""
        sent = len(self._truth.replies)
        if not sent:
            return
        index = self._rng.randrange(max(sent - RECENT, 0), sent)
        acknowledged = index < self._truth.replies_acknowledged
        reply = self._truth.replies[index]
        if await self._version(object_id(reply.id)):
            question = await self._version(object_id(reply.parent))
            self._tally.reply_before_question += not question
            self._tally.stale_reads += acknowledged and not question
        else:
            self._tally.stale_reads += acknowledged

    async def _version(self, id_: str) -> int:
        """The version of an object as this session sees it; 0 where it sees none."""
        try:
            return (await self._tally.timed(self._session.get(id_, level=self._level))).version
        except ObjectNotFound:
            return 0
