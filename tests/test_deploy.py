"""docs/deploy.md and the files in deploy/, as written but for addresses, paths and passwords: real servers."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import psycopg
import pytest

import nodes
from balancers import Balancer, balanced, needs_haproxy
from clusters import Cluster, Installation, missing
from pg_nodes import rows
from test_docs import blocks

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = ROOT / "docs" / "deploy.md"
DEPLOY: Final = ROOT / "deploy"
WAIT_S: Final = 60.0

# How the blocks begin that are run here, and those that change the machine and were run by hand.
RUN: Final = (
    "sudo -u postgres psql -v",
    "CREATE SCHEMA",
    "echo '*:*:groundswell",
    "umask 077",
    "cd /etc/groundswell",
    'sudo -u postgres pg_basebackup -d "host=db-1 user=replicator" -D /var/lib',
    'sudo -u postgres psql -c "SELECT pg_promote()"',
    "CREATE ROLE notifier",
    "$ python examples/pgq_consumer.py",
    'sudo -u postgres pg_basebackup -d "host=db-1 user=replicator" -D /var/backups',
    "touch /var/backups",
    "sudo -u postgres pg_dump",
    "SET synchronous_commit",
    'echo "set server nodes',
)
BY_HAND: Final = (
    "apt-get install postgresql",
    "python3 -m venv /opt/groundswell",
    "systemctl enable",
    "apt-get install haproxy",
)

pytestmark = pytest.mark.skipif(bool(missing(pgq=True)), reason=missing(pgq=True))


def block(start: str) -> str:
    """The one block of the page that starts like this."""
    [found] = [one.text for one in blocks(PAGE) if one.text.startswith(start)]
    return found


def test_every_block_is_run_here_or_was_run_by_hand() -> None:
    texts = [one.text for one in blocks(PAGE) if one.language in ("sh", "sql", "console")]
    for text in texts:
        assert sum(text.startswith(start) for start in (*RUN, *BY_HAND)) == 1, text
    assert len(texts) == len(RUN) + len(BY_HAND)


def until(check: Callable[[], object], what: str) -> None:
    """Wait until `check` says yes."""
    deadline_s = time.monotonic() + WAIT_S
    while not check():
        assert time.monotonic() < deadline_s, f"waited in vain: {what}"
        time.sleep(0.02)


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
        """The nodes' settings; `more` is put before the keys."""
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


@pytest.fixture(scope="module")
def site(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Servers, settings, password file and key as the page has them made, and the store migrated."""
    made = Site(installation, tmp_path_factory.mktemp("deploy"))
    with made.stack:
        shutil.copy(DEPLOY / "groundswell.toml", made.etc)
        for start in ("echo '*:*:groundswell", "umask 077"):
            made.sh(block(start))
        local = made.local((made.etc / "groundswell.toml").read_text())
        (made.etc / "groundswell.toml").write_text(local)
        said = made.sh(block("cd /etc/groundswell"))
        assert "was at version 0, now at version " in said
        assert made.password not in said
        yield made


@pytest.fixture(scope="module")
def pair(site: Site) -> Iterator[list[nodes.Node]]:
    """Two nodes as the unit starts them, but for their workers: one process each is easier to kill."""
    with contextlib.ExitStack() as stack:
        made = []
        for name in ("node-1", "node-2"):
            (site.folder / name).mkdir()
            node = nodes.running(
                site.folder / name, "--workers", "1", toml=site.toml(), environment=site.environment
            )
            made.append(stack.enter_context(node))
        yield made


@pytest.fixture(scope="module")
def balancer(site: Site, pair: list[nodes.Node]) -> Iterator[Balancer]:
    with balanced(site.folder / "haproxy", [node.url for node in pair]) as made:
        yield made


def ask(
    url: str, site: Site, method: str, path: str, body: Any = None, token: str = ""
) -> nodes.Answer:
    """One request with the key."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    headers = {"Authorization": f"Bearer {site.key}"}
    if token:
        headers["Groundswell-Session"] = token
    try:
        content = None if body is None else msgspec.json.encode(body)
        connection.request(method, path, content, headers)
        return nodes.Answer(connection.getresponse())
    finally:
        connection.close()


class Load:
    """Requests through the balancer, one after the other, from a few threads, until told to stop."""

    def __init__(self, url: str, site: Site, target: int, *, writing: bool) -> None:
        self.answers: Counter[int] = Counter()
        self.wrong: list[object] = []
        self.liked = 0
        self._ask = lambda method, path: ask(url, site, method, path)
        self._target = target
        self._writing = writing
        self._over = threading.Event()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._work) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def answered(self, more: int) -> None:
        """Wait for so many more."""
        goal = self.answers.total() + more
        until(lambda: self.answers.total() >= goal or self.wrong, "answers")

    def _work(self) -> None:
        while not self._over.is_set():
            with self._lock:
                self.liked += self._writing
                source = self.liked
            if self._writing:
                self._try("PUT", f"/v1/edges/like/{self._target}/{source}")
            self._try("GET", f"/v1/counts/like/{self._target}?consistency=eventual")

    def _try(self, method: str, path: str) -> None:
        try:
            answer = self._ask(method, path)
        except (OSError, http.client.HTTPException) as error:
            self.wrong.append((method, path, error))
            return
        self.answers[answer.status] += 1
        if answer.status != 200:
            self.wrong.append((method, path, answer))


# --- the files ------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_the_unit_is_one(tmp_path: Path) -> None:
    text = (DEPLOY / "groundswell.service").read_text()
    assert "\nExecStart=/opt/groundswell/bin/groundswell serve\n" in text
    unit = tmp_path / "groundswell.service"
    unit.write_text(text.replace("/opt/groundswell/bin/groundswell", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


# --- PostgreSQL -----------------------------------------------------------------------------------


def test_the_server_is_as_described(site: Site) -> None:
    with psycopg.connect(site.primary.url("groundswell", user="groundswell")) as connection:
        found = connection.execute(
            "SELECT current_setting('wal_level'), current_setting('synchronous_commit'), "
            "rolsuper, pg_has_role('pgq_admin', 'USAGE') FROM pg_roles WHERE rolname = current_user"
        ).fetchall()
        queue = connection.execute("SELECT queue FROM groundswell.identity").fetchall()
    assert found == [("replica", "on", False, True)]
    assert queue == [("pgq",)]
    with pytest.raises(psycopg.OperationalError, match="no pg_hba.conf entry"):
        psycopg.connect(site.primary.url("postgres", user="groundswell"))


def test_a_managed_server_needs_no_more_than_a_schema(site: Site) -> None:
    name = site.primary.create_database()
    try:
        rows(site.primary.url(name), block("CREATE SCHEMA"))
        hba = site.primary.folder / "data" / "pg_hba.conf"
        hba.write_text(hba.read_text() + f"host {name} groundswell 127.0.0.1/32 scram-sha-256\n")
        site.primary.execute("SELECT pg_reload_conf()")
        url = site.primary.url(name, user="groundswell")
        until(lambda: can_connect(url), "pg_hba.conf is read again")
        (site.folder / "managed").mkdir()
        done = nodes.command(site.folder / "managed", "migrate", "--store", url)
        assert done.returncode == 0, done
        assert rows(url, "SELECT queue FROM groundswell.identity") == [("outbox",)]
        with nodes.running(site.folder / "managed", "--store", url) as node:
            assert node.request("PUT", "/v1/edges/like/1/1").status == 200
            assert node.count("like", 1) == 1
    finally:
        site.primary.drop_database(name)


def can_connect(url: str) -> bool:
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url):
        return True
    return False


def test_a_standby_is_made_by_one_command(site: Site) -> None:
    backup, start = block(RUN[5]).splitlines()
    assert start.startswith("systemctl start postgresql")
    site.sh(backup)
    made = site.folder / "lib/postgresql/15/main"
    assert (made / "standby.signal").exists()
    assert "primary_slot_name = 'db_2'" in (made / "postgresql.auto.conf").read_text()
    slots = site.primary.execute("SELECT slot_name FROM pg_replication_slots")
    assert slots == [("db_2",)]
    site.primary.execute("SELECT pg_drop_replication_slot('db_2')")


# --- nodes behind HAProxy -------------------------------------------------------------------------


def test_a_node_without_keys_does_not_listen_to_everybody(tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "groundswell.toml", tmp_path)
    done = nodes.command(tmp_path, "serve")
    assert done.returncode == 1
    assert "there are no API keys" in done.stderr


def test_the_settings_as_they_are(site: Site, tmp_path: Path) -> None:
    with nodes.running(tmp_path, toml=site.toml(), environment=site.environment) as node:
        assert "1 replica(s), 2 workers." in node.output()
        answer = ask(node.url, site, "PUT", "/v1/edges/clap/a/1")
        assert answer.json == {"changed": True}
        assert ask(node.url, site, "GET", "/v1/counts/clap/a", token=answer.token).json["count"]


@needs_haproxy
def test_requests_of_one_session_go_to_both_nodes(
    site: Site, pair: list[nodes.Node], balancer: Balancer
) -> None:
    until(lambda: set(balancer.states().values()) == {"UP"}, "both nodes are asked")
    token = ""
    for source in range(20):
        answer = ask(balancer.url, site, "PUT", f"/v1/edges/like/1/{source}", token=token)
        assert answer.json == {"changed": True}
        answer = ask(balancer.url, site, "GET", "/v1/counts/like/1", token=answer.token)
        assert answer.json["count"] == source + 1
        token = answer.token
    answer = ask(balancer.url, site, "PUT", "/v1/edges/clap/talks%2Fopening/1", token=token)
    assert answer.json == {"changed": True}
    assert nodes.problem(http_get(balancer.url, "/v1/counts/like/1"), 401, "unauthenticated")
    assert http_get(balancer.url, "/metrics").status == 404
    sessions = balancer.tell("show stat").splitlines()
    at = sessions[0].split(",").index("stot")
    served = [int(line.split(",")[at]) for line in sessions if line.startswith("nodes,node-")]
    assert min(served) >= 20, served


def http_get(url: str, path: str) -> nodes.Answer:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    try:
        connection.request("GET", path)
        return nodes.Answer(connection.getresponse())
    finally:
        connection.close()


@needs_haproxy
def test_nobody_who_reads_notices_that_a_node_dies(
    site: Site, pair: list[nodes.Node], balancer: Balancer
) -> None:
    load = Load(balancer.url, site, 1, writing=False)
    with load.running():
        load.answered(50)
        pair[0].kill()
        until(lambda: balancer.states()["node-1"].startswith("DOWN"), "it counts as down")
        load.answered(50)
        pair[0].start()
        until(lambda: balancer.states()["node-1"] == "UP", "it is back")
        load.answered(50)
    assert not load.wrong, load.wrong[:3]


@needs_haproxy
def test_nodes_are_restarted_with_a_new_kind_without_an_error_for_anybody(
    site: Site, pair: list[nodes.Node], balancer: Balancer
) -> None:
    toml = site.toml("[kinds.wow]\ninverse = true\n")
    drain, restart, ready = block('echo "set server nodes').splitlines()
    assert restart.startswith("systemctl restart groundswell")
    load = Load(balancer.url, site, 2, writing=True)
    with load.running():
        (pair[0].folder / "groundswell.toml").write_text(toml)
        done = nodes.command(pair[0].folder, "migrate", environment=site.environment)
        assert done.returncode == 0, done
        for number, node in enumerate(pair, 1):
            load.answered(50)
            (node.folder / "groundswell.toml").write_text(toml)
            tell(balancer, drain, number)
            assert node.terminate() == 0
            node.start()
            until(lambda n=number: not balancer.states()[f"node-{n}"].startswith("DOWN"), "up")
            tell(balancer, ready, number)
        load.answered(50)
    assert not load.wrong, load.wrong[:3]
    until(lambda: set(balancer.states().values()) == {"UP"}, "both nodes are asked again")
    answer = ask(balancer.url, site, "GET", "/v1/counts/like/2?consistency=linearizable")
    assert answer.json["count"] == load.liked
    answer = ask(balancer.url, site, "PUT", "/v1/edges/wow/1/1")
    assert answer.json == {"changed": True}


def tell(balancer: Balancer, line: str, number: int) -> None:
    """What the line of the page tells HAProxy, of another node perhaps."""
    told = re.match(r'echo "(set server nodes/node-)1( \w+ \w+)" \| socat - /run/haproxy/', line)
    assert told is not None
    assert balancer.tell(f"{told[1]}{number}{told[2]}").strip() == ""


def test_lists_at_eventual_come_from_the_standby(site: Site, pair: list[nodes.Node]) -> None:
    ask(pair[0].url, site, "PUT", "/v1/edges/like/3/1")
    site.standby.catch_up()
    answer = ask(pair[1].url, site, "GET", "/v1/edges/like/3?consistency=eventual")
    assert [edge["source"] for edge in answer.json["edges"]] == [1]
    assert answer.json["read"]["served_by"] == "standby"
    assert answer.json["read"]["age_ms"] is None


# --- the consumer ---------------------------------------------------------------------------------


def test_a_consumer_of_the_queue_is_told_of_every_change_once_or_again(
    site: Site, pair: list[nodes.Node]
) -> None:
    for statement in block("CREATE ROLE notifier").splitlines():
        rows(site.database, site.local(statement))
    hba = site.primary.folder / "data" / "pg_hba.conf"
    hba.write_text(hba.read_text() + "host groundswell notifier 127.0.0.1/32 scram-sha-256\n")
    site.primary.execute("SELECT pg_reload_conf()")
    url = site.primary.url("groundswell", user="notifier")
    until(lambda: can_connect(url), "pg_hba.conf is read again")

    console = block("$ python examples/pgq_consumer.py")
    command, *told = site.local(console).removeprefix("$ ").splitlines()
    writes = (
        ("PUT", "/v1/edges/like/42/7", None),
        ("PUT", "/v1/edges/review/42/7", {"value": 4}),
        ("PUT", "/v1/objects/note-1", {"type": "note", "data": {"text": "Hello."}}),
    )
    with consumer(site, command) as lines:
        registered = "SELECT FROM pgq.consumer WHERE co_name = 'example'"
        until(lambda: rows(site.database, registered), "it is registered")
        for write in writes:
            ask(pair[0].url, site, *write)
        assert [next(lines) for _ in told] == told
    ask(pair[1].url, site, "DELETE", "/v1/objects/note-1")  # while it does not run
    with consumer(site, command) as lines:
        # Its last batch may not have been finished, and then comes again.
        again = iter(lambda: next(lines), "note note-1: version 2, None")
        assert set(again) <= set(told)
    info = "SELECT pending_events FROM pgq.get_consumer_info('groundswell', 'example')"
    assert rows(site.database, info)
    [end] = re.findall(r"`(SELECT pgq\.unregister_consumer\([^`]+)`", PAGE.read_text())
    rows(site.database, end)


@contextlib.contextmanager
def consumer(site: Site, command: str) -> Iterator[Iterator[str]]:
    """The lines that the consumer prints."""
    with subprocess.Popen(
        ["bash", "-c", f"exec {command}"],
        cwd=ROOT,
        env=nodes.clean_environment() | {"PATH": f"{site.bin}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield (line.rstrip("\n") for line in process.stdout)
        finally:
            process.kill()


# --- backups --------------------------------------------------------------------------------------


def test_a_backup_is_made_by_one_command(site: Site) -> None:
    site.sh(block(RUN[9]))
    site.sh(block("touch /var/backups"))
    made = site.folder / "backups/groundswell"
    assert (made / "recovery.signal").exists()
    assert "restore_command" in (made / "postgresql.auto.conf").read_text()


@pytest.mark.parametrize("recovered", [True, False])
def test_tokens_after_a_restore(
    site: Site, pair: list[nodes.Node], tmp_path: Path, recovered: bool
) -> None:
    """A standby that was cut off is a backup: with recovery it begins a new timeline."""
    target = 10 + recovered
    copy = site.primary.standby()
    kept = ask(pair[0].url, site, "PUT", f"/v1/edges/like/{target}/1").token
    copy.catch_up()
    copy.stop()
    lost = ask(pair[0].url, site, "PUT", f"/v1/edges/like/{target}/2", token=kept).token
    data = copy.folder / "data"
    (data / "standby.signal").unlink()
    if recovered:
        (data / "recovery.signal").touch()
        with (data / "postgresql.auto.conf").open("a") as conf:
            conf.write("restore_command = 'false'\nprimary_conninfo = ''\n")
    copy.start()
    toml = site.toml().replace(str(site.primary.port), str(copy.port))
    toml = re.sub(r"^standby = .*$", "", toml, flags=re.MULTILINE)
    with nodes.running(tmp_path, toml=toml, environment=site.environment) as node:
        path = f"/v1/counts/like/{target}"
        answer = ask(node.url, site, "GET", path, token=kept)
        assert (answer.status, answer.json["count"]) == (200, 1)
        answer = ask(node.url, site, "GET", path, token=lost)
        if not recovered:
            nodes.problem(answer, 400, "bad-token")
            return
        assert (answer.status, answer.json["count"]) == (200, 1)
        assert answer.json["read"]["served_by"] == "primary"
        answer = ask(node.url, site, "GET", path, token=answer.token)
        assert (answer.status, answer.json["count"]) == (200, 1)
    copy.close()


def test_a_dump_in_another_server(
    site: Site, pair: list[nodes.Node], installation: Installation, tmp_path: Path
) -> None:
    """It is refused until the server has come far enough; then nothing is missing, and nothing twice."""
    token = ask(pair[0].url, site, "PUT", "/v1/edges/like/20/1").token
    dump, restore = block("sudo -u postgres pg_dump").splitlines()
    with Cluster(installation, in_memory=True) as other:
        other.execute(f"ALTER ROLE postgres PASSWORD '{site.password}'")
        other.password = site.password
        site.sh(block("sudo -u postgres psql -v"), cwd=ROOT, server=other)
        with psycopg.connect(site.database, autocommit=True) as connection:
            for _ in range(300):  # the two servers began alike
                connection.execute("SELECT pg_current_xact_id()")
        writes = [{"op": "add", "kind": "like", "target": 20, "source": n} for n in range(2, 50)]
        with psycopg.connect(site.database) as held:  # so that some events are not rolled up yet
            held.execute("SELECT pg_advisory_xact_lock(hashtextextended('groundswell.rollup', 0))")
            ask(pair[1].url, site, "POST", "/v1/writes", {"writes": writes})
            site.sh(dump)
        site.sh(restore, server=other)
        url = other.url("groundswell", user="groundswell")
        refused = nodes.command(tmp_path, "migrate", "--store", url)
        assert refused.returncode == 1
        needed = re.search(r"transactions up to (\d+), this server has come to", refused.stderr)
        assert needed is not None, refused.stderr
        for statement in block("SET synchronous_commit").split(";\n", 1)[1:]:
            rows(url, statement.replace("123456789", needed[1]))
        toml = site.toml()
        toml = re.sub(r"^(standby|store) = .*$", "", toml, flags=re.MULTILINE)
        with nodes.running(tmp_path, "--store", url, toml=toml) as node:
            path = "/v1/counts/like/20?consistency=linearizable"
            assert ask(node.url, site, "GET", path).json["count"] == 49
            ask(node.url, site, "PUT", "/v1/edges/like/20/50")
            assert ask(node.url, site, "GET", path).json["count"] == 50
            answer = ask(node.url, site, "GET", path, token=token)
            found = nodes.problem(answer, 400, "bad-token")
            assert "another store" in found["detail"]


# --- failover, which is the end of the primary ----------------------------------------------------


@needs_haproxy
def test_the_nodes_find_the_new_primary(
    site: Site, pair: list[nodes.Node], balancer: Balancer
) -> None:
    answer = ask(balancer.url, site, "PUT", "/v1/edges/like/30/1")
    token = answer.token
    site.standby.catch_up()
    site.primary.kill()
    assert ask(balancer.url, site, "GET", "/v1/counts/like/1?consistency=eventual").status == 200
    assert http_get(balancer.url, "/readyz").status == 200
    site.sh(block('sudo -u postgres psql -c "SELECT pg_promote()"'), server=site.standby)
    for source, node in enumerate(pair, 2):
        until(
            lambda n=node, s=source: (
                ask(n.url, site, "PUT", f"/v1/edges/like/30/{s}").status == 200
            ),
            "a write on the new primary",
        )
    answer = ask(balancer.url, site, "GET", "/v1/counts/like/30", token=token)
    assert answer.status == 200
    assert answer.json["count"] in (1, 2, 3)
    path = "/v1/counts/like/30?consistency=linearizable"
    assert ask(balancer.url, site, "GET", path).json["count"] == 3
