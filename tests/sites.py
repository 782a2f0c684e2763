"""A site as docs/deploy.md describes it: real servers, and the page's own files and commands.

As written, but for addresses, paths and passwords.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import psycopg

import nodes
from clusters import Cluster, Installation
from test_docs import blocks

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = ROOT / "docs" / "deploy.md"
DEPLOY: Final = ROOT / "deploy"
WAIT_S: Final = 60.0


def block(start: str) -> str:
    """The one block of the page that starts like this."""
    [found] = [one.text for one in blocks(PAGE) if one.text.startswith(start)]
    return found


def conf() -> dict[str, object]:
    """What deploy/postgresql.conf sets, but for the address."""
    lines = re.findall(r"^(\w+) = ('[^'\n]*'|\S+)", (DEPLOY / "postgresql.conf").read_text(), re.M)
    found: dict[str, object] = {name: value.strip("'") for name, value in lines}
    assert found.pop("listen_addresses") == "*"
    return found


class Site:
    """The primary and its standby, a place for files, and what changes from the page to here."""

    def __init__(self, installation: Installation, folder: Path) -> None:
        self.folder = folder
        self.etc = folder / "etc"
        self.etc.mkdir()
        self.stack = contextlib.ExitStack()
        self.primary = self.stack.enter_context(
            Cluster(installation, settings=conf(), in_memory=True)
        )
        self._programs()
        self.allow()
        self.sh(block("sudo -u postgres psql -v"), cwd=ROOT)
        self.standby = self.primary.standby()

    def _programs(self) -> None:
        """`sudo` and `groundswell` as the page calls them."""
        self.bin = self.folder / "bin"
        self.bin.mkdir()
        for name, script in (
            ("sudo", 'shift 2; exec env "$@"'),
            ("groundswell", f'exec {sys.executable} -m groundswell "$@"'),
            ("python", f'exec {sys.executable} "$@"'),
        ):
            (self.bin / name).write_text(f"#!/bin/sh\n{script}\n")
            (self.bin / name).chmod(0o755)

    def allow(self) -> None:
        """Let in whom deploy/pg_hba.conf lets in, and these tests."""
        own = "".join(
            f"host {database} postgres 127.0.0.1/32 scram-sha-256\n"
            for database in ("all", "replication")
        )
        text = (DEPLOY / "pg_hba.conf").read_text()
        assert text.count("10.0.0.0/24") == 2
        hba = self.primary.folder / "data" / "pg_hba.conf"
        hba.write_text(own + text.replace("10.0.0.0/24", "127.0.0.1/32"))
        self.primary.execute("SELECT pg_reload_conf()")

    def let_in(self, database: str, user: str) -> None:
        """Add a line to pg_hba.conf, and wait until it counts."""
        with (self.primary.folder / "data" / "pg_hba.conf").open("a") as hba:
            hba.write(f"host {database} {user} 127.0.0.1/32 scram-sha-256\n")
        self.primary.execute("SELECT pg_reload_conf()")
        nodes.until(partial(can_connect, self.primary.url(database, user=user)), "they are let in")

    @property
    def password(self) -> str:
        return self.primary.password  # the tests' own server has one for all users

    def local(self, text: str) -> str:
        """What the page says, for here."""
        at = f"127.0.0.1:{self.primary.port}"
        if hasattr(self, "standby"):
            standby = f"127.0.0.1:{self.standby.port}"
            text = text.replace("@db-1,db-2/", f"@{at},{standby}/")
            text = text.replace("@db-2,db-1/", f"@{standby},{at}/")
        text = text.replace("@db-1/", f"@{at}/")
        text = text.replace("host=db-1 ", f"host=127.0.0.1 port={self.primary.port} ")
        text = text.replace("change-me-too", self.password).replace("change-me", self.password)
        text = text.replace("/opt/groundswell/bin/", "").replace("/etc/groundswell", str(self.etc))
        text = re.sub(r"/var/(lib/postgresql/15/main|backups)", f"{self.folder}/\\1", text)
        return text.replace("chown groundswell ", "chown $(id -un) ")

    def sh(self, text: str, *, cwd: Path | None = None, server: Cluster | None = None) -> str:
        """Run the commands of the page; what they print."""
        server = server or self.primary
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.local(text)],
            cwd=cwd or self.folder,
            env=nodes.clean_environment()
            | {
                "PATH": f"{self.bin}:{server.installation.bin}:{os.environ['PATH']}",
                "PGHOST": "127.0.0.1",
                "PGPORT": str(server.port),
                "PGUSER": "postgres",
                "PGPASSWORD": self.password,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        assert done.returncode == 0, (text, done.stdout, done.stderr)
        return done.stdout

    def toml(self, more: str = "") -> str:
        """The nodes' settings, with `more` kinds."""
        text = (self.etc / "groundswell.toml").read_text().replace('"0.0.0.0"', '"127.0.0.1"')
        return self.local(text).replace("[kinds.clap]", f"{more}\n[kinds.clap]")

    @property
    def environment(self) -> dict[str, str]:
        """What deploy/groundswell.service sets."""
        [(name, value)] = re.findall(
            r"^Environment=(\w+)=(.*)$", (DEPLOY / "groundswell.service").read_text(), re.M
        )
        return {name: self.local(value)}

    @property
    def key(self) -> str:
        return (self.folder / "shop.txt").read_text().splitlines()[0]

    @property
    def database(self) -> str:
        """For the superuser."""
        return self.primary.url("groundswell")


def ask(
    url: str, site: Site | None, method: str, path: str, body: Any = None, token: str = ""
) -> nodes.Answer:
    """One request, with the key of the site."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    headers = {"Authorization": f"Bearer {site.key}"} if site else {}
    if token:
        headers["Groundswell-Session"] = token
    try:
        content = None if body is None else msgspec.json.encode(body)
        connection.request(method, path, content, headers)
        return nodes.Answer(connection.getresponse())
    finally:
        connection.close()


def can_connect(url: str) -> bool:
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url):
        return True
    return False
