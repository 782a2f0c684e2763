"""Settings from file, environment and flags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from groundswell import config
from groundswell.config import ApiKey, Settings
from groundswell.errors import BadSettings, UnknownKind
from groundswell.kinds import Kind, ValueRange
from groundswell.model import Level

DIGEST = "0" * 64

# Every setting, as the environment spells it, and what it means.
ENVIRONMENT: dict[str, tuple[str, Any]] = {
    "store": ("memory://", "memory://"),
    "host": ("::1", "::1"),
    "port": ("9000", 9000),
    "distributed": ("citus", "citus"),
    "replicas": ("3", 3),
    "replica_delay_ms": ("0,150,600", (0, 150, 600)),
    "replica_mib": ("8", 8),
    "redis": ("redis://one,two:7000/0", "redis://one,two:7000/0"),
    "redis_prefix": ("other.one", "other.one"),
    "wait_ms": ("0", 0),
    "group_max": ("7", 7),
    "queue_max": ("8", 8),
    "standby": ("postgresql://two/db", "postgresql://two/db"),
    "queue": ("outbox", "outbox"),
    "connections": ("13", 13),
    "workers": ("2", 2),
    "events_max": ("9", 9),
    "rollup_pause_ms": ("0", 0),
    "poll_ms": ("11", 11),
    "rollups_kept": ("12", 12),
    "streams_max": ("14", 14),
    "demo": ("true", True),
    "log_level": ("debug", "debug"),
    "kinds": ('{"clap":{"value":{"min":1,"max":50}}}', {"clap": Kind(value=ValueRange(1, 50))}),
    "keys": (
        f'[{{"name":"web","sha256":"{DIGEST}","scopes":["read"]}}]',
        [ApiKey(name="web", sha256=DIGEST, scopes=["read"])],
    ),
}


def written(folder: Path, text: str) -> Path:
    file = folder / "groundswell.toml"
    file.write_text(text, "utf-8")
    return file


def refused(text: str, folder: Path) -> str:
    """What is said about a file that cannot be used."""
    with pytest.raises(BadSettings) as caught:
        config.load(written(folder, text), {})
    assert "\n" not in caught.value.detail
    return caught.value.detail


def test_the_default_needs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert config.load(environment={}) == Settings()


def test_a_file_in_the_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "port = 1234")
    assert config.load(environment={}).port == 1234


def test_the_environment_overrides_the_file_and_flags_override_both(tmp_path: Path) -> None:
    file = written(tmp_path, "port = 1\nwait_ms = 1\npoll_ms = 1")
    environment = {"GROUNDSWELL_PORT": "2", "GROUNDSWELL_WAIT_MS": "2"}
    found = config.load(file, environment, {"port": 3, "host": None})
    assert (found.port, found.wait_ms, found.poll_ms, found.host) == (3, 2, 1, "127.0.0.1")


@pytest.mark.parametrize("field", msgspec.structs.fields(Settings), ids=lambda field: field.name)
def test_every_setting_has_an_environment_twin(
    tmp_path: Path, field: msgspec.structs.FieldInfo
) -> None:
    text, meant = ENVIRONMENT[field.name]
    given = {f"GROUNDSWELL_{field.name.upper()}": text}
    if field.name == "replica_delay_ms":
        given["GROUNDSWELL_REPLICAS"] = "3"
    if field.name in ("standby", "distributed"):
        given["GROUNDSWELL_STORE"] = "postgresql://one/db"
    found = config.load(written(tmp_path, ""), given)
    assert getattr(found, field.name) == meant != getattr(Settings(), field.name)


@pytest.mark.parametrize("writes", ["0", "-1", "many"])
def test_a_commit_of_no_writes_cannot_be_asked_for(tmp_path: Path, writes: str) -> None:
    with pytest.raises(BadSettings, match="group_max"):
        config.load(written(tmp_path, ""), {"GROUNDSWELL_GROUP_MAX": writes})


def test_how_large_commits_are_is_left_to_the_store() -> None:
    assert config.load_only({}).group_max is None


def test_a_file_sets_everything_that_the_environment_sets(tmp_path: Path) -> None:
    text = f"""
        store = "postgresql://one/db"
        standby = "postgresql://two/db"
        queue = "outbox"
        distributed = "citus"
        connections = 13
        workers = 2
        host = "::1"
        port = 9000
        replicas = 3
        replica_delay_ms = [0, 150, 600]
        replica_mib = 8
        redis = "redis://one,two:7000/0"
        redis_prefix = "other.one"
        wait_ms = 0
        group_max = 7
        queue_max = 8
        events_max = 9
        rollup_pause_ms = 0
        poll_ms = 11
        rollups_kept = 12
        streams_max = 14
        demo = true
        log_level = "debug"
        [kinds.clap]
        value = {{ min = 1, max = 50 }}
        [[keys]]
        name = "web"
        sha256 = "{DIGEST}"
        scopes = ["read"]
    """
    environment = {f"GROUNDSWELL_{n.upper()}": text for n, (text, _) in ENVIRONMENT.items()}
    environment["GROUNDSWELL_STORE"] = "postgresql://one/db"
    assert config.load(written(tmp_path, text), {}) == config.load(
        written(tmp_path, ""), environment
    )


def test_kinds_are_declared_beside_and_instead_of_the_built_in_ones(tmp_path: Path) -> None:
    text = """
        [kinds.like]
        consistency = "eventual"
        [kinds.clap]
        source = "uuid"
        target = "text"
        unique = false
    """
    kinds = config.load(written(tmp_path, text), {}).declared()
    assert kinds["like"] == Kind(name="like", consistency=Level.EVENTUAL)
    assert kinds["clap"] == Kind(name="clap", source="uuid", target="text", unique=False)
    assert kinds["follow"].inverse
    with pytest.raises(UnknownKind):
        kinds["nope"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot = 1", "'prot' in"),
        ("prot = 1", "did you mean 'port'?"),
        ("xyzzy = 1", "known are store, standby"),
        ("[kinds.clap]\nconsistancy = 'causal'", "did you mean 'consistency'?"),
        ("[kinds.clap]\nconsistancy = 'causal'", "[kinds.clap]"),
        ("[[keys]]\nnmae = 'x'", "did you mean 'name'?"),
        ("[[keys]]\nnmae = 'x'", "[[keys]]"),
    ],
)
def test_an_unknown_key_names_the_nearest(tmp_path: Path, text: str, said: str) -> None:
    assert said in refused(text, tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("GROUNDSWELL_PROT", "1", "did you mean 'port'?"),
        ("GROUNDSWELL_KINDS", '{"x":{"consistancy":"causal"}}', "did you mean 'consistency'?"),
        ("GROUNDSWELL_KEYS", '[{"nmae":"x"}]', "did you mean 'name'?"),
        ("GROUNDSWELL_KINDS", "{", "GROUNDSWELL_KINDS is not valid JSON"),
        ("GROUNDSWELL_KINDS", "7", "kinds"),
        ("GROUNDSWELL_KEYS", "7", "keys"),
        ("GROUNDSWELL_PORT", "http", "port"),
        ("GROUNDSWELL_PORT", "", "port"),
        ("GROUNDSWELL_REPLICA_DELAY_MS", "0,x", "replica_delay_ms"),
    ],
)
def test_an_environment_that_does_not_fit_is_refused(name: str, value: str, said: str) -> None:
    with pytest.raises(BadSettings) as caught:
        config.load(environment={name: value})
    assert said in caught.value.detail


@pytest.mark.parametrize("name", ["GROUNDSWELL_KEY", "GROUNDSWELL_TEST_SEED", "GROUNDSWELL"])
def test_what_is_no_setting_is_left_alone(tmp_path: Path, name: str) -> None:
    assert config.load(written(tmp_path, ""), {name: "x", "PORT": "1"}) == Settings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port = 'x'", "port"),
        ("port = 65536", "port"),
        ("port = -1", "port"),
        ("port = 1.5", "port"),
        ("store = 1", "store"),
        ("replicas = 0", "replicas"),
        ("replicas = 65", "replicas"),
        ("replica_delay_ms = 5", "replica_delay_ms"),
        ("replica_delay_ms = [-1]", "replica_delay_ms"),
        ("replica_delay_ms = [0, 1]", "2 delays for 1"),
        ("poll_ms = 0", "poll_ms"),
        ("log_level = 'loud'", "log_level"),
        ("kinds = 5", "kinds"),
        ("kinds = 'x'", "kinds"),
        ("kinds = []", "kinds"),
        ("kinds = { x = 5 }", "kinds"),
        ("keys = 5", "keys"),
        ("keys = [5]", "keys"),
        ("[keys]\nname = 'x'", "keys"),
        ("[[keys]]\nname = 'x'", "sha256"),
        ("[[keys]]\nname = 'x'\nsha256 = 'abc'\nscopes = []", "sha256"),
        (f"[[keys]]\nname = 'x'\nsha256 = '{DIGEST}'\nscopes = ['root']", "scopes"),
        ("[kinds.clap]\nsource = 'float'", "source"),
        ("[kinds.clap]\nconsistency = 'strong'", "strong"),
        ("[kinds.clap]\nvalue = { min = 1 }", "max"),
        ("[kinds.clap]\nvalue = { min = 5, max = 1 }", "min <= max"),
        ("[kinds.clap]\nunique = false\ninverse = true", "unique = false"),
        ("[kinds.clap]\nname = 'other'", "another name"),
        ("[kinds.Clap]", "Kind name 'Clap'"),
        ("host = '0.0.0.0'", "groundswell key"),
        ("port = ", "not valid TOML"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, text: str, said: str) -> None:
    assert said in refused(text, tmp_path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b"store = '\xff'")
    for name in ("missing.toml", ".", "latin.toml"):
        with pytest.raises(BadSettings):
            config.load(tmp_path / name, {})


def test_another_address_than_loopback_is_fine_with_keys(tmp_path: Path) -> None:
    text = f"host = '0.0.0.0'\n[[keys]]\nname = 'x'\nsha256 = '{DIGEST}'\nscopes = ['read']"
    assert config.load(written(tmp_path, text), {}).host == "0.0.0.0"


def test_settings_by_name_are_checked_the_same_way() -> None:
    assert config.load_only({"port": 5}).port == 5
    for wrong in ({"prot": 5}, {"port": "x"}, {"kinds": {"x": {"uniqe": False}}}):
        with pytest.raises(BadSettings):
            config.load_only(wrong)


def test_delays_are_filled_up_with_none() -> None:
    assert Settings(replicas=3, replica_delay_ms=(0, 150)).delays_s() == [0.0, 0.15, 0.0]


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///groundswell.db", "groundswell.db"),
        ("sqlite:////var/lib/g.db", "/var/lib/g.db"),
        ("sqlite:///with%20space.db", "with space.db"),
    ],
)
def test_a_store_url_names_a_file(url: str, path: str) -> None:
    assert config.sqlite_path(url) == path


@pytest.mark.parametrize(
    "url",
    ["sqlite://x.db", "sqlite:x.db", "sqlite:///", "sqlite://", "sqlite:///a?b=c", "sqlite://["],
)
def test_a_store_url_that_names_no_file_is_refused(url: str) -> None:
    with pytest.raises(BadSettings):
        config.sqlite_path(url)


def test_a_password_is_never_shown() -> None:
    assert config.redacted("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"
    assert config.redacted("postgresql://me@host/db") == "postgresql://me@host/db"
