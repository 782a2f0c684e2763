"""Streams of counts: each follows one replica, and tells the newest counts of some keys as they change."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Sequence
from typing import Final

import msgspec

from groundswell.consistency import Standing
from groundswell.errors import BadRequest, Overloaded, ReplicaUnavailable, StoreUnavailable
from groundswell.fills import Fills
from groundswell.model import Counter, Key
from groundswell.replica import Replica
from groundswell.store import CountChange, Rollup, Source, Store

RESUME_CHANGES_MAX: Final = 1_000  # of the feed, looked through for one that comes back
RETRY_S: Final = 0.05  # after a fill that the feed overtook, or while the replica has to catch up


class Place(msgspec.Struct, frozen=True, order=True):
    """Where a stream stands: what it has shown includes this rollup of this epoch."""

    epoch: int
    rollup: int

    @classmethod
    def of(cls, standing: Standing) -> Place:
        """Where a replica stands."""
        return cls(standing.epoch, standing.rollup)

    def encode(self) -> str:
        """As the id of an event."""
        return f"{self.epoch}-{self.rollup}"

    @classmethod
    def decode(cls, text: str) -> Place:
        """The place that `encode` wrote; raises BadRequest for anything else."""
        epoch, _, rollup = text.partition("-")
        if not all(n.isascii() and n.isdigit() and len(n) < 20 for n in (epoch, rollup)):
            raise BadRequest(f"{text!r:.60} is not the id of an event of a stream.")
        return cls(int(epoch), int(rollup))


class News(msgspec.Struct, frozen=True):
    """New counts, all as the replica shows them at one standing."""

    rows: dict[Key, Counter]  # those that changed; all keys when the stream (or the replica) begins
    standing: Standing

    @property
    def place(self) -> Place:
        """What a stream that goes on from here has to name."""
        return Place.of(self.standing)


class Stream:
    """The counts of some keys as one replica shows them, never going backwards.

    Holds at most one count per key: whoever is slow to ask for the next news gets the newest states,
    and not those in between. Counts are absolute, so nothing is lost by that.
    """

    def __init__(self, room: Room, keys: Sequence[Key]) -> None:
        self.keys = keys
        self.closed = asyncio.Event()
        self._room = room
        self._changed: dict[Key, tuple[int, Counter]] = {}  # with the rollup that brought it
        self._all = True  # whether all counts are to be told, changed or not
        self._from = Place(0, 0)  # nothing is told until the replica has come so far
        # The rollup at which all counts were told: rows may be ahead of the replica.
        self._shown = 0
        self._wake = asyncio.Event()
        self._ahead: News | None = None
        room.enter(self)

    @property
    def served_by(self) -> str:
        """The name of the replica that it follows."""
        return self._room.replica.name

    def take(self, number: int, change: CountChange) -> None:
        """The count of a key has changed."""
        if number <= self._shown:
            return
        counter = Counter(change.count, change.sum)
        self._changed[change.kind, change.target] = (number, counter)
        self._wake.set()

    def begin_anew(self) -> None:
        """The replica stands elsewhere now: all counts have to be told again."""
        self._all = True
        self._shown = 0
        self._changed.clear()
        self._wake.set()

    async def begin(self, after: Place | None, source: Source, store: Store) -> None:
        """Find out what is to be told first: all counts, or what changed `after`."""
        if after is not None:
            self._all = False  # until it begins anew, perhaps while this waits
            missed = await self._missed(after, source, store)
            if missed is None or self._all:
                self._all = True
            else:
                self._changed = missed | self._changed
        if self._all:
            with contextlib.suppress(ReplicaUnavailable):  # it is told when it is back
                self._ahead = await self._whole()

    async def _missed(
        self, after: Place, source: Source, store: Store
    ) -> dict[Key, tuple[int, Counter]] | None:
        """What the feed brought after that place, up to where this stream began; None: not known."""
        at = Place.of(self._room.replica.standing)
        if after > at:
            head = await store.head()  # not a standby, which may know less than the client
            if after <= Place(head.epoch, head.rollup):
                self._from = after
        if after.epoch != at.epoch or after > at:
            return None
        if after == at:
            return {}
        feed = await source.feed(after.rollup, RESUME_CHANGES_MAX)
        if feed.epoch != at.epoch or feed.behind or after.rollup + len(feed.rollups) < at.rollup:
            return None  # no longer kept, or too much to look through: all counts are less
        missed = {
            (change.kind, change.target): (rollup.number, Counter(change.count, change.sum))
            for rollup in feed.rollups
            if rollup.number <= at.rollup  # what is later is told to this stream
            for change in rollup.counts
        }
        return {key: missed[key] for key in self.keys if key in missed}

    async def next(self) -> News | None:
        """The next news; None at the end. May be cancelled and called again, and nothing is lost."""
        while not self.closed.is_set():
            self._wake.clear()
            try:
                news = await self._whole() if self._all or self._ahead else self._changes()
            except (StoreUnavailable, ReplicaUnavailable):
                news = None  # the replica has begun anew, and cannot be filled, or read, yet
            if news is not None:
                return news
            if self._all:
                await asyncio.sleep(RETRY_S)
            else:
                await self._wake.wait()
        return None

    def _changes(self) -> News | None:
        changed, self._changed = self._changed, {}
        if not changed:
            return None
        rows = {key: counter for key, (_, counter) in changed.items()}
        return News(rows, self._room.replica.standing)

    async def _whole(self) -> News | None:
        """All counts; None while the replica cannot show them at a standing that may be told."""
        if self._ahead is not None:
            news, self._ahead = self._ahead, None
            return news
        self._all = False  # until it begins anew, perhaps while this waits
        held = None
        try:
            held = await self._room.fills.counters(self._room.replica, self.keys)
        finally:
            anew, self._all = self._all, True
        if held is None or anew or Place.of(held.standing) < self._from:
            return None
        self._all = False
        self._shown = held.standing.rollup
        rows = {key: row for key, row in zip(self.keys, held.rows, strict=True) if row is not None}
        self._changed = {
            key: (number, counter)
            for key, (number, counter) in self._changed.items()
            if number > held.standing.rollup
        }
        return News(rows, held.standing)

    def close(self) -> None:
        """Let go; calling it twice does nothing."""
        self.closed.set()
        self._wake.set()
        self._room.leave(self)


class Room:
    """The streams that follow one replica (see `follower.Watch`)."""

    def __init__(self, replica: Replica, fills: Fills) -> None:
        self.replica = replica
        self.fills = fills
        self.streams: set[Stream] = set()
        self._watching: dict[Key, set[Stream]] = {}

    def coming(self, rollup: Rollup) -> None:
        """See `follower.Watch`."""
        if not self._watching:
            return
        for change in rollup.counts:
            for stream in self._watching.get((change.kind, change.target), ()):
                stream.take(rollup.number, change)

    def anew(self) -> None:
        """See `follower.Watch`."""
        for stream in self.streams:
            stream.begin_anew()

    def enter(self, stream: Stream) -> None:
        """Tell it of its keys from now on."""
        self.streams.add(stream)
        for key in stream.keys:
            self._watching.setdefault(key, set()).add(stream)

    def leave(self, stream: Stream) -> None:
        """No longer."""
        self.streams.discard(stream)
        for key in stream.keys:
            watching = self._watching.get(key, set())
            watching.discard(stream)
            if not watching:
                self._watching.pop(key, None)


class Streams:
    """The streams of one node, a limited number of them."""

    def __init__(
        self, store: Store, source: Source, replicas: Sequence[Replica], *, streams_max: int
    ) -> None:
        """`source` is where replicas are fed and filled from: the store, or a standby of it."""
        self._store = store
        self._source = source
        self.max = streams_max
        fills = Fills(source)
        #: One per replica, in order.
        self.rooms = [Room(replica, fills) for replica in replicas]
        self._turns = itertools.count()
        self._closed = False

    def __len__(self) -> int:
        return sum(len(room.streams) for room in self.rooms)

    async def open(self, keys: Sequence[Key], after: Place | None) -> Stream:
        """A stream of these counts, which goes on after that place; to be closed by whoever asks.

        Raises Overloaded, StoreUnavailable.
        """
        if self._closed:
            raise Overloaded("This node is about to stop; ask another one.")
        if len(self) >= self.max:
            raise Overloaded(
                f"{self.max} streams are open on this node, which is its limit; ask another one, or later."
            )
        stream = Stream(self._room(after), keys)
        try:
            await stream.begin(after, self._source, self._store)
        except BaseException:
            stream.close()
            raise
        return stream

    def _room(self, after: Place | None) -> Room:
        """The next in turn; for one that comes back, among those that need not catch up with it."""
        rooms = [room for room in self.rooms if not room.replica.away] or self.rooms
        if after is not None:
            rooms = [room for room in rooms if Place.of(room.replica.standing) >= after]
            rooms = rooms or [max(self.rooms, key=lambda room: Place.of(room.replica.standing))]
        return rooms[next(self._turns) % len(rooms)]

    def close(self) -> None:
        """End all streams, and begin no more."""
        self._closed = True
        for room in self.rooms:
            for stream in list(room.streams):
                stream.close()
