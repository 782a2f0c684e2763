"""The `groundswell` command, through real processes."""

from __future__ import annotations

import contextlib
import re
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import nodes
from clusters import Cluster
from groundswell.cli import main


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[nodes.Node]:
    folder = tmp_path_factory.mktemp("cli")
    with nodes.running(folder, toml=nodes.KINDS) as node:
        yield node


def run(node: nodes.Node, *arguments: str) -> str:
    done = nodes.command(node.folder, *arguments, "--url", node.url)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout.strip()


def failed(done: subprocess.CompletedProcess[str], code: str) -> str:
    """The one line that says what is wrong."""
    assert done.returncode == 1, done
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"error ({code}): ")
    return done.stderr


# --- commands -------------------------------------------------------------------------------------


def test_an_edge_is_added_counted_and_removed(node: nodes.Node) -> None:
    assert run(node, "add", "like", "42", "7") == "added; count 1"
    assert run(node, "add", "like", "42", "7") == "was there already; count 1"
    assert run(node, "count", "like", "42", "--consistency", "linearizable") == (
        "1 (linearizable, from primary, age at most 0 ms)"
    )
    assert run(node, "remove", "like", "42", "7") == "removed; count 0"
    assert run(node, "remove", "like", "42", "7") == "was not there; count 0"


def test_a_value_is_added_and_summed(node: nodes.Node) -> None:
    assert run(node, "add", "review", "42", "7", "--value", "5") == "added; count 1"
    wanted = "1, sum 5 (causal, from "  # by another session, so it may take a moment
    nodes.until(lambda: run(node, "count", "review", "42").startswith(wanted), "the sum")


@pytest.mark.parametrize(("target", "source"), [("12", "007"), ("a b/[ü]", "5")])
def test_an_id_is_what_the_kind_says(node: nodes.Node, target: str, source: str) -> None:
    assert run(node, "add", "tag", target, source) == "added; count 1"
    assert node.sources("tag", nodes.quoted(target)) == [source]
    assert run(node, "remove", "tag", target, source) == "removed; count 0"
    assert run(node, "add", "seat", source, "7") == "added; count 1"
    assert run(node, "count", "seat", source, "--consistency", "linearizable")[0] == "1"


def test_status_shows_the_replicas(node: nodes.Node) -> None:
    shown = run(node, "status")
    assert shown.startswith("SQLite, ")
    assert "replica-a" in shown
    assert f"version {version('groundswell')}" in shown


def test_the_version_is_shown(tmp_path: Path) -> None:
    done = nodes.command(tmp_path, "--version")
    assert done.stdout == f"groundswell {version('groundswell')}\n"


def test_help_names_the_commands(tmp_path: Path) -> None:
    done = nodes.command(tmp_path, "--help")
    assert done.returncode == 0
    for name in ("serve", "migrate", "status", "add", "remove", "count", "key"):
        assert f" {name} " in done.stdout


def test_every_command_is_found_in_the_module_that_has_it() -> None:
    main.load([])
    found = {
        command.name or command.callback.__name__: command.callback.__module__
        for command in main.app.registered_commands
        if command.callback is not None
    }
    assert found == {name: f"groundswell.cli.{module}" for name, module in main.COMMANDS.items()}


def test_a_node_starts_without_what_only_others_need(tmp_path: Path) -> None:
    """So it is ready sooner, and smaller: each of these libraries takes a tenth of a second or more."""
    asked = """
import sys
from groundswell.cli import main
main.load(["serve"])
needless = "aiohttp", "plotly", "psycopg", "groundswell.demo", "groundswell.verify"
print(*(name for name in needless if name in sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", asked],
        cwd=tmp_path,
        env=nodes.clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")


def test_migrate_makes_the_store_and_does_it_once(tmp_path: Path) -> None:
    first = nodes.command(tmp_path, "migrate", "--store", "sqlite:///new.db")
    again = nodes.command(tmp_path, "migrate", "--store", "sqlite:///new.db")
    assert "was at version 0, now at version " in first.stdout
    assert "is at version " in again.stdout
    assert (tmp_path / "new.db").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.db"]


def test_serve_says_where_it_listens_and_stops_when_told(tmp_path: Path) -> None:
    with nodes.running(tmp_path, "--store", "memory://", "--replicas", "2") as node:
        assert f"listens on {node.url}, store memory://, 2 replica(s)." in node.output()
        assert node.terminate() == 0
        assert node.output().endswith("Stopped; everything that was accepted is stored.\n")
    assert [path.name for path in tmp_path.iterdir()] == ["node.log"]


def test_serve_listens_on_ipv6(tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with nodes.running(tmp_path, "--host", "::1") as node:
        done = nodes.command(tmp_path, "count", "like", "1", "--url", f"http://[::1]:{node.port}")
        assert done.returncode == 0, done


def test_flags_override_the_environment_and_the_file(tmp_path: Path) -> None:
    environment = {"GROUNDSWELL_REPLICAS": "2", "GROUNDSWELL_STORE": "sqlite:///environment.db"}
    toml = 'replicas = 1\nstore = "sqlite:///file.db"\npoll_ms = 10'
    flags = ("--store", "sqlite:///flag.db")
    with nodes.running(tmp_path, *flags, toml=toml, environment=environment) as node:
        assert len(node.request("GET", "/v1/status").json["replicas"]) == 2
    assert [path.name for path in tmp_path.glob("*.db")] == ["flag.db"]


def test_the_key_of_the_client_does_not_stop_a_node(tmp_path: Path) -> None:
    with nodes.running(tmp_path, environment={"GROUNDSWELL_KEY": "secret"}) as node:
        assert node.request("GET", "/healthz").status == 200


def test_what_is_stored_is_there_after_a_restart(tmp_path: Path) -> None:
    with nodes.running(tmp_path) as node:
        token = node.request("PUT", "/v1/edges/like/1/1").token
        assert node.terminate() == 0
        node.start()
        answer = node.request("GET", "/v1/counts/like/1", tokens=token)
        assert (answer.status, answer.json["count"]) == (200, 1)


# --- errors ---------------------------------------------------------------------------------------


def test_a_node_that_is_not_running_is_one_line(tmp_path: Path) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as held:
        port = held.getsockname()[1]
    for arguments in (("count", "like", "1"), ("status",)):
        done = nodes.command(tmp_path, *arguments, "--url", f"http://127.0.0.1:{port}")
        assert f"127.0.0.1:{port}" in failed(done, "node-unreachable")


def test_something_that_is_no_node_is_one_line(tmp_path: Path) -> None:
    done = nodes.command(tmp_path, "status", "--url", "ftp://example.org")
    assert "http://host:port" in failed(done, "bad-settings")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("count", "nope", "1"), "unknown-kind", "declared are: follow, like"),
        (("add", "like", "abc", "1"), "bad-request", "64-bit integer"),
        (("add", "review", "1", "1"), "bad-request", "from 1 to 5"),
        (("add", "view", "1", "1"), "bad-request", "tally"),
        (("count", "like", "1", "--consistency", "strong"), "bad-request", "linearizable"),
    ],
)
def test_a_call_that_is_refused_is_one_line(
    node: nodes.Node, arguments: tuple[str, ...], code: str, said: str
) -> None:
    assert said in failed(nodes.command(node.folder, *arguments, "--url", node.url), code)


@pytest.mark.parametrize(
    ("command", "url", "said"),
    [
        ("serve", "mysql://me:secret@host/db", "there are sqlite:///file.db, postgresql://user@"),
        ("migrate", "groundswell.db", "there are sqlite:///file.db, postgresql://user@"),
        ("serve", "sqlite://groundswell.db", "sqlite:///file.db"),
        ("migrate", "sqlite://[", "URL"),
        ("serve", "postgresql://me:secret@host/db?connect_timeuot=1", "cannot be read"),
        ("migrate", "postgresql://me:se%zzcret@host/db", "cannot be read"),
    ],
)
def test_a_bad_store_url_is_one_line(tmp_path: Path, command: str, url: str, said: str) -> None:
    line = failed(nodes.command(tmp_path, command, "--store", url), "bad-settings")
    assert said in line
    assert "secret" not in line
    assert "cret@" not in line
    assert list(tmp_path.iterdir()) == []


def test_a_store_in_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    done = nodes.command(tmp_path, "serve", "--port", "0", "--store", "sqlite:///no/such.db")
    assert "folder does not exist" in failed(done, "store-unusable")


def test_a_file_that_is_no_database_is_one_line_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("dear diary, " * 500)
    done = nodes.command(tmp_path, "serve", "--store", "sqlite:///notes.txt")
    assert "not an SQLite database" in failed(done, "store-unusable")
    assert file.read_text() == "dear diary, " * 500


def test_the_database_of_another_program_is_one_line_and_left_alone(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE bookmark (url TEXT)")
        other.commit()
    before = (tmp_path / "other.db").read_bytes()
    done = nodes.command(tmp_path, "migrate", "--store", "sqlite:///other.db")
    assert "another program" in failed(done, "store-unusable")
    assert (tmp_path / "other.db").read_bytes() == before


def test_a_locked_database_is_one_line(tmp_path: Path) -> None:
    assert nodes.command(tmp_path, "migrate", "--store", "sqlite:///held.db").returncode == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "held.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        done = nodes.command(tmp_path, "serve", "--port", "0", "--store", "sqlite:///held.db")
        assert "Another process holds the database" in failed(done, "store-unusable")


@pytest.mark.parametrize("command", ["serve", "migrate"])
def test_a_server_that_is_not_there_or_never_answers_is_one_line(
    tmp_path: Path, command: str
) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as hole:
        port = hole.getsockname()[1]
        url = f"postgresql://me:secret@127.0.0.1:{port}/x?connect_timeout=2"
        line = failed(nodes.command(tmp_path, command, "--store", url), "store-unavailable")
        assert "timeout expired. Nothing was changed. Is the server running" in line
    line = failed(nodes.command(tmp_path, command, "--store", url), "store-unavailable")
    assert f"port {port} failed: Connection refused. Nothing was changed." in line
    assert "secret" not in line


@pytest.mark.parametrize("command", ["serve", "migrate"])
def test_a_wrong_database_or_password_is_one_line(
    tmp_path: Path, cluster: Cluster, command: str
) -> None:
    url = cluster.url("nowhere")
    line = failed(nodes.command(tmp_path, command, "--store", url), "store-unusable")
    assert 'database "nowhere" does not exist. Nothing was changed. Create' in line
    assert cluster.password not in line
    url = cluster.url().replace(cluster.password, "mistaken")
    line = failed(nodes.command(tmp_path, command, "--store", url), "store-unusable")
    assert "Check the URL's user and password" in line
    assert "mistaken" not in line


def test_a_database_is_migrated_before_it_is_served(tmp_path: Path, database: str) -> None:
    store = ("--store", database)
    line = failed(nodes.command(tmp_path, "serve", "--port", "0", *store), "store-unusable")
    assert "Run `groundswell migrate` first." in line
    done = nodes.command(tmp_path, "migrate", *store, "--queue", "outbox")
    shown = re.sub(r":[^:@]*@", ":***@", database)
    assert done.stdout.startswith(f"{shown} was at version 0, now at version ")
    line = failed(nodes.command(tmp_path, "migrate", *store, "--queue", "pgq"), "store-unusable")
    assert "queue is outbox, the settings say pgq; nothing was changed" in line
    with nodes.running(tmp_path, *store) as node:
        assert f"store {shown}, 1 replica(s)." in node.output()
        assert run(node, "add", "like", "42", "7") == "added; count 1"
        assert run(node, "status").startswith("PostgreSQL, queue outbox, ")
        assert node.terminate() == 0
        assert str(urlsplit(database).password) not in node.output()


def test_an_unknown_queue_is_one_line(tmp_path: Path) -> None:
    done = nodes.command(tmp_path, "migrate", "--queue", "kafka")
    assert "queue" in failed(done, "bad-settings")
    done = nodes.command(tmp_path, "serve", "--standby", "postgresql://host/x")
    assert "`standby` goes with a PostgreSQL store only" in failed(done, "bad-settings")


def test_a_port_in_use_is_one_line(tmp_path: Path, node: nodes.Node) -> None:
    done = nodes.command(tmp_path, "serve", "--port", str(node.port))
    assert f"port {node.port}" in failed(done, "bad-settings")
    assert list(tmp_path.iterdir()) == []


def test_bad_settings_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "groundswell.toml").write_text("[kinds.clap]\nuniqe = false\n")
    assert "did you mean 'unique'?" in failed(nodes.command(tmp_path, "serve"), "bad-settings")
    done = nodes.command(tmp_path, "serve", "--config", "missing.toml")
    assert "missing.toml" in failed(done, "bad-settings")
    (tmp_path / "groundswell.toml").unlink()
    done = nodes.command(tmp_path, "serve", environment={"GROUNDSWELL_PROT": "1"})
    assert "did you mean 'port'?" in failed(done, "bad-settings")


def test_a_kind_that_is_stored_in_another_way_is_one_line(tmp_path: Path) -> None:
    with nodes.running(tmp_path) as node:
        assert node.terminate() == 0
    (tmp_path / "groundswell.toml").write_text('[kinds.like]\ntarget = "text"\n')
    done = nodes.command(tmp_path, "serve", "--port", "0")
    assert "Kind like is stored" in failed(done, "store-unusable")


def test_an_unknown_scope_is_one_line(tmp_path: Path) -> None:
    done = nodes.command(tmp_path, "key", "web", "--scope", "root")
    assert "read, write and admin" in failed(done, "bad-settings")
