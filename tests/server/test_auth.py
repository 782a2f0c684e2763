"""API keys: who may do what, and that they are never shown."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import groundswell
import nodes
from groundswell.errors import Forbidden, Unauthenticated
from groundswell.server.auth import Keys, Scope

KEYS = {scope: f"the-{scope}-key-0123456789" for scope in ("read", "write", "admin")}
ALL = "the-key-for-everything"


def entry(name: str, key: str, scopes: list[str]) -> str:
    digest = hashlib.sha256(key.encode()).hexdigest()
    return f'[[keys]]\nname = "{name}"\nsha256 = "{digest}"\nscopes = {scopes}\n'


TOML = "".join(entry(scope, key, [scope]) for scope, key in KEYS.items())
TOML += entry("all", ALL, ["read", "write", "admin"])


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[nodes.Node]:
    folder = tmp_path_factory.mktemp("guarded")
    with nodes.running(folder, "--log-level", "debug", toml=TOML) as node:
        yield node


CALLS = [
    ("GET", "/v1/counts/like/1", "read"),
    ("POST", "/v1/counts", "read"),
    ("GET", "/v1/edges/like/1/1", "read"),
    ("GET", "/v1/edges/like/1", "read"),
    ("GET", "/v1/edges/follow?source=1", "read"),
    ("GET", "/v1/objects/x", "read"),
    ("GET", "/v1/trending/like", "read"),
    ("GET", "/v1/stream", "read"),
    ("GET", "/v1/pulse?key=nope:1", "admin"),  # any other never ends
    ("PUT", "/v1/edges/like/1/1", "write"),
    ("DELETE", "/v1/edges/like/1/1", "write"),
    ("POST", "/v1/tallies/view/1", "write"),
    ("POST", "/v1/writes", "write"),
    ("PUT", "/v1/objects/x", "write"),
    ("DELETE", "/v1/objects/x", "write"),
    ("GET", "/v1/status", "admin"),
    ("GET", "/metrics", "admin"),
]


def with_key(key: str, scheme: str = "Bearer") -> dict[str, str]:
    return {"Authorization": f"{scheme} {key}"}


@pytest.mark.parametrize(("method", "path", "scope"), CALLS)
def test_every_call_needs_a_key_with_its_scope(
    guarded: nodes.Node, method: str, path: str, scope: str
) -> None:
    nodes.problem(guarded.request(method, path), 401, "unauthenticated")
    for name, key in KEYS.items():
        answer = guarded.request(method, path, headers=with_key(key))
        if name == scope:
            assert answer.status not in (401, 403), answer
        else:
            assert repr(scope) in nodes.problem(answer, 403, "forbidden")["detail"]
    assert guarded.request(method, path, headers=with_key(ALL)).status not in (401, 403)


def test_a_call_without_the_scope_changes_nothing(guarded: nodes.Node) -> None:
    guarded.request("PUT", "/v1/edges/like/77/1", headers=with_key(KEYS["read"]))
    guarded.request("PUT", "/v1/edges/like/77/1")
    path = "/v1/counts/like/77?consistency=linearizable"
    assert guarded.request("GET", path, headers=with_key(ALL)).json["count"] == 0


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Bearer {ALL}x",
        f"Bearer {ALL[:-1]}",
        f"Bearer {ALL.upper()}",
        f"Bearer {hashlib.sha256(ALL.encode()).hexdigest()}",
        f"Basic {ALL}",
        ALL,
        "Bearer \xff",
    ],
)
def test_a_wrong_key_is_no_key(guarded: nodes.Node, header: str) -> None:
    answer = guarded.request("GET", "/v1/counts/like/1", headers={"Authorization": header})
    nodes.problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_the_scheme_may_be_in_any_case(guarded: nodes.Node) -> None:
    for scheme in ("bearer", "BEARER"):
        headers = with_key(KEYS["read"], scheme)
        assert guarded.request("GET", "/v1/counts/like/1", headers=headers).status == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json", "/docs"])
def test_health_and_documentation_are_open(guarded: nodes.Node, path: str) -> None:
    assert guarded.request("GET", path).status == 200
    assert guarded.request("GET", path, headers=with_key("wrong")).status == 200


def test_keys_are_never_in_logs_or_status(guarded: nodes.Node) -> None:
    for key in (ALL, "a-wrong-key"):
        guarded.request("GET", "/v1/counts/like/1", headers=with_key(key))
        guarded.request("PUT", "/v1/edges/like/1/1", b"{", headers=with_key(key))
    status = guarded.request("GET", "/v1/status", headers=with_key(ALL))
    metrics = guarded.request("GET", "/metrics", headers=with_key(ALL))
    assert status.status == metrics.status == 200
    shown = guarded.output() + status.body.decode() + metrics.body.decode()
    for key in (*KEYS.values(), ALL, "a-wrong-key"):
        assert key not in shown
        assert hashlib.sha256(key.encode()).hexdigest() not in shown


@pytest.mark.anyio
async def test_the_client_sends_its_key(guarded: nodes.Node) -> None:
    async with groundswell.connect(guarded.url, key=ALL) as gs:
        assert await gs.session().add("like", 5, 5)
        assert (await gs.status()).epoch == 1
    async with groundswell.connect(guarded.url, key=KEYS["read"]) as gs:
        with pytest.raises(Forbidden):
            await gs.session().add("like", 5, 6)
    async with groundswell.connect(guarded.url) as gs:
        with pytest.raises(Unauthenticated):
            await gs.session().count("like", 5)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_another_address_than_loopback_needs_keys(tmp_path: Path, host: str) -> None:
    done = nodes.command(tmp_path, "serve", "--host", host, "--port", "0")
    assert done.returncode == 1
    assert "groundswell key" in done.stderr
    assert not (tmp_path / "groundswell.db").exists()


def test_with_keys_another_address_is_listened_on(tmp_path: Path) -> None:
    with nodes.running(tmp_path, "--host", "0.0.0.0", toml=TOML) as node:
        assert node.request("GET", "/v1/counts/like/1").status == 401


def test_a_key_that_was_made_works_when_it_is_pasted(tmp_path: Path) -> None:
    made = nodes.command(tmp_path, "key", 'web "shop" [x]', "--scope", "read")
    assert made.returncode == 0
    key, _, toml = made.stdout.partition("\n")
    assert len(key) >= 43  # 256 bits
    assert key not in toml
    with nodes.running(tmp_path, toml=toml) as node:
        get, put = "/v1/counts/like/1", "/v1/edges/like/1/1"
        assert node.request("GET", get, headers=with_key(key)).status == 200
        nodes.problem(node.request("PUT", put, headers=with_key(key)), 403, "forbidden")
        nodes.problem(node.request("GET", get), 401, "unauthenticated")
        count = nodes.command(tmp_path, "count", "like", "1", "--url", node.url, "--key", key)
        assert count.returncode == 0, count.stderr
        by_environment = {"GROUNDSWELL_KEY": key}
        count = nodes.command(
            tmp_path, "count", "like", "1", "--url", node.url, environment=by_environment
        )
        assert count.returncode == 0, count.stderr


def test_without_keys_everything_is_allowed() -> None:
    Keys().check(None, Scope.ADMIN)


def test_two_entries_of_one_key_are_told_apart_by_their_hash() -> None:
    digest = hashlib.sha256(b"k").hexdigest()
    keys = Keys([("0" * 64, ["admin"]), (digest.upper(), ["read"])])
    keys.check(b"Bearer k", Scope.READ)
    with pytest.raises(Forbidden):
        keys.check(b"Bearer k", Scope.ADMIN)
