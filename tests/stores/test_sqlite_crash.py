"""Processes killed with SIGKILL: nothing acknowledged is lost, nothing counted twice.

This proves what survives the end of a process. It cannot prove what survives a power cut: the page
cache outlives every process, so these tests pass without `PRAGMA synchronous = FULL` as well.

Run as a program, this file is the process that dies: `python test_sqlite_crash.py JOB PATH ..`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from groundswell.model import Add, Counter, Delete, Key, Put, Remove, Tally, Write
from groundswell.store import Batch
from groundswell.stores.sqlite import SqliteStore
from groundswell.testing.base import KINDS, check_settled, codes, commit, drain, follow, json

pytestmark = pytest.mark.anyio

SURVIVED: Final = 0
STEP: Final = 25  # instructions of SQLite's virtual machine between two places to die at
KEYS: Final[list[Key]] = [
    ("like", 1),
    ("like", 2),
    ("review", 1),
    ("seat", "1"),
    ("view", 1),
    *(("follow", target) for target in range(3)),
]


# --- the process that dies ------------------------------------------------------------------


class _Bomb:
    """Kills its process when it is called for the k-th time."""

    def __init__(self, calls: int) -> None:
        self._left = calls

    def __call__(self, *statement: str) -> int:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return 0


def _mark(path: str) -> str:
    """A file that says that the commit was acknowledged."""
    return f"{path}.acknowledged"


async def _die_at(job: str, path: str, place: str, k: int) -> None:
    store = await SqliteStore.open(path, KINDS)
    if place == "statement":
        store._writer.set_trace_callback(_Bomb(k))  # called before each
    else:
        store._writer.set_progress_handler(_Bomb(k), STEP)
    if job == "rollup":
        await store.rollup(6)
    else:
        await store.commit(GROUP)
    os.close(os.open(_mark(path), os.O_CREAT))
    store._writer.set_progress_handler(None, 0)
    store._writer.set_trace_callback(None)
    await store.close()


def _die_everywhere(job: str, prepared: str, folder: str, place: str) -> None:
    """A process for each k, on a copy of the prepared file, until one survives; their exit codes."""
    for k in itertools.count(1):
        path = f"{folder}/{k}.db"
        shutil.copy(prepared, path)
        child = os.fork()
        if child == 0:
            try:
                asyncio.run(_die_at(job, path, place, k))
                os._exit(SURVIVED)
            finally:
                os._exit(1)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(1, b"%d\n" % code)
        if code != -signal.SIGKILL:
            break


async def _write_forever(path: str, first: int) -> None:
    """Numbered commits, each acknowledged on stdout once the store has acknowledged it."""
    store = await SqliteStore.open(path, KINDS)

    async def roll() -> None:
        while True:
            await store.rollup(5)
            await asyncio.sleep(0)

    rolling = asyncio.create_task(roll())
    n = first
    while not rolling.done():
        await commit(store, *numbered(n))
        os.write(1, b"%d\n" % n)
        n += 1


def numbered(n: int) -> list[Write]:
    """The writes of the n-th commit; all of them change something."""
    return [
        Add("follow", n % 3, n),
        Tally("view", 1, 1, str(n)),
        Put("x", "t", json(n=n)),
        *([Remove("follow", (n - 2) % 3, n - 2)] if n % 5 == 4 else []),
    ]


# --- at every place ------------------------------------------------------------------------

GROUP: Final = [
    Batch((Add("like", 1, 100), Add("like", 2, 100), Remove("like", 1, 0))),
    Batch((Remove("seat", "1", 1), Add("seat", "1", 2)), atomic=True),
    Batch((Tally("view", 1, 5, "new"), Put("x", "t", json(n=9)), Delete("y"))),
    Batch((Add("review", 1, 1, 5), Add("seat", "1", 3)), atomic=True),
]
WRITTEN: Final = 4  # commits in the prepared file


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with counters, some of them rolled up, and a queue."""
    path = tmp_path_factory.mktemp("prepared") / "groundswell.db"

    async def fill() -> None:
        store = SqliteStore(str(path), KINDS)
        await commit(store, *(Add("like", 1, n) for n in range(5)), Add("review", 1, 1, 3))
        await drain(store)
        await commit(store, Add("seat", "1", 1), Tally("view", 1, 2, "a"), Put("x", "t", json(n=1)))
        await commit(store, Remove("like", 1, 4), Add("like", 2, 1), Add("review", 1, 2, 2))
        await commit(store, Put("y", "t", json(n=1)), Put("x", "t", json(n=2)), Add("like", 2, 2))
        await store.close()

    asyncio.run(fill())
    return path


def killed_everywhere(job: str, prepared: Path, folder: Path, place: str) -> list[Path]:
    """The files that processes left which died at one place after another; the last one survived."""
    done = subprocess.run(
        [sys.executable, __file__, "everywhere", job, str(prepared), str(folder), place],
        capture_output=True,
        check=True,
    )
    exits = [int(line) for line in done.stdout.split()]
    assert exits == [-signal.SIGKILL] * (len(exits) - 1) + [SURVIVED], done.stderr.decode()
    assert len(exits) > 10, "too few places to prove anything"
    return [folder / f"{k}.db" for k in range(1, len(exits) + 1)]


@pytest.mark.parametrize("place", ["statement", "step"])
async def test_a_rollup_killed_anywhere_happened_wholly_or_not_at_all(
    prepared: Path, tmp_path: Path, place: str
) -> None:
    ends: list[bool] = []
    for path in killed_everywhere("rollup", prepared, tmp_path, place):
        store = await SqliteStore.open(str(path), KINDS)
        head = await store.head()
        happened = head.rollup == 2
        counted = {
            k: r.counter for k, r in zip(KEYS, (await store.counters(KEYS)).rows, strict=True)
        }
        assert (head.rollup, await store.backlog()) == ((2, 3) if happened else (1, 9))
        assert counted["like", 1] == Counter(4 if happened else 5)
        assert counted["like", 2] == Counter(1 if happened else 0)
        assert counted["view", 1] == Counter(2 if happened else 0)
        assert len((await store.feed(1, 100)).rollups) == happened
        await check_settled(store, KEYS)
        assert (await store.counters([("like", 1)])).rows[0].counter == Counter(4)
        assert [r.number for r in await follow(store)] == list(
            range(1, (await store.head()).rollup + 1)
        )
        await store.close()
        ends.append(happened)
    assert ends == [False] * (len(ends) - 1) + [True]


@pytest.mark.parametrize("place", ["statement", "step"])
async def test_a_commit_killed_anywhere_happened_wholly_or_not_at_all(
    prepared: Path, tmp_path: Path, place: str
) -> None:
    ends: list[bool] = []
    for path in killed_everywhere("commit", prepared, tmp_path, place):
        acknowledged = os.access(_mark(str(path)), os.F_OK)
        store = await SqliteStore.open(str(path), KINDS)
        happened = (await store.edge("like", 1, 100))[0] is not None
        assert happened or not acknowledged
        head = await store.head()
        assert head.revision.xmax == WRITTEN + 1 + happened
        assert await store.backlog() == (15 if happened else 9)
        assert ((await store.edge("seat", "1", 2))[0] is not None) == happened
        assert ((await store.edge("seat", "1", 1))[0] is None) == happened
        assert ((await store.edge("like", 1, 0))[0] is None) == happened
        versions = [d and d.version for d in (await store.documents(["x", "y"])).rows]
        assert versions == ([3, 2] if happened else [2, 1])
        edge, _ = await store.edge("review", 1, 1)
        assert edge is not None
        assert edge.value == 3  # its batch was undone
        again = [codes(one) for one in await store.commit(GROUP)]
        assert again[0] == [not happened] * 3  # a retry does what is missing, and nothing twice
        assert again[2] == [not happened, not happened, not happened]
        await check_settled(store, KEYS)
        await store.close()
        ends.append(happened)
    assert ends == [False] * (len(ends) - 1) + [True]


# --- at any time ----------------------------------------------------------------------------

COMMITS: Final = 9  # of each process at least, however slow this machine is


@contextlib.contextmanager
def writing(path: Path, first: int) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, __file__, "forever", str(path), str(first)], stdout=subprocess.PIPE
    ) as child:
        try:
            yield child
        finally:
            child.kill()


async def test_nothing_acknowledged_is_lost_or_doubled_by_a_kill_at_any_time(
    tmp_path: Path, seed: int
) -> None:
    random_ = random.Random(seed)
    path = tmp_path / "groundswell.db"
    written = 0  # commits found after the last kill
    for _ in range(6):
        with writing(path, written) as child:
            assert child.stdout is not None
            first = b"".join(child.stdout.readline() for _ in range(COMMITS))
            await asyncio.sleep(random_.uniform(0, 0.15))
            child.kill()
            acknowledged = [int(line) for line in (first + child.stdout.read()).split()]
        assert child.returncode == -signal.SIGKILL
        assert acknowledged == list(range(written, written + len(acknowledged)))
        written = await _check_survived(path, written + len(acknowledged))
    assert written > 50, "too few commits to prove anything"
    store = await SqliteStore.open(str(path), KINDS)
    await check_settled(store, KEYS)
    await _check_each_once(store, written)
    await store.close()


async def _check_survived(path: Path, acknowledged: int) -> int:
    """Every acknowledged commit is there, at most one more; how many there are."""
    store = await SqliteStore.open(str(path), KINDS)
    try:
        written = (await store.head()).revision.xmax - 1
        assert acknowledged <= written <= acknowledged + 1
        [document] = (await store.documents(["x"])).rows
        assert document is not None
        assert document.version == written
        assert document.data == json(n=written - 1)
        assert await store.recount("view", 1) == Counter(written)
        await _check_each_once(store, written, sample=written - 1)
        return written
    finally:
        await store.close()


async def _check_each_once(store: SqliteStore, written: int, sample: int = 0) -> None:
    """From `sample` on each numbered write is there, and repeating it changes nothing."""
    removed = {n - 2 for n in range(written) if n % 5 == 4}
    for n in range(sample, written):
        follow_, tally = numbered(n)[:2]
        assert isinstance(follow_, Add)
        found, _ = await store.edge(follow_.kind, follow_.target, follow_.source)
        assert (found is None) == (n in removed)
        assert codes(await commit(store, tally)) == [False]


async def test_what_a_killed_process_left_is_rolled_up_once(tmp_path: Path) -> None:
    path = tmp_path / "groundswell.db"
    with writing(path, 0) as child:
        assert child.stdout is not None
        for _ in range(20):
            child.stdout.readline()
        child.kill()
    stores = [await SqliteStore.open(str(path), KINDS) for _ in range(2)]
    await asyncio.gather(*(drain(store, 3) for store in stores))
    for store in stores:
        await check_settled(store, KEYS)
        await store.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["forever", where, begin]:
            asyncio.run(_write_forever(where, int(begin)))
        case ["everywhere", what, source, folder, place]:
            _die_everywhere(what, source, folder, place)
