"""PostgreSQL under Patroni as docs/patroni.md has it: etcd, three servers, and HAProxy in front of them.

The files of deploy/ are used, of which only addresses, paths and passwords are changed.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import psycopg

import nodes
from balancers import haproxy
from clusters import Installation
from groundswell.verify.home import Home, as_user
from groundswell.verify.program import free_port
from sites import DEPLOY

NAMES: Final = ("db-1", "db-2", "db-3")
WAIT_S: Final = 120.0
PROGRAMS: Final = ("patroni", "etcd", "haproxy")
WITHOUT: Final = [name for name in PROGRAMS if shutil.which(name) is None]
MISSING: Final = f"not installed: {', '.join(WITHOUT)}" if WITHOUT else ""
# Files of the servers stay in their folders, so that a kill leaves nothing behind.
OWN: Final = """
  parameters:
    unix_socket_directories: {folder}
    dynamic_shared_memory_type: mmap
"""


class Machine:
    """A program, with all that it starts: in a folder of its own, as the user who runs PostgreSQL."""

    def __init__(self, command: Sequence[str | Path], home: Home) -> None:
        self._command = command
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None
        self.log = home.folder / "log"

    def start(self) -> None:
        assert self._process is None
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._home.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **as_user(),
            )

    def kill(self) -> None:
        """SIGKILL it and all that it has started, as when the machine is gone."""
        process, self._process = self._process, None
        while self._home.processes():
            self._home.signal(signal.SIGKILL)
            if process is not None:
                process.poll()  # a zombie has no folder, and is reaped here
            time.sleep(0.01)
        if process is not None:
            process.wait()

    def pause(self) -> None:
        """SIGSTOP: all of it stands still, and answers nobody."""
        self._home.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._home.signal(signal.SIGCONT)


class Member(Machine):
    """One server and the Patroni that looks after it."""

    def __init__(
        self, name: str, home: Home, installation: Installation, etcd: int, password: str
    ) -> None:
        self.name = name
        self.port, self.rest = free_port(), free_port()
        file = home.folder / "patroni.yml"
        file.write_text(self._adapted(home.folder, installation, etcd, password))
        super().__init__(["patroni", file], home)

    def _adapted(self, folder: Path, installation: Installation, etcd: int, password: str) -> str:
        text = (DEPLOY / "patroni.yml").read_text()
        for old, new in {
            "name: db-1\n": f"name: {self.name}\n",
            "10.0.0.21:8008": f"127.0.0.1:{self.rest}",
            "10.0.0.21:5432": f"127.0.0.1:{self.port}",
            "[10.0.0.31:2379, 10.0.0.32:2379, 10.0.0.33:2379]": f"[127.0.0.1:{etcd}]",
            "10.0.0.0/24": "127.0.0.1/32",
            "/var/lib/postgresql/15/main": str(folder / "data"),
            "/usr/lib/postgresql/15/bin": str(installation.bin),
            "/var/lib/postgresql/.pgpass-patroni": str(folder / "pgpass"),
        }.items():
            assert old in text, old
            text = text.replace(old, new)
        text, changed = re.subn(r"change-me[-\w]*", password, text)
        assert changed == 3
        return text + OWN.format(folder=folder)

    def crash(self) -> None:
        """SIGKILL PostgreSQL alone."""
        [postmaster] = (self._home.folder / "data" / "postmaster.pid").read_text().splitlines()[:1]
        os.kill(int(postmaster), signal.SIGKILL)

    def hold_back(self) -> None:
        """From here on it sends nothing to its standbys, and does not know."""
        for process in self._home.processes():
            with contextlib.suppress(OSError):
                if b"walsender" in Path(f"/proc/{process}/cmdline").read_bytes():
                    os.kill(process, signal.SIGSTOP)

    def is_a(self, role: str) -> bool:
        """What HAProxy asks: whether it is the primary, or a replica that can be read."""
        url = f"http://127.0.0.1:{self.rest}/{role}"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return True
        return False


class Patronis:
    """All of them, started, with an empty database; gone when the stack is closed."""

    def __init__(
        self, installation: Installation, folder: Path, stack: contextlib.ExitStack
    ) -> None:
        self.password = secrets.token_hex(8)
        self._synchronous = True
        self._stack = stack
        etcd, peers = free_port(), free_port()
        self.etcd = self._etcd(etcd, peers)
        self.members = [
            Member(name, self._home(), installation, etcd, self.password) for name in NAMES
        ]
        for member in self.members:
            stack.callback(member.kill)
            member.start()
        try:
            nodes.until(lambda: len(self.roles()) == len(NAMES), "three servers", within_s=WAIT_S)
        except AssertionError as error:
            said = [member.log.read_text()[-2_000:] for member in self.members]
            raise AssertionError("\n".join(said)) from error
        self.port, self.standby_port = free_port(), free_port()
        stack.enter_context(haproxy(folder, self._balanced(), folder / "haproxy.log"))
        # At first it takes everybody for the leader, and asks one after the other.
        only = lambda: all(self.can_write() for _ in NAMES)  # noqa: E731
        nodes.until(only, "HAProxy has found the leader", within_s=WAIT_S)

    def _home(self) -> Home:
        home = Home(in_memory=True)
        self._stack.callback(home.close)
        return home

    def _etcd(self, port: int, peers: int) -> Machine:
        home = self._home()
        own, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peers}"
        flags = {
            "data-dir": str(home.folder / "data"),
            "listen-client-urls": own,
            "advertise-client-urls": own,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
        }
        made = Machine(["etcd", *(f"--{name}={value}" for name, value in flags.items())], home)
        self._stack.callback(made.kill)
        made.start()
        return made

    def _balanced(self) -> str:
        text = (DEPLOY / "haproxy-postgres.cfg").read_text()
        for old, new in (
            ("bind :5000\n", f"bind 127.0.0.1:{self.port}\n"),
            ("bind :5001\n", f"bind 127.0.0.1:{self.standby_port}\n"),
        ):
            assert old in text
            text = text.replace(old, new)
        for number, member in enumerate(self.members, 1):
            old = f"server db-{number} 10.0.0.2{number}:5432 check port 8008"
            assert text.count(old) == 2
            text = text.replace(
                old, f"server db-{number} 127.0.0.1:{member.port} check port {member.rest}"
            )
        return text

    def roles(self) -> dict[str, str]:
        """Of those that are there, as each says itself."""
        found = {}
        for member in self.members:
            for role in ("primary", "replica"):
                if member.is_a(role):
                    found[member.name] = role
        return found

    @property
    def leader(self) -> Member:
        """Whoever takes writes; waits while nobody does, or says so in time."""
        found: list[Member] = []

        def is_one() -> bool:
            found[:] = [member for member in self.members if member.is_a("primary")]
            return len(found) == 1

        nodes.until(is_one, "a leader", within_s=WAIT_S)
        return found[0]

    def is_whole(self) -> bool:
        """Whether both others follow the leader, and one of them may take its place, if that is wanted.

        Which one, Patroni has to have noted in etcd: that PostgreSQL waits for it does not suffice.
        """
        with contextlib.suppress(psycopg.OperationalError):
            found = self.execute("SELECT FROM pg_stat_replication WHERE state = 'streaming'")
            noted = sum(member.is_a("sync") for member in self.members)
            return len(found) == len(NAMES) - 1 and noted == self._synchronous
        return False

    def require_standby(self, synchronous: bool) -> None:
        """Whether nothing is acknowledged that only one server has."""
        self._synchronous = synchronous
        change = msgspec.json.encode({"synchronous_mode": synchronous})
        url = f"http://127.0.0.1:{self.leader.rest}/config"
        with urllib.request.urlopen(
            urllib.request.Request(url, change, method="PATCH"), timeout=10
        ) as answer:
            assert answer.status == 200
        nodes.until(self.is_whole, "they have heard of it", within_s=WAIT_S)

    def resume(self) -> None:
        """Let everybody go on."""
        for member in self.members:
            member.resume()

    def can_write(self) -> bool:
        """Whether the leader can be reached by way of HAProxy."""
        with contextlib.suppress(psycopg.OperationalError):
            return self.execute("SELECT pg_is_in_recovery()") == [(False,)]
        return False

    def adapted(self, text: str) -> str:
        """What the page says, for here."""
        for old, new in (
            ("groundswell@10.0.0.40:5000", f"groundswell:{self.password}@127.0.0.1:{self.port}"),
            (
                "groundswell@10.0.0.40:5001",
                f"groundswell:{self.password}@127.0.0.1:{self.standby_port}",
            ),
            ("-h 10.0.0.40 -p 5000", f"-h 127.0.0.1 -p {self.port}"),
            ("change-me", self.password),
        ):
            text = text.replace(old, new)
        return text

    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a statement on the leader, for the superuser."""
        url = f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/postgres"
        url += "?target_session_attrs=read-write"
        with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
            done = connection.execute(sql.encode())
            return done.fetchall() if done.description is not None else []
