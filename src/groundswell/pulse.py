"""The pulse of a node: what it does and what its replicas show, ten times a second, for whoever watches."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from groundswell.answers import age_ms
from groundswell.errors import Overloaded, ReplicaUnavailable, StoreUnavailable
from groundswell.fills import Fills
from groundswell.follower import Follower
from groundswell.model import Key
from groundswell.store import Source, Store
from groundswell.telemetry import Telemetry
from groundswell.wire import PulseEvent, PulseReplica

BEAT_S: Final = 0.1
STORE_BEATS: Final = 5  # beats between two questions to the store
WATCHERS_MAX: Final = 100
FILL_S: Final = 1.0  # between two tries to fill a replica, which may stand too far back for it

Place = tuple[str, Key]  # a count on a replica

_encode: Final = msgspec.json.Encoder().encode


class Watcher:
    """Somebody who watches one key; whoever is slow misses beats, and gets the newest."""

    def __init__(self, pulse: Pulse, key: Key) -> None:
        self.key = key
        self.closed = asyncio.Event()
        self._pulse = pulse
        self._beat: bytes | None = None
        self._wake = asyncio.Event()

    def tell(self, beat: bytes | None) -> None:
        """The newest beat, encoded; None only wakes it up."""
        self._beat = beat
        self._wake.set()

    async def next(self) -> bytes | None:
        """The next beat, a `PulseEvent` as JSON; None at the end."""
        while not self.closed.is_set():
            beat, self._beat = self._beat, None
            if beat is not None:
                return beat
            self._wake.clear()
            await self._wake.wait()
        return None

    def close(self) -> None:
        """Let go; calling it twice does nothing."""
        self.closed.set()
        self.tell(None)
        self._pulse.leave(self)


class Pulse:
    """Looks at the node only while somebody watches; all who watch the same key share every look.

    So that a page more costs little beyond sending what has been looked up and encoded already.
    """

    def __init__(
        self,
        store: Store,
        source: Source,
        followers: Sequence[Follower],
        telemetry: Telemetry,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`source` is where replicas are filled from."""
        self._store = store
        self._fills = Fills(source)
        self._followers = followers
        self._telemetry = telemetry
        self._clock = clock
        self._began_s = clock()
        self._watchers: set[Watcher] = set()
        self._arrived = asyncio.Event()
        self._closed = False
        # Rollup and backlog of the store.
        self._standing: tuple[int | None, int | None] = (None, None)
        self._filling: dict[Place, asyncio.Task[None]] = {}
        self._filled: dict[Place, int] = {}  # what was found by it

    def __len__(self) -> int:
        return len(self._watchers)

    def open(self, key: Key) -> Watcher:
        """A watcher of this key, to be closed by whoever asks. Raises Overloaded."""
        if self._closed:
            raise Overloaded("This node is about to stop; ask another one.")
        if len(self._watchers) >= WATCHERS_MAX:
            raise Overloaded(
                f"{WATCHERS_MAX} watch this node, which is its limit; ask another one, or later."
            )
        watcher = Watcher(self, key)
        self._watchers.add(watcher)
        self._arrived.set()
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Tell it no more."""
        self._watchers.discard(watcher)

    def close(self) -> None:
        """End all, and begin no more."""
        self._closed = True
        for watcher in list(self._watchers):
            watcher.close()
        for filling in self._filling.values():
            filling.cancel()

    async def run(self) -> None:
        """Beat until cancelled, whenever somebody watches."""
        while True:
            await self._arrived.wait()
            due_s = self._clock()
            for number in self._while_watched():
                if number % STORE_BEATS == 0:
                    self._standing = await self._ask()
                self.beat()
                now_s = self._clock()
                due_s = max(due_s + BEAT_S, now_s)  # what was missed is not made up for
                await asyncio.sleep(due_s - now_s)

    def _while_watched(self) -> Iterator[int]:
        for number in itertools.count():
            if not self._watchers:
                self._arrived.clear()
                return
            yield number

    async def _ask(self) -> tuple[int | None, int | None]:
        """The newest rollup and the backlog, of a store that may be away."""
        with contextlib.suppress(StoreUnavailable):
            backlog = await self._store.backlog()
            return (await self._store.head()).rollup, backlog
        return None, None

    def beat(self) -> None:
        """Look once, and tell everybody."""
        beats: dict[Key, bytes] = {}
        for watcher in self._watchers:
            if watcher.key not in beats:
                beats[watcher.key] = _encode(self._look(watcher.key))
            watcher.tell(beats[watcher.key])

    def _look(self, key: Key) -> PulseEvent:
        now_s = self._clock()
        writes, _ = self._telemetry.observed(self._telemetry.commit_writes)
        events, rollups = self._telemetry.observed(self._telemetry.rollup_events)
        rollup, backlog = self._standing
        return PulseEvent(
            uptime_ms=round((now_s - self._began_s) * 1000, 1),
            writes=writes,
            rollups=rollups,
            events=events,
            rollup=rollup,
            backlog=backlog,
            replicas=[self._replica(follower, key, now_s) for follower in self._followers],
        )

    def _replica(self, follower: Follower, key: Key, now_s: float) -> PulseReplica:
        replica = follower.replica
        return PulseReplica(
            replica.name,
            replica.standing.rollup,
            self._count(follower, key),
            age_ms(now_s - replica.standing.fresh_at_s),
            follower.delay_s * 1000,
            follower.following,
        )

    def _count(self, follower: Follower, key: Key) -> int | None:
        """As the replica shows it now, or did within `FILL_S` where its rows are elsewhere.

        It is filled in the background where it does not hold it.
        """
        replica = follower.replica
        [row] = replica.peek([key])
        if row is not None:
            return row.count
        place = replica.name, key
        if place not in self._filling:
            self._filling[place] = asyncio.create_task(self._fill(place, follower))
        return self._filled.get(place)

    async def _fill(self, place: Place, follower: Follower) -> None:
        try:
            with contextlib.suppress(StoreUnavailable, ReplicaUnavailable):
                held = await self._fills.counters(follower.replica, [place[1]])
                if held is not None and held.rows[0] is not None:
                    self._filled[place] = held.rows[0].count
            await asyncio.sleep(FILL_S)
        finally:
            self._filled.pop(place, None)
            del self._filling[place]
