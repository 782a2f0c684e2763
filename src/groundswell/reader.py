"""Executes what `choose` decides: reads from a replica, waits for one, or goes to the primary."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec

from groundswell.consistency import Elsewhere, Level, Serve, Standing, choose
from groundswell.current import Current
from groundswell.errors import BadToken, ReplicaLate, ReplicaUnavailable
from groundswell.fills import Fills
from groundswell.model import Counter, Document, Key
from groundswell.pages import Pages
from groundswell.replica import Held, Replica
from groundswell.revision import NOTHING, Revision, SessionToken
from groundswell.rollup import RollupWorker
from groundswell.store import Item, Sight, Source, Store
from groundswell.telemetry import Telemetry

PRIMARY: Final = "primary"
LEFT_OUT: Final = 7  # one turn after so many

K = TypeVar("K")
T = TypeVar("T")
Pending = dict[Key, tuple[int, int]]

_NONE: Final[Pending] = {}


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
    pending: Pending = _NONE  # own writes to be added to it


class Reader:
    """Serves reads at a level, or refuses them; never less than was asked for (rule R6)."""

    def __init__(
        self,
        store: Store,
        replicas: Sequence[Replica],
        worker: RollupWorker,
        telemetry: Telemetry,
        *,
        source: Source | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`source` is where replicas are filled from, if not from the store itself."""
        self._clock = clock
        self._store = store
        self._replicas = replicas
        self._telemetry = telemetry
        self._fills = Fills(source or store)
        self._current = Current(store, worker)
        self._pages = Pages(store, replicas, worker)
        # Replicas take turns. With a turn left out now and then, a page that asks in a rhythm of its own
        # does not find each of its figures on the same replica for ever.
        self._turns = (turn + turn // LEFT_OUT for turn in itertools.count())
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

    def counters(
        self, keys: Sequence[Key], want: Want, token: SessionToken | None
    ) -> Coroutine[Any, Any, Served[Counter]]:
        """Counters, all in one state, own writes on top where `pending` says so.

        Raises ReplicaLate, StoreUnavailable or BadToken.
        """
        return self._read(
            keys, want, token, self._fills.counters, self._current.counters, additive=True
        )

    def documents(
        self, ids: Sequence[str], want: Want, token: SessionToken | None
    ) -> Coroutine[Any, Any, Served[Document]]:
        """Objects, those that do not exist with `data` None; the same errors as for counters."""
        return self._read(
            ids, want, token, self._fills.documents, self._current.documents, additive=False
        )

    def items(
        self, sights: Sequence[Sight], want: Want, token: SessionToken | None
    ) -> Coroutine[Any, Any, Served[Item]]:
        """Items of a page, all in one state; the same errors as for counters.

        Own writes cannot be added on top of lists: what serves has to show them. Where a replica lacks
        items, the read that would fill it answers at once, if the primary may.
        """
        held = self._pages.held if want.primary else self._pages.filled
        return self._read(
            sights,
            want,
            token,
            held,
            self._pages.current,
            additive=False,
            patient=not want.primary,
        )

    async def _read(
        self,
        keys: Sequence[K],
        want: Want,
        token: SessionToken | None,
        get: Callable[[Replica, Sequence[K]], Awaitable[Held[T] | None]],
        primary: Callable[[Sequence[K]], Awaitable[tuple[list[T], Revision]]],
        *,
        additive: bool,
        patient: bool = True,
    ) -> Served[T]:
        """`patient` says to wait for a replica that has the rows, and not only for one that qualifies."""
        began_s = now_s = self._clock()
        failed: list[Replica] = []
        while True:
            moved = self._moved
            replicas, standings = self._there(failed)
            decision = choose(
                want.level,
                token,
                standings,
                epoch=self._store.epoch,
                turn=next(self._turns),
                now_s=now_s,
                additive=additive,
                max_age_s=want.max_age_s,
            )
            if isinstance(decision, Serve):
                if decision.overlay:
                    await self.check(token)
                replica, chosen = replicas[decision.replica], standings[decision.replica]
                try:
                    held = await get(replica, keys)
                except ReplicaUnavailable:
                    failed.append(replica)
                    continue  # at once, to those that are there
                if held is not None and self._still(decision, chosen, held.standing, want, token):
                    pending = _pending(held, token) if decision.overlay else _NONE
                    if not pending or not _impossible(keys, held.rows, pending):
                        waited_s = self._waited(began_s, now_s)
                        return self._served(want, replica, held, waited_s, pending)
                # It can neither hold these rows nor fill them where it stands, or the own writes
                # undo something that it does not show yet: another replica, or the same one later.
                additive = additive and not decision.overlay
            await self.check(token)
            left_s = began_s + want.wait_s - self._clock()
            if decision is Elsewhere.PRIMARY or left_s <= 0:
                break
            if not patient and decision is not Elsewhere.WAIT:
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await moved.wait()
            now_s = self._clock()
        self._fall_back(want)
        rows, revision = await primary(keys)
        waited_s = self._waited(began_s, now_s)
        self._count(want, PRIMARY, waited_s)
        return Served(rows, PRIMARY, 0.0, waited_s, revision)

    def _there(self, failed: Sequence[Replica]) -> tuple[list[Replica], list[Standing]]:
        """The replicas that can be asked, and where each stands."""
        replicas, standings = [], []
        for replica in self._replicas:
            if not replica.away and replica not in failed:
                replicas.append(replica)
                standings.append(replica.standing)
        return replicas, standings

    def _served(
        self, want: Want, replica: Replica, held: Held[T], waited_s: float, pending: Pending
    ) -> Served[T]:
        self._count(want, replica.name, waited_s)
        rows: list[Any] = held.rows  # none is missing
        at = held.standing
        age_s = self._clock() - at.fresh_at_s
        return Served(rows, replica.name, age_s, waited_s, at.revision, pending)

    def _fall_back(self, want: Want) -> None:
        """Go to the primary, or raise ReplicaLate."""
        if want.level is Level.LINEARIZABLE:
            return
        if not want.primary:
            self._telemetry.late.labels(want.level).inc()
            raise ReplicaLate(
                f"No replica could serve this read at {want.level} within {want.wait_s * 1000:.0f} ms. "
                "Allow more wait_ms, or the fallback to the primary."
            )
        self._telemetry.fallbacks.labels(want.level).inc()

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
            epoch=self._store.epoch,
            turn=0,
            now_s=self._clock(),
            additive=decision.overlay,
            max_age_s=want.max_age_s,
        )
        return isinstance(decided, Serve)

    def _waited(self, began_s: float, now_s: float) -> float:
        """Seconds since the read began, if it waited at all."""
        return self._clock() - began_s if now_s > began_s else 0.0

    def _count(self, want: Want, served_by: str, waited_s: float) -> None:
        self._reads[want.level, served_by].inc()
        if waited_s:
            self._telemetry.waits.labels(want.level).inc()


def _pending(held: Held[Any], token: SessionToken | None) -> Pending:
    """The own writes to be added on top."""
    return _NONE if token is None else token.pending(held.standing.revision)


def _impossible(keys: Sequence[Any], rows: Sequence[Any], pending: Pending) -> bool:
    """Whether the own writes remove, or give another value to, edges that the state does not even show."""
    for key, row in zip(keys, rows, strict=True):
        count, sum_ = pending.get(key, (0, 0))
        if row.count + count < 0 or (row.count + count == 0 and row.sum + sum_ != 0):
            return True
    return False
