"""The database file itself: what opening refuses, disks that fill up, several processes.

Run as a program, this file is the other process: `python test_sqlite_files.py JOB PATH`.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from groundswell.errors import StoreUnavailable, StoreUnusable
from groundswell.kinds import Kind, Kinds
from groundswell.model import Add, Counter, Key, Put, Tally
from groundswell.store import Batch, Store, Window
from groundswell.stores.sqlite import SqliteStore, migrate, schema
from groundswell.testing.base import KINDS, check_settled, commit, count, drain, follow, json
from groundswell.verify import disk

pytestmark = pytest.mark.anyio

COMMITS = 60  # of each process that writes


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "groundswell.db")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "BUSY_S", 0.1)


# --- the other process ----------------------------------------------------------------------


def _wait() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()


def _lock(path: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    _wait()


def _migrate(path: str) -> None:
    _wait()
    before, after = migrate(path)
    sys.stdout.write(f"{before} {after}\n")


def _write(path: str, first: int) -> None:
    """Commits and rollups in turn; sources from `first` on."""

    async def work() -> None:
        store = await SqliteStore.open(path, KINDS)
        for n in range(first, first + COMMITS):
            await commit(
                store,
                *(Add("like", target, n) for target in range(5)),
                Add("like", 9, n % COMMITS),  # of every process the same
                Tally("view", 1, 1, str(n % COMMITS)),
                Put("x", "t", json(n=n)),
            )
            await store.rollup(4)
            await store.rollup(1_000)
        await store.close()

    pytest.MonkeyPatch().setattr(schema, "BUSY_S", 60.0)  # SQLite has nobody wait in line
    _wait()
    asyncio.run(work())


@contextlib.contextmanager
def process(*args: str) -> Iterator[subprocess.Popen[str]]:
    """This file in a process of its own, once it is ready; gone at the end."""
    with subprocess.Popen(
        [sys.executable, __file__, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            yield child
        finally:
            if child.poll() is None:
                child.kill()


def go(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("go\n")
    child.stdin.flush()


# --- what cannot be opened ------------------------------------------------------------------


def refused(path: str) -> str:
    """What opening says; and it says the same again."""
    with pytest.raises(StoreUnusable) as told:
        SqliteStore(path, KINDS)
    with pytest.raises(StoreUnusable):
        migrate(path)
    return told.value.detail


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_commit_waits_for_the_disk(path: str) -> None:
    """What no killed process can show: whoever dies leaves the system's cache behind."""
    migrate(path)
    writer = schema.connect(path, writer=True)
    try:
        [level] = writer.execute("PRAGMA synchronous").fetchone()
        assert level == 2  # FULL
    finally:
        writer.close()


def test_a_file_that_another_process_has_locked(path: str, impatient: None) -> None:
    migrate(path)
    with process("lock", path):
        told = refused(path)
        assert "locked" in told
        assert "Another process" in told
    migrate(path)


def test_a_file_in_a_missing_folder(tmp_path: Path) -> None:
    told = refused(str(tmp_path / "missing" / "groundswell.db"))
    assert "folder does not exist" in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("junk", [b"not a database at all, " * 100, b"xy", b"SQLite format 3\x00"])
def test_a_file_that_is_not_a_database(tmp_path: Path, path: str, junk: bytes) -> None:
    Path(path).write_bytes(junk)
    refused(path)
    assert contents(tmp_path) == {"groundswell.db": junk}


def test_a_folder_instead_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "folder.db").mkdir()
    refused(str(tmp_path / "folder.db"))


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_the_database_of_another_program_stays_as_it_is(
    tmp_path: Path, path: str, mode: str
) -> None:
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute(f"PRAGMA journal_mode = {mode}")
        other.execute("CREATE TABLE edge_like (id INTEGER PRIMARY KEY)")
        other.commit()
    before = Path(path).read_bytes()
    assert "another program" in refused(path)
    assert Path(path).read_bytes() == before


def test_the_database_that_another_program_has_open_stays_as_it_is(path: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("CREATE TABLE mine (id INTEGER PRIMARY KEY)")
        other.commit()
        files = [path, path + "-wal"]
        before = [Path(file).read_bytes() for file in files]
        assert "another program" in refused(path)
        assert [Path(file).read_bytes() for file in files] == before


def test_an_empty_database_marked_as_another_programs(path: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA application_id = 42")
    before = Path(path).read_bytes()
    assert before
    assert "another program" in refused(path)
    assert Path(path).read_bytes() == before


def test_a_newer_schema(path: str) -> None:
    migrate(path)
    with contextlib.closing(sqlite3.connect(path)) as newer:
        newer.execute("PRAGMA user_version = 999")
    before = Path(path).read_bytes()
    told = refused(path)
    assert "999" in told
    assert "newer" in told
    assert Path(path).read_bytes() == before


@pytest.mark.parametrize(
    "other",
    [
        Kind(name="like", source="text"),
        Kind(name="like", target="uuid"),
        Kind(name="like", unique=False),
        Kind(name="like", exclusive=True),
    ],
)
async def test_kinds_declared_otherwise_than_stored(path: str, other: Kind) -> None:
    store = SqliteStore(path, KINDS)
    await commit(store, Add("like", 1, 2))
    await store.close()
    with pytest.raises(StoreUnusable, match="Kind like is stored in"):
        SqliteStore(path, Kinds((Kind(name="fresh"), other)))
    with contextlib.closing(sqlite3.connect(path)) as found:
        kinds = {name for (name,) in found.execute("SELECT name FROM kind")}
    assert kinds == {kind.name for kind in KINDS}
    store = SqliteStore(path, KINDS)
    assert (await store.edge("like", 1, 2))[0] is not None
    await store.close()


def test_a_refused_opening_holds_nothing_open(path: str) -> None:
    asyncio.run(SqliteStore(path, KINDS).close())
    with pytest.raises(StoreUnusable) as told:
        SqliteStore(path, Kinds((Kind(name="like", source="text"),)))
    assert not [file for file in _open_files() if file.startswith(path)], told


def _open_files() -> list[str]:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc to look at open files")
    found = []
    for file in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists them
            found.append(str(file.readlink()))
    return found


async def test_more_kinds_may_be_declared_later(path: str) -> None:
    store = SqliteStore(path, Kinds((Kind(name="like"),)))
    await commit(store, Add("like", 1, 2))
    await store.close()
    store = SqliteStore(path, Kinds((Kind(name="like", inverse=True), Kind(name="hate"))))
    await commit(store, Add("hate", 1, 2))
    assert len((await store.inverse("like", 2, Window())).edges) == 1
    await store.close()


def test_an_empty_file_becomes_a_store(path: str) -> None:
    Path(path).touch()
    asyncio.run(_make_store(path))


@contextlib.contextmanager
def mounted(folder: Path, mib: int) -> Iterator[None]:
    """A small file system of its own at `folder`."""
    if reason := disk.mount(folder, mib << 20):
        pytest.skip(reason)
    try:
        yield
    finally:
        disk.unmount(folder)


async def _make_store(path: str) -> None:
    store = SqliteStore(path, KINDS)
    await commit(store, Add("like", 1, 2))
    await store.close()


def test_a_file_on_a_read_only_file_system(tmp_path: Path, path: str) -> None:
    with mounted(tmp_path, 1):
        asyncio.run(_make_store(path))
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path)], check=True)
        before = contents(tmp_path)
        refused(path)
        assert contents(tmp_path) == before
        assert "cannot be opened" in refused(str(tmp_path / "another.db"))


# --- the schema -----------------------------------------------------------------------------


def layout(path: str) -> list[tuple[str, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(
            "SELECT type, name, sql FROM sqlite_schema ORDER BY name"
        ).fetchall()


def test_the_schema_is_all_migrations_in_order(tmp_path: Path, path: str) -> None:
    folder = Path(schema.__file__).parent / "sql"
    scripts = sorted(folder.glob("*.sql"))
    assert [int(script.name[:4]) for script in scripts] == list(range(1, len(scripts) + 1))
    plain = str(tmp_path / "plain.db")
    with contextlib.closing(sqlite3.connect(plain)) as connection:
        for script in scripts:
            connection.executescript(script.read_text("utf-8"))
    assert migrate(path) == (0, len(scripts))
    assert layout(path) == layout(plain)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(scripts),)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_migrating_again_changes_nothing(path: str) -> None:
    _, version = migrate(path)
    before = Path(path).read_bytes()
    assert migrate(path) == (version, version)
    assert layout(path) == layout(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM identity").fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM head").fetchone() == (1,)
    assert len(Path(path).read_bytes()) == len(before)


def test_migrating_waits_for_whoever_writes_to_a_file_that_is_not_yet_in_wal_mode(
    path: str,
) -> None:
    with contextlib.closing(sqlite3.connect(path, check_same_thread=False)) as other:
        other.execute("PRAGMA user_version = 0")
        other.execute("BEGIN IMMEDIATE")
        ending = threading.Timer(0.3, other.rollback)
        ending.start()
        assert migrate(path) == (0, len(schema.migrations()))
        ending.join()


def test_processes_that_migrate_at_once_make_one_schema(path: str) -> None:
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(process("migrate", path)) for _ in range(5)]
        for child in children:
            go(child)
        told = sorted(child.communicate()[0] for child in children)
        assert [child.returncode for child in children] == [0] * 5
    version = len(schema.migrations())
    assert told == [f"0 {version}\n"] + [f"{version} {version}\n"] * 4


# --- while it is open -----------------------------------------------------------------------


async def test_writes_wait_for_another_process_and_reads_do_not(path: str, impatient: None) -> None:
    store = SqliteStore(path, KINDS)
    await commit(store, Add("like", 1, 1))
    with process("lock", path) as other:
        with pytest.raises(StoreUnavailable, match="Another process"):
            await commit(store, Add("like", 1, 2))
        with pytest.raises(StoreUnavailable):
            await store.rollup(10)
        assert await store.recount("like", 1) == Counter(1)
        go(other)
        assert other.wait(10) == 0
    await commit(store, Add("like", 1, 2))
    await check_settled(store, [("like", 1)])
    assert await count(store, "like", 1) == Counter(2)
    await store.close()


async def test_an_idle_rollup_does_not_wait_for_another_process(path: str, impatient: None) -> None:
    store = SqliteStore(path, KINDS)
    with process("lock", path):
        assert await store.rollup(10) is None
    await store.close()


def test_processes_that_write_and_roll_up_at_once_lose_and_repeat_nothing(path: str) -> None:
    migrate(path)
    with contextlib.ExitStack() as stack:
        children = [
            stack.enter_context(process("write", path, str(first)))
            for first in (0, COMMITS, 2 * COMMITS)
        ]
        for child in children:
            go(child)
        assert [child.wait(240) for child in children] == [0, 0, 0]
    asyncio.run(_check_written(path))


async def _check_written(path: str) -> None:
    store = SqliteStore(path, KINDS)
    keys: list[Key] = [*(("like", target) for target in range(5)), ("like", 9), ("view", 1)]
    await check_settled(store, keys)
    rows = (await store.counters(keys)).rows
    assert [row.counter.count for row in rows] == [3 * COMMITS] * 5 + [COMMITS] * 2
    documents = [d.version for r in await follow(store) for d in r.documents]
    assert documents == sorted(documents)
    assert documents[-1] == 3 * COMMITS
    assert (await store.head()).revision.xmax == 3 * COMMITS + 1  # no transaction but these
    await store.close()


# --- a full disk ----------------------------------------------------------------------------


async def _fill(store: Store) -> tuple[int, StoreUnavailable]:
    """Write until the store refuses; how many writes it acknowledged, and what it said."""
    for n in range(10_000):
        try:
            await commit(store, Add("like", 1, n), Put(f"o{n}", "t", json(text="x" * 20_000)))
        except StoreUnavailable as error:
            return n, error
    raise AssertionError("the disk does not fill up")


async def _check_full(store: Store, acknowledged: int) -> None:
    """Nothing of the refused write is there, and reads go on."""
    assert acknowledged > 0
    assert (await store.edge("like", 1, acknowledged))[0] is None
    assert (await store.documents([f"o{acknowledged}"])).rows == (None,)
    assert await store.recount("like", 1) == Counter(acknowledged)
    head = await store.head()
    assert head.revision.xmax == acknowledged + 1
    assert await store.backlog() == 2 * acknowledged
    assert (await store.feed(0, 10)).rollups == ()
    assert len((await store.edges("like", 1, Window(1_000))).edges) == acknowledged


async def _check_goes_on(store: Store, acknowledged: int) -> None:
    await commit(store, Add("like", 1, acknowledged), Put("o", "t", json()))
    await check_settled(store, [("like", 1)])
    assert await count(store, "like", 1) == Counter(acknowledged + 1)


async def test_a_full_disk_refuses_the_write_and_nothing_else(tmp_path: Path, path: str) -> None:
    with mounted(tmp_path, 4):
        ballast = tmp_path / "ballast"
        ballast.write_bytes(bytes(2 * 2**20))
        store = SqliteStore(path, KINDS)
        try:
            acknowledged, error = await _fill(store)
            assert "free disk space" in error.detail
            await _check_full(store, acknowledged)
            with pytest.raises(StoreUnavailable):
                await drain(store)
            await _check_full(store, acknowledged)
            ballast.unlink()
            await _check_goes_on(store, acknowledged)
        finally:
            await store.close()


async def test_a_full_file_refuses_the_write_and_nothing_else(path: str) -> None:
    store = SqliteStore(path, KINDS)
    store._writer.execute("PRAGMA max_page_count = 200")
    acknowledged, error = await _fill(store)
    assert "free disk space" in error.detail
    await _check_full(store, acknowledged)
    with pytest.raises(StoreUnavailable, match="free disk space"):
        await drain(store)
    await _check_full(store, acknowledged)
    store._writer.execute("PRAGMA max_page_count = 100000")
    await _check_goes_on(store, acknowledged)
    await store.close()


async def test_a_transaction_that_fails_half_way_leaves_nothing(path: str) -> None:
    store = SqliteStore(path, KINDS)
    await commit(store, Add("like", 1, 0))
    store._writer.execute("PRAGMA max_page_count = 120")
    big = [Put(f"o{n}", "t", json(text="x" * 20_000)) for n in range(50)]
    with pytest.raises(StoreUnavailable):
        await store.commit([Batch((Add("like", 1, 1),)), Batch(tuple(big))])
    store._writer.execute("PRAGMA max_page_count = 100000")
    assert (await store.edge("like", 1, 1))[0] is None
    assert (await store.head()).revision.xmax == 2
    await check_settled(store, [("like", 1)])
    await store.close()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["lock", where]:
            _lock(where)
        case ["migrate", where]:
            _migrate(where)
        case ["write", where, begin]:
            _write(where, int(begin))
