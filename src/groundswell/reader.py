"""Executes what `choose` decides: reads from a replica, waits for one, or goes to the primary."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

import msgspec

from groundswell.consistency import Elsewhere, Level, Serve, Standing, choose
from groundswell.errors import BadToken, ReplicaLate
from groundswell.fills import Fills
from groundswell.model import Counter, Document, Key
from groundswell.replica import Held, Replica
from groundswell.revision import NOTHING, Revision, SessionToken
from groundswell.rollup import RollupWorker
from groundswell.store import Store
from groundswell.telemetry import Telemetry

PRIMARY: Final = "primary"

T = TypeVar("T")
Pending = dict[Key, tuple[int, int]]


class Want(msgspec.Struct, frozen=True):
    """What a read asks for."""

    level: Level
    max_age_s: float | None = None
    wait_s: float = 0.1
    primary: bool = True  # whether it may fall back to the primary


class Served(msgspec.Struct, Generic[T], frozen=True):
    """What a read got, and how."""

    rows: list[T]
    served_by: str
    age_s: float  # everything acknowledged longer ago than this is in it; inf: not known
    waited_s: float
    revision: Revision  # the state it shows
    pending: Pending = {}  # own writes to be added to it


class Reader:
    """Serves reads at a level, or refuses them; never less than was asked for (rule R6)."""

    def __init__(
        self,
        store: Store,
        replicas: Sequence[Replica],
        worker: RollupWorker,
        telemetry: Telemetry,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._store = store
        self._replicas = replicas
        self._worker = worker
        self._telemetry = telemetry
        self._fills = Fills(store)
        self._turns = itertools.count()
        self._moved = asyncio.Event()
        self._known = NOTHING  # the newest state of the store that this reader has heard of
        self._reads = {
            (level, name): telemetry.reads.labels(level, name)
            for level in Level
            for name in [PRIMARY, *(replica.name for replica in replicas)]
        }

    def moved(self) -> None:
        """A replica has moved on: reads that wait look again."""
        self._moved.set()
        self._moved = asyncio.Event()

    def heard(self, revision: Revision) -> None:
        """The store stands at `revision`, or beyond: tokens may speak of what is in it."""
        self._known = revision

    async def check(self, token: SessionToken | None) -> None:
        """Raise BadToken where it speaks of what the store has never seen.

        The store is asked only where nobody has told of a state that is new enough.
        """
        if (
            token is None
            or token.epoch != self._store.epoch
            or not token.claims_beyond(self._known)
        ):
            return
        self._known = (await self._store.head()).revision
        if token.claims_beyond(self._known):
            raise BadToken(
                "The session token speaks of writes that this store has never seen; nothing was "
                "changed. Start a new session."
            )

    async def counters(
        self, keys: Sequence[Key], want: Want, token: SessionToken | None
    ) -> Served[Counter]:
        """Counters, all in one state, own writes on top where `pending` says so.

        Raises ReplicaLate, StoreUnavailable or BadToken.
        """

        async def from_replica(decision: Serve, chosen: Standing) -> Served[Counter] | None:
            replica = self._replicas[decision.replica]
            held = await self._fills.counters(replica, keys)
            if held is None or not self._still(decision, chosen, held.standing, want, token):
                return None
            standing, rows = held.standing, _all(held)
            if not decision.overlay or token is None:
                return self._served(rows, replica, standing)
            pending = token.pending(standing.revision)
            if _impossible(keys, rows, pending):
                return None
            return self._served(rows, replica, standing, pending)

        async def from_primary() -> Served[Counter]:
            await self._worker.cover()
            read = await self._store.counters(keys)
            return Served([row.counter for row in read.rows], PRIMARY, 0.0, 0.0, read.revision)

        return await self._read(want, token, from_replica, from_primary, additive=True)

    async def documents(
        self, ids: Sequence[str], want: Want, token: SessionToken | None
    ) -> Served[Document | None]:
        """Objects, all in one state; the same errors as for counters."""

        async def from_replica(decision: Serve, chosen: Standing) -> Served[Document | None] | None:
            replica = self._replicas[decision.replica]
            held = await self._fills.documents(replica, ids)
            if held is None or not self._still(decision, chosen, held.standing, want, token):
                return None
            return self._served([*held.rows], replica, held.standing)

        async def from_primary() -> Served[Document | None]:
            read = await self._store.documents(ids)
            return Served(list(read.rows), PRIMARY, 0.0, 0.0, read.revision)

        return await self._read(want, token, from_replica, from_primary, additive=False)

    async def _read(
        self,
        want: Want,
        token: SessionToken | None,
        from_replica: Callable[[Serve, Standing], Awaitable[Served[T] | None]],
        from_primary: Callable[[], Awaitable[Served[T]]],
        *,
        additive: bool,
    ) -> Served[T]:
        began_s = now_s = self._clock()
        while True:
            moved = self._moved
            standings = [replica.standing for replica in self._replicas]
            decision = choose(
                want.level,
                token,
                standings,
                turn=next(self._turns),
                now_s=now_s,
                additive=additive,
                max_age_s=want.max_age_s,
            )
            if isinstance(decision, Serve):
                if decision.overlay:
                    await self.check(token)
                served = await from_replica(decision, standings[decision.replica])
                if served is not None:
                    return self._count(
                        want, served, self._clock() - began_s, waited=now_s > began_s
                    )
                # It can neither hold these rows nor fill them where it stands, or the own writes
                # undo something that it does not show yet: another replica, or the same one later.
                additive = additive and not decision.overlay
            await self.check(token)
            left_s = began_s + want.wait_s - self._clock()
            if decision is Elsewhere.PRIMARY or left_s <= 0:
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await moved.wait()
            now_s = self._clock()
        if want.level is not Level.LINEARIZABLE and not want.primary:
            self._telemetry.late.labels(want.level).inc()
            raise ReplicaLate(
                f"No replica could serve this read at {want.level} within {want.wait_s * 1000:.0f} ms. "
                "Allow more wait_ms, or the fallback to the primary."
            )
        if want.level is not Level.LINEARIZABLE:
            self._telemetry.fallbacks.labels(want.level).inc()
        served = await from_primary()
        return self._count(want, served, self._clock() - began_s, waited=now_s > began_s)

    def _still(
        self,
        decision: Serve,
        chosen: Standing,
        standing: Standing,
        want: Want,
        token: SessionToken | None,
    ) -> bool:
        """Whether what was decided for the state `chosen` holds for the one that answers.

        While the rows were filled the replica may have begun anew, in another epoch, or grown too old.
        """
        if standing is chosen and want.max_age_s is None:
            return True
        decided = choose(
            want.level,
            token,
            (standing,),
            turn=0,
            now_s=self._clock(),
            additive=decision.overlay,
            max_age_s=want.max_age_s,
        )
        return isinstance(decided, Serve)

    def _served(
        self, rows: list[T], replica: Replica, standing: Standing, pending: Pending | None = None
    ) -> Served[T]:
        age_s = self._clock() - standing.fresh_at_s
        return Served(rows, replica.name, age_s, 0.0, standing.revision, pending or {})

    def _count(self, want: Want, served: Served[T], took_s: float, *, waited: bool) -> Served[T]:
        self._reads[want.level, served.served_by].inc()
        if not waited:
            return served
        self._telemetry.waits.labels(want.level).inc()
        return msgspec.structs.replace(served, waited_s=took_s)


def _all(held: Held[T]) -> list[T]:
    return [row for row in held.rows if row is not None]


def _impossible(keys: Sequence[Key], rows: Sequence[Counter], pending: Pending) -> bool:
    """Whether the own writes remove, or give another value to, edges that the state does not even show."""
    for key, row in zip(keys, rows, strict=True):
        count, sum_ = pending.get(key, (0, 0))
        if row.count + count < 0 or (row.count + count == 0 and row.sum + sum_ != 0):
            return True
    return False
