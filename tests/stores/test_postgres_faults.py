"""Rollups whose worker or backend ends in the middle: they happen wholly or not at all, and once.

Run as a program, this file makes the workers that die: `python test_postgres_faults.py URL`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from typing import Final, Self

import psycopg
import pytest

from clusters import Cluster
from groundswell.errors import StoreUnavailable
from groundswell.model import Add, Put, Tally, Write
from groundswell.stores.postgres import PostgresStore
from groundswell.testing.base import ENOUGH, json
from pg_load import Writer, opened, stores
from pg_nodes import migrated, on_both_queues, rows, until

pytestmark = pytest.mark.anyio

# --- between any two steps ----------------------------------------------------------------------

# What a rollup does to which table, in order, as PostgreSQL's triggers name it.
FOLDING: Final = [
    ("groundswell.counter", "BEFORE UPDATE"),
    ("groundswell.counter", "BEFORE INSERT"),
    ("groundswell.rollup", "BEFORE INSERT"),
    ("groundswell.counter", "AFTER UPDATE"),
    ("groundswell.rollup", "AFTER INSERT"),
]
STEPS: Final = {
    "outbox": [
        *FOLDING,
        ("groundswell.event", "BEFORE DELETE"),
        ("groundswell.event", "AFTER DELETE"),
        ("groundswell.rollup", "BEFORE DELETE"),
        ("groundswell.rollup", "AT COMMIT"),
    ],
    "pgq": [
        ("pgq.tick", "BEFORE INSERT"),
        ("pgq.tick", "AFTER INSERT"),
        *FOLDING,
        ("pgq.subscription", "BEFORE UPDATE"),  # next_batch
        ("pgq.subscription", "AFTER UPDATE"),
        ("pgq.subscription", "ON FINISH"),  # finish_batch
        ("pgq.subscription", "AFTER FINISH"),
        ("groundswell.rollup", "BEFORE DELETE"),
        ("groundswell.rollup", "AT COMMIT"),
    ],
}
GATE: Final = 4711
PATIENT: Final = "?options=-c%20lock_timeout%3D60s%20-c%20statement_timeout%3D60s"
_WHEN: Final = {
    "AT COMMIT": "AFTER INSERT ON {} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW",
    "ON FINISH": "BEFORE UPDATE ON {} FOR EACH ROW WHEN (new.sub_batch IS NULL)",
    "AFTER FINISH": "AFTER UPDATE ON {} FOR EACH ROW WHEN (new.sub_batch IS NULL)",
}


class Gates:
    """Holds a rollup at a step, by a trigger that waits, until it is let through."""

    def __init__(self, url: str, queue: str) -> None:
        self._url = url
        self._shut = 0
        self._holder = psycopg.connect(url, autocommit=True)
        rows(
            url,
            f"""
            CREATE FUNCTION public.gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                PERFORM pg_advisory_xact_lock_shared({GATE}, TG_ARGV[0]::int);
                RETURN coalesce(new, old);
            END $$
            """,
        )
        for number, (table, when) in enumerate(STEPS[queue]):
            place = _WHEN.get(when, f"{when} ON {{}} FOR EACH STATEMENT").format(table)
            made = "CONSTRAINT TRIGGER" if when == "AT COMMIT" else "TRIGGER"
            rows(url, f"CREATE {made} gate{number} {place} EXECUTE FUNCTION public.gate({number})")

    def shut(self, step: int) -> None:
        self._holder.execute(f"SELECT pg_advisory_lock({GATE}, {step})".encode())
        self._shut = step

    def open(self) -> None:
        self._holder.execute(f"SELECT pg_advisory_unlock({GATE}, {self._shut})".encode())

    def held(self) -> list[int]:
        """The backends that wait at the gate."""
        return [pid for (pid,) in rows(self._url, f"{_WAITING} AND classid = {GATE}")]

    def in_line(self) -> list[int]:
        """The backends that wait for their turn to roll up."""
        return [pid for (pid,) in rows(self._url, f"{_WAITING} AND classid <> {GATE}")]

    def close(self) -> None:
        self._holder.close()


_WAITING: Final = """
    SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


class Workers:
    """Processes that do nothing but roll up, forked from one that has loaded everything."""

    def __init__(self, url: str) -> None:
        self._nursery = subprocess.Popen(
            [sys.executable, __file__, url],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._nursery.kill()
        self._nursery.communicate()

    def start(self) -> int:
        """A new one at work; its process id."""
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        self._nursery.stdin.write(b"\n")
        self._nursery.stdin.flush()
        return int(self._nursery.stdout.readline())

    @staticmethod
    def kill(pid: int) -> None:
        os.kill(pid, signal.SIGKILL)

    @staticmethod
    def is_gone(pid: int) -> bool:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 0)
            return False
        return True


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _nurse(url: str) -> None:
    """A worker for every line on standard input; its process id on standard output."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that none stays as a zombie
    while sys.stdin.readline():
        child = os.fork()
        if child == 0:
            try:
                _end_with_parent()
                asyncio.run(_roll_forever(url))
            finally:
                os._exit(1)
        os.write(1, b"%d\n" % child)


async def _roll_forever(url: str) -> None:
    store, rng = await opened(url), random.Random()
    while True:
        with contextlib.suppress(StoreUnavailable):  # its backend was ended
            await store.rollup(rng.choice((1, 5, 50, ENOUGH)))
        await asyncio.sleep(0.001)


@contextlib.contextmanager
def gated(url: str, queue: str) -> Iterator[Gates]:
    made = Gates(url, queue)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("ended", ["backend", "worker"])
@on_both_queues
async def test_a_rollup_ended_between_any_two_steps_happened_wholly_or_not_at_all(
    cluster: Cluster, queue: str, ended: str, seed: int
) -> None:
    """A backend that is ended takes its rollup back; without its worker it brings it to its end."""
    url = await migrated(cluster, queue)
    patient, writer = url + PATIENT, Writer(random.Random(seed))
    async with stores(patient, 2) as [one, two]:
        with gated(url, queue) as gates, Workers(patient) as workers:
            for step, (table, when) in enumerate(STEPS[queue]):
                # An old counter, a new one, an object.
                writes: list[Write] = [Add("like", 1, step), Add("like", 100 + step, 1)]
                await writer.commit(one, *writes, Tally("view", 1), Put("x", "t", json(n=step)))
                number = (await one.head()).rollup
                gates.shut(step)
                rolling = asyncio.ensure_future(one.rollup(ENOUGH)) if ended == "backend" else None
                worker = workers.start() if ended == "worker" else None
                await until(gates.held, f"the rollup {when} {table}")
                await writer.commit(two, Add("like", 1, 1_000 + step))  # nobody waits for it
                other = asyncio.ensure_future(two.rollup(ENOUGH))
                await until(gates.in_line, "another worker")
                [backend] = gates.held()
                if rolling is not None:
                    rows(url, f"SELECT pg_terminate_backend({backend})")
                    with pytest.raises(StoreUnavailable):
                        await rolling
                if worker is not None:
                    workers.kill(worker)
                    await until(partial(workers.is_gone, worker), "the worker's end")
                    assert gates.held() == [backend]  # it does not know
                assert ((await one.head()).rollup, await one.backlog()) == (number, 5)
                gates.open()
                rolled = await other
                assert rolled is not None
                # What was ended took nothing away; what went on by itself is not done again.
                assert (rolled.number - number, rolled.events) == (1, 5) if rolling else (2, 1)
    await writer.check(url)
    # Where two rows per step were published whole, those of the one that was ended are gone.
    published = rows(url, "SELECT count(*) FROM groundswell.rollup WHERE number > 0")
    assert published == [(len(STEPS[queue]) * (1 if ended == "backend" else 2),)]


# --- at any time --------------------------------------------------------------------------------

ENDS: Final = 15  # of either sort
_END_ONE: Final = b"""
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND state = 'active' AND query ~ 'FROM groundswell.roll_up'
        AND pid <> pg_backend_pid()
    ORDER BY random() LIMIT 1
"""


def end_a_backend(url: str) -> bool:
    """End one that is busy with a rollup, or waits for its turn; whether there was one."""
    with psycopg.connect(url, autocommit=True) as connection:
        return any(connection.execute(_END_ONE).fetchall() for _ in range(100))


def made(url: str) -> int:
    """How many rollups there have been."""
    [[newest]] = rows(url, "SELECT max(number) FROM groundswell.rollup")
    return int(newest)


@on_both_queues
async def test_workers_and_backends_ended_at_any_time_fold_everything_once(
    cluster: Cluster, queue: str, seed: int
) -> None:
    url = await migrated(cluster, queue)
    rng, over = random.Random(seed), asyncio.Event()
    writer = Writer(rng)
    killed = ended = published = 0

    async def write(store: PostgresStore) -> None:
        while not over.is_set():
            await writer.write(store)

    async with stores(url, 2) as writing:
        with Workers(url) as workers:
            tasks = [asyncio.create_task(write(store)) for store in writing * 2]
            pids = [workers.start() for _ in range(3)]
            try:
                while killed < ENDS or ended < ENDS or published <= ENDS:
                    await asyncio.sleep(rng.uniform(0.01, 0.08))  # when it strikes
                    if rng.random() < 0.5:
                        workers.kill(pids.pop(rng.randrange(3)))
                        pids.append(workers.start())
                        killed += 1
                    else:
                        ended += await asyncio.to_thread(end_a_backend, url)
                    published = await asyncio.to_thread(made, url)  # too few would prove nothing
            finally:
                over.set()
                await asyncio.gather(*tasks)
    await writer.check(url)


if __name__ == "__main__":
    _nurse(sys.argv[1])
