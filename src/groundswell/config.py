"""Settings: one frozen value, built from file, environment and flags; the later wins."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from groundswell.errors import BadSettings
from groundswell.kinds import BUILT_IN, Kind, Kinds

PREFIX: Final = "GROUNDSWELL_"
POSTGRESQL: Final = ("postgresql", "postgres")  # schemes of its URLs
REDIS: Final = ("redis", "rediss")
LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
# Of the environment, what is not a setting of the node: the client's key, and what tests use.
_NO_SETTINGS: Final = (f"{PREFIX}TEST_", f"{PREFIX}DATA", f"{PREFIX}URL")
_CLIENT_KEY: Final = f"{PREFIX}KEY"

Positive = Annotated[int, msgspec.Meta(ge=1)]
NotNegative = Annotated[int, msgspec.Meta(ge=0)]


class ApiKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key that the node accepts; `groundswell key` makes one."""

    name: str  # for people
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-fA-F]{64}$")]
    scopes: list[Literal["read", "write", "admin"]]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set. The comments are the reference's texts."""

    store: str = "sqlite:///groundswell.db"  # where the truth lives; memory:// forgets it at exit
    standby: str = ""  # a streaming standby of a PostgreSQL store: feeds the replicas, shows lists
    queue: Literal["auto", "pgq", "outbox"] = (
        "auto"  # of a PostgreSQL store; auto: PgQ if it is there
    )
    # citus: a new PostgreSQL store has its edges and objects on Citus's workers
    distributed: Literal["", "citus"] = ""
    connections: Annotated[int, msgspec.Meta(ge=2, le=1000)] = (
        8  # to each PostgreSQL server, at most
    )
    host: str = "127.0.0.1"  # address to listen on; any but loopback needs keys
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8080  # 0: any free one
    workers: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1  # processes on the one port, each a node
    # Copies of counts in this node; 0 only with `redis`.
    replicas: Annotated[int, msgspec.Meta(ge=0, le=64)] = 1
    replica_delay_ms: tuple[NotNegative, ...] = ()  # injected delay of each, for demonstrations
    replica_mib: Positive = 64  # memory of each replica
    redis: str = ""  # a server or a cluster that holds one more copy, shared by all nodes
    # Of its keys there; one for each store.
    redis_prefix: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_.:-]{1,64}$")] = "groundswell"
    wait_ms: NotNegative = 100  # how long a read waits for a replica, where it does not say
    group_max: Positive | None = None  # writes in one commit; unset: as many as the store advises
    queue_max: Positive = 50_000  # writes that may wait for a commit
    events_max: Positive = 10_000  # events in one rollup
    rollup_pause_ms: NotNegative = 20  # between two rollups
    poll_ms: Positive = 50  # how soon is noticed what other processes did
    streams_max: NotNegative = 1_000  # streams of counts open at the same time
    rollups_kept: Positive = 1_000  # length of the change feed
    demo: bool = False  # whether a spike may be started, parts delayed and stopped: to show it
    log_level: Literal["debug", "info", "warning", "error"] = "warning"  # on standard error
    kinds: dict[str, Kind] = {}  # declared kinds, beside and instead of the built-in ones
    keys: list[ApiKey] = []  # API keys; none: no key is needed

    def declared(self) -> Kinds:
        """The built-in kinds with those of the settings over them."""
        kinds = {kind.name: kind for kind in BUILT_IN}
        for name, kind in self.kinds.items():
            if kind.name not in ("", name):
                raise BadSettings(f"Kind {name} is given another name, {kind.name}.")
            kinds[name] = msgspec.structs.replace(kind, name=name)
        return Kinds(list(kinds.values()))

    def delays_s(self) -> list[float]:
        """The injected delay of every replica."""
        delays = [delay_ms / 1000 for delay_ms in self.replica_delay_ms]
        return (delays + [0.0] * self.replicas)[: self.replicas]

    def check(self) -> None:
        """Raise BadSettings where single settings are right but do not go together."""
        self.declared()
        if self.standby and split(self.store).scheme not in POSTGRESQL:
            raise BadSettings("`standby` goes with a PostgreSQL store only.")
        if self.distributed and split(self.store).scheme not in POSTGRESQL:
            raise BadSettings("`distributed` goes with a PostgreSQL store only.")
        if self.workers > 1 and split(self.store).scheme == "memory":
            raise BadSettings(
                "Several workers cannot share memory://, which belongs to one process; name a file."
            )
        if self.redis and split(self.redis).scheme not in REDIS:
            raise BadSettings(
                f"{redacted(self.redis)} is no Redis: write redis://host:6379/0, or rediss:// for TLS."
            )
        if not self.replicas and not self.redis:
            raise BadSettings("replicas = 0 needs `redis`: somebody has to hold a copy.")
        if len(self.replica_delay_ms) > self.replicas:
            raise BadSettings(
                f"replica_delay_ms names {len(self.replica_delay_ms)} delays for {self.replicas} "
                "replicas."
            )
        if self.host not in LOOPBACK and not self.keys:
            raise BadSettings(
                f"host = {self.host!r} is reachable from outside, and there are no API keys. Make one "
                "with `groundswell key`, or listen on 127.0.0.1."
            )


def load(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Settings:
    """The settings of a file (default: groundswell.toml, if there is one), environment and flags.

    Raises BadSettings for a file that is missing or no TOML, for unknown keys (naming the nearest),
    and for values that do not fit.
    """
    found = _from_file(file) | _from_environment(os.environ if environment is None else environment)
    found |= {name: value for name, value in (flags or {}).items() if value is not None}
    settings = _convert(found)
    settings.check()
    return settings


def _from_file(file: Path | None) -> dict[str, Any]:
    path = file or Path("groundswell.toml")
    if file is None and not path.exists():
        return {}
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise BadSettings(f"{path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSettings(f"{path} is not valid TOML: {error}.") from error
    _refuse_unknown(found, str(path))
    return found


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    given = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(PREFIX) and not name.startswith(_NO_SETTINGS) and name != _CLIENT_KEY
    }
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name in ("kinds", "keys"):
            try:
                found[name] = msgspec.json.decode(value)
            except msgspec.DecodeError as error:
                raise BadSettings(f"{PREFIX}{name.upper()} is not valid JSON: {error}.") from error
        elif name == "replica_delay_ms":
            found[name] = [part for part in value.split(",") if part]
        else:
            found[name] = value
    _refuse_unknown(found, f"the environment ({PREFIX}*)")
    return found


def _refuse_unknown(found: Mapping[str, Any], where: str) -> None:
    _refuse_other_than(Settings, found, where)
    kinds, keys = found.get("kinds"), found.get("keys")
    for name, kind in kinds.items() if isinstance(kinds, dict) else ():
        _refuse_other_than(Kind, kind, f"{where}, [kinds.{name}]")
    for key in keys if isinstance(keys, list) else ():
        _refuse_other_than(ApiKey, key, f"{where}, [[keys]]")


def _refuse_other_than(shape: type[msgspec.Struct], given: object, where: str) -> None:
    if not isinstance(given, Mapping):
        return  # the types are checked later
    known = [field.encode_name for field in msgspec.structs.fields(shape)]
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}."
            raise BadSettings(f"Unknown key {name!r} in {where}: {hint}")


def _convert(found: dict[str, Any]) -> Settings:
    try:
        return msgspec.convert(found, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise BadSettings(f"A setting does not fit: {error}.") from error


def sqlite_path(url: str) -> str:
    """The file that a `sqlite:///path` URL names (four slashes: an absolute path)."""
    parts = split(url)
    if parts.netloc or not parts.path.startswith("/") or len(parts.path) < 2 or parts.query:
        raise BadSettings(
            f"{redacted(url)} is no store: write sqlite:///file.db, or sqlite:////folder/file.db."
        )
    return unquote(parts.path[1:])


def split(url: str) -> SplitResult:
    """The parts of a store's URL; BadSettings where it is none."""
    try:
        return urlsplit(url)
    except ValueError as error:
        raise BadSettings(f"{redacted(url)} is no URL of a store: {error}.") from error


def redacted(url: str) -> str:
    """A store's URL without its password."""
    url = re.sub(r"(//[^:/@]*):[^@/]*@", r"\1:***@", url)
    return re.sub(r"(password=)[^&\s]*", r"\1***", url)


def load_only(found: Mapping[str, Any]) -> Settings:
    """Settings from these values alone, with the same checks."""
    _refuse_unknown(found, "the settings")
    settings = _convert(dict(found))
    settings.check()
    return settings
