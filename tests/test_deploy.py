"""docs/deploy.md and the files in deploy/, with real servers: see `sites` for what is changed of them."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import psycopg
import pytest

import nodes
from balancers import Balancer, balanced, needs_haproxy
from clusters import Cluster, Installation, missing
from pg_nodes import rows
from sites import DEPLOY, PAGE, ROOT, WAIT_S, Site, ask, block
from test_docs import blocks

# How the blocks begin that are run here.
SETUP: Final = "sudo -u postgres psql -v"
SCHEMA: Final = "CREATE SCHEMA"
PASSWORD: Final = "echo '*:*:groundswell"
KEY: Final = "umask 077"
MIGRATE: Final = "cd /etc/groundswell"
STANDBY: Final = 'sudo -u postgres pg_basebackup -d "host=db-1 user=replicator" -D /var/lib'
PROMOTE: Final = 'sudo -u postgres psql -c "SELECT pg_promote()"'
NOTIFIER: Final = "CREATE ROLE notifier"
CONSUMER: Final = "$ python examples/pgq_consumer.py"
BACKUP: Final = 'sudo -u postgres pg_basebackup -d "host=db-1 user=replicator" -D /var/backups'
RECOVERY: Final = "touch /var/backups"
DUMP: Final = "sudo -u postgres pg_dump"
CATCH_UP: Final = "SET synchronous_commit"
DRAIN: Final = 'echo "set server nodes'
RUN: Final = (SETUP, SCHEMA, PASSWORD, KEY, MIGRATE, STANDBY, PROMOTE, NOTIFIER, CONSUMER)
RUN_TOO: Final = (BACKUP, RECOVERY, DUMP, CATCH_UP, DRAIN)
# And of those that change the machine, and were run by hand.
BY_HAND: Final = (
    "apt-get install postgresql",
    "python3 -m venv /opt/groundswell",
    "systemctl enable",
    "apt-get install haproxy",
)

pytestmark = pytest.mark.skipif(bool(missing(pgq=True)), reason=missing(pgq=True))


def test_every_block_is_run_here_or_was_run_by_hand() -> None:
    texts = [one.text for one in blocks(PAGE) if one.language in ("sh", "sql", "console")]
    starts = (*RUN, *RUN_TOO, *BY_HAND)
    for text in texts:
        assert sum(text.startswith(start) for start in starts) == 1, text
    assert len(texts) == len(starts)


@pytest.fixture(scope="module")
def site(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Servers, settings, password file and key as the page has them made, and the store migrated."""
    made = Site(installation, tmp_path_factory.mktemp("deploy"))
    with made.stack:
        shutil.copy(DEPLOY / "groundswell.toml", made.etc)
        for start in (PASSWORD, KEY):
            made.sh(block(start))
        (made.etc / "groundswell.toml").write_text(made.toml())
        said = made.sh(block(MIGRATE))
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
    with pytest.raises(psycopg.OperationalError, match="no pg_hba"):
        psycopg.connect(site.primary.url("postgres", user="groundswell"))


def test_a_managed_server_needs_no_more_than_a_schema(site: Site) -> None:
    name = site.primary.create_database()
    try:
        rows(site.primary.url(name), block(SCHEMA))
        site.let_in(name, "groundswell")
        url = site.primary.url(name, user="groundswell")
        (site.folder / "managed").mkdir()
        done = nodes.command(site.folder / "managed", "migrate", "--store", url)
        assert done.returncode == 0, done
        assert rows(url, "SELECT queue FROM groundswell.identity") == [("outbox",)]
        with nodes.running(site.folder / "managed", "--store", url) as node:
            assert node.request("PUT", "/v1/edges/like/1/1").status == 200
            assert node.count("like", 1) == 1
    finally:
        site.primary.drop_database(name)


def test_a_standby_is_made_by_one_command(site: Site) -> None:
    backup, start = block(STANDBY).splitlines()
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
    nodes.until(lambda: set(balancer.states().values()) == {"UP"}, "both nodes are asked")
    token = ""
    for source in range(20):
        answer = ask(balancer.url, site, "PUT", f"/v1/edges/like/1/{source}", token=token)
        assert answer.json == {"changed": True}
        answer = ask(balancer.url, site, "GET", "/v1/counts/like/1", token=answer.token)
        assert answer.json["count"] == source + 1
        token = answer.token
    answer = ask(balancer.url, site, "PUT", "/v1/edges/clap/talks%2Fopening/1", token=token)
    assert answer.json == {"changed": True}
    assert nodes.problem(
        ask(balancer.url, None, "GET", "/v1/counts/like/1"), 401, "unauthenticated"
    )
    assert ask(balancer.url, site, "GET", "/metrics").status == 404
    sessions = balancer.tell("show stat").splitlines()
    at = sessions[0].split(",").index("stot")
    served = [int(line.split(",")[at]) for line in sessions if line.startswith("nodes,node-")]
    assert min(served) >= 20, served


class Load:
    """Requests through the balancer, one after the other, from a few threads, until told to stop."""

    def __init__(self, url: str, site: Site, target: int, *, writing: bool) -> None:
        self.answers: Counter[int] = Counter()
        self.wrong: list[object] = []
        self.liked = 0
        self._url = url
        self._site = site
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
        nodes.until(lambda: self.answers.total() >= goal or self.wrong, "answers")

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
            answer = ask(self._url, self._site, method, path)
        except (OSError, http.client.HTTPException) as error:
            self.wrong.append((method, path, error))
            return
        self.answers[answer.status] += 1
        if answer.status != 200:
            self.wrong.append((method, path, answer))


@needs_haproxy
def test_nobody_who_reads_notices_that_a_node_dies(
    site: Site, pair: list[nodes.Node], balancer: Balancer
) -> None:
    load = Load(balancer.url, site, 1, writing=False)
    with load.running():
        load.answered(50)
        pair[0].kill()
        nodes.until(lambda: not is_up(balancer, "node-1"), "it counts as down")
        load.answered(50)
        pair[0].start()
        nodes.until(lambda: balancer.states()["node-1"] == "UP", "it is back")
        load.answered(50)
    assert not load.wrong, load.wrong[:3]


def _is_up(balancer: Balancer, number: int) -> bool:
    return not balancer.states()[f"node-{number}"].startswith("DOWN")


def _is_liked(node: nodes.Node, site: Site, source: int) -> bool:
    return ask(node.url, site, "PUT", f"/v1/edges/like/30/{source}").status == 200


@needs_haproxy
def test_nodes_are_restarted_with_a_new_kind_without_an_error_for_anybody(
    site: Site, pair: list[nodes.Node], balancer: Balancer
) -> None:
    toml = site.toml("[kinds.wow]\ninverse = true\n")
    drain, restart, ready = block(DRAIN).splitlines()
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
            nodes.until(partial(_is_up, balancer, number), "up")
            tell(balancer, ready, number)
        load.answered(50)
    assert not load.wrong, load.wrong[:3]
    nodes.until(lambda: set(balancer.states().values()) == {"UP"}, "both nodes are asked again")
    answer = ask(balancer.url, site, "GET", "/v1/counts/like/2?consistency=linearizable")
    assert answer.json["count"] == load.liked
    answer = ask(balancer.url, site, "PUT", "/v1/edges/wow/1/1")
    assert answer.json == {"changed": True}


def is_up(balancer: Balancer, name: str) -> bool:
    return not balancer.states()[name].startswith("DOWN")


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
    for statement in block(NOTIFIER).splitlines():
        rows(site.database, site.local(statement))
    site.let_in("groundswell", "notifier")
    console = block(CONSUMER)
    command, *told = site.local(console).removeprefix("$ ").splitlines()
    writes = (
        ("PUT", "/v1/edges/like/42/7", None),
        ("PUT", "/v1/edges/review/42/7", {"value": 4}),
        ("PUT", "/v1/objects/note-1", {"type": "note", "data": {"text": "Hello."}}),
    )
    with consumer(site, command) as lines:
        registered = "SELECT FROM pgq.consumer WHERE co_name = 'example'"
        nodes.until(lambda: rows(site.database, registered), "it is registered")
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
    site.sh(block(BACKUP))
    site.sh(block(RECOVERY))
    made = site.folder / "backups/groundswell"
    assert (made / "recovery.signal").exists()
    assert "restore_command" in (made / "postgresql.auto.conf").read_text()


def go_on(url: str) -> None:
    """Let a server come further than another one that began alike will."""
    with psycopg.connect(url, autocommit=True) as connection:
        for _ in range(300):
            connection.execute("SELECT pg_current_xact_id()")


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
    go_on(site.database)
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
    dump, restore = block(DUMP).splitlines()
    with Cluster(installation, in_memory=True) as other:
        other.execute(f"ALTER ROLE postgres PASSWORD '{site.password}'")
        other.password = site.password
        site.sh(block(SETUP), cwd=ROOT, server=other)
        go_on(site.database)
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
        for statement in block(CATCH_UP).split(";\n", 1)[1:]:
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
    assert ask(balancer.url, None, "GET", "/readyz").status == 200
    site.sh(block(PROMOTE), server=site.standby)
    for source, node in enumerate(pair, 2):
        nodes.until(partial(_is_liked, node, site, source), "a write on the new primary")
    answer = ask(balancer.url, site, "GET", "/v1/counts/like/30", token=token)
    assert answer.status == 200
    assert answer.json["count"] in (1, 2, 3)
    path = "/v1/counts/like/30?consistency=linearizable"
    assert ask(balancer.url, site, "GET", path).json["count"] == 3
