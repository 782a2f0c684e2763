"""Where schedules are played: on a real PostgreSQL, and on the simulated one."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any, Final

import psycopg

from clusters import Cluster
from groundswell.errors import StoreUnavailable
from groundswell.store import Batch
from groundswell.stores.postgres import PostgresStandby, PostgresStore
from groundswell.testing.base import ENOUGH
from groundswell.verify.simulation.primary import Pace, Primary
from groundswell.verify.simulation.standby import SimulatedStandby, Standby
from groundswell.verify.simulation.store import SimulatedStore, Way
from pg_nodes import Slow, named, rows, until
from verify.simulation.schedules import BASE, KINDS, Op, do, patiently

LOCALLY: Final = "options=-c%20synchronous_commit%3Dlocal"
HELD: Final = """
    SELECT count(*) FROM pg_stat_activity
    WHERE application_name = 'held' AND (wait_event = 'SyncRep' OR wait_event_type = 'Lock')
"""


# --- on PostgreSQL ----------------------------------------------------------------------------------


class RealStage:
    """A primary, a standby, and on each a store; held commits wait for a standby that there is not."""

    def __init__(self, primary: Cluster, server: Cluster, url: str, rng: Random) -> None:
        self._primary = primary
        self._server = server
        self._url = url
        self._rng = rng
        self._held = 0
        self._slow: dict[Op, asyncio.Event] = {}
        self.store: PostgresStore
        self.standby: PostgresStandby
        self._waits: PostgresStore

    async def open(self) -> None:
        """The stores, and in them what every schedule begins with."""
        url, name = self._url, self._url.rpartition("/")[2]
        self.store = await PostgresStore.open(
            f"{named(url, 'local')}&{LOCALLY}", KINDS, idle_s=None
        )
        self._waits = await PostgresStore.open(named(url, "held"), KINDS, idle_s=None)
        await self.store.commit([Batch(BASE)])
        while await self.store.rollup(ENOUGH):
            pass
        await asyncio.to_thread(self._server.catch_up)
        there = named(self._server.url(name), "standby")
        self.standby = await PostgresStandby.open(there, KINDS, self.store, connections=2)

    async def close(self) -> None:
        await self._synchronous("DEFAULT")
        await self.standby.close()
        await self._waits.close()
        await self.store.close()

    async def begin(self, op: Op) -> asyncio.Task[Any]:
        if op.how == "slow":
            self._slow[op] = asyncio.Event()
            return await self._sent(self._slowly(op))
        if op.how != "held":
            return await self._sent(do(op, self.store, self.standby))
        await self._synchronous("'nosuch'")
        self._held += 1
        task = asyncio.create_task(do(op, self._waits, self.standby))
        for _ in range(50):  # what decides nothing new waits for nobody
            if task.done() or await asyncio.to_thread(self._waiting):
                break
            await asyncio.sleep(0.01)
        return task

    async def _sent(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        await asyncio.sleep(self._rng.choice((0, 0.002, 0.02)))
        return task

    def _waiting(self) -> bool:
        return rows(self._primary.url(), HELD) == [(self._held,)]

    async def _slowly(self, op: Op) -> Any:
        try:
            slow = await Slow.begin(f"{self._url}?{LOCALLY}", self.store.queue, *op.writes)
            await self._slow[op].wait()
            await slow.end(kept=True)
        except psycopg.OperationalError as error:
            raise StoreUnavailable("The server went away.") from error
        return slow.committed

    async def release(self, op: Op) -> None:
        if op.how == "slow":
            self._slow[op].set()
        if op.how == "held" and self._held:
            self._held = 0
            await self._synchronous("DEFAULT")

    async def act(self, what: str) -> None:
        if what == "pause replay":
            await asyncio.to_thread(self._server.catch_up)
            await asyncio.to_thread(self._server.pause_replay)
        elif what == "resume replay":
            await asyncio.to_thread(self._server.resume_replay)
        else:
            self._held = 0
            await asyncio.to_thread(
                self._primary.execute, "ALTER SYSTEM RESET synchronous_standby_names"
            )
            await asyncio.to_thread(self._primary.kill)
            await asyncio.to_thread(self._primary.start)
            for store in (self.store, self._waits):
                await patiently(store.standing)

    async def _synchronous(self, names: str) -> None:
        set_ = f"ALTER SYSTEM SET synchronous_standby_names = {names}"
        await asyncio.to_thread(self._primary.execute, set_)
        await asyncio.to_thread(self._primary.execute, "SELECT pg_reload_conf()")
        shown = "" if names == "DEFAULT" else names.strip("'")
        await until(
            lambda: self._primary.execute("SHOW synchronous_standby_names") == [(shown,)], names
        )

    async def caught_up(self) -> None:
        await asyncio.to_thread(self._server.catch_up)


# --- on the simulated one ---------------------------------------------------------------------------


class SimulatedStage:
    """The same, with everything that is left to chance drawn from a seed."""

    def __init__(self, rng: Random, pace: Pace, loop: asyncio.AbstractEventLoop) -> None:
        self._rng = rng
        self._pace = pace
        self._primary = Primary(
            KINDS, rng, Pace(), now_ms=lambda: int(loop.time() * 1000), rollups_kept=ENOUGH
        )
        self._server = Standby(self._primary, rng)
        self._ways = [Way(rng), Way(rng), Way(rng)]
        self._between_s = rng.choice((0.001, 0.005, 0.02))
        self.store = SimulatedStore(self._primary, self._ways[0])
        self.standby = SimulatedStandby(self._server, self.store, self._ways[1])
        self._slow = SimulatedStore(self._primary, self._ways[2])  # which has to connect first

    async def open(self) -> None:
        """See RealStage; from here on things take time."""
        await self.store.commit([Batch(BASE)])
        while await self.store.rollup(ENOUGH):
            pass
        await asyncio.sleep(1)
        self._primary.pace = self._pace
        self._server.lag_s = self._rng.choice((0.0, 0.001, 0.01))
        for way in self._ways:
            way.mean_s = self._rng.choice((0.0, 0.0003, 0.003))
        self._ways[2].mean_s = self._rng.choice((0.003, 0.02))

    async def begin(self, op: Op) -> asyncio.Task[Any]:
        store = self._slow if op.how == "slow" else self.store
        task = asyncio.create_task(do(op, store, self.standby))
        await self._later()
        return task

    async def release(self, op: Op) -> None:
        await self._later()

    async def _later(self) -> None:
        if self._rng.random() < 0.7:
            await asyncio.sleep(self._rng.expovariate(1 / self._between_s))

    async def act(self, what: str) -> None:
        await self._later()
        if what == "crash":
            self._primary.crash()
            self._primary.start()
        elif what == "pause replay":
            self._server.paused = True
        else:
            self._server.go_on()

    async def caught_up(self) -> None:
        await asyncio.sleep(10)
