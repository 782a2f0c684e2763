"""Private Redis servers and clusters: on loopback, in temporary folders, gone with whoever started them."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from groundswell.errors import StoreUnusable
from groundswell.processes import end_with_parent
from groundswell.verify.program import Program, free_port

START_S: Final = 30.0
STEP_S: Final = 0.02
MASTERS: Final = 3
PROGRAMS: Final = ("redis-server", "valkey-server")
NODE_TIMEOUT_MS: Final = 1_000  # after which a cluster takes a master for gone


def missing() -> str:
    """Why no server can be started, and what would help; empty if nothing is missing."""
    if _program() is None:
        return "no Redis found: apt-get install redis-server"
    if importlib.util.find_spec("redis") is None:
        return "redis-py is not installed: pip install 'groundswell[redis]'"
    return ""


def _program() -> str | None:
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class RedisServer(Program):
    """One server, on the same port each time it is started; keeps nothing but what `save` wrote."""

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__()
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._folder = folder
        self._options = options

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers. Raises StoreUnusable with what it said if it does not."""
        program = _program()
        if program is None:
            raise StoreUnusable(missing())
        log = self._folder / "log"
        common = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        with log.open("ab") as said:
            process = self._process = subprocess.Popen(
                [program, *common, "--save", "", "--appendonly", "no", *self._options],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for whoever started it, and who then ends it
                preexec_fn=end_with_parent,
            )
        answered = until(lambda: process.poll() is not None or self._is_there())
        if not answered or process.poll() is not None:
            self.kill()
            text = log.read_text("utf-8", "replace")[-2_000:]
            raise StoreUnusable(f"Redis did not start (status {process.returncode}). {text}")

    def _is_there(self) -> bool:
        try:
            return bool(self.ask("PING"))
        except OSError:
            return False

    def ask(self, *words: Any) -> Any:
        """What it answers to a command. Raises OSError where it does not."""
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.exceptions import ConnectionError, TimeoutError
        from redis.retry import Retry

        once = Retry(NoBackoff(), 0)  # by itself it would go on for seconds
        with Redis(port=self.port, socket_timeout=5, decode_responses=True, retry=once) as client:
            try:
                return client.execute_command(*words)
            except (ConnectionError, TimeoutError) as error:
                raise OSError(str(error)) from error

    def save(self) -> None:
        """Write a dump, which is what the server has when it is started again."""
        with contextlib.suppress(OSError):  # it is not there: so is the dump
            self.ask("SAVE")

    def forget(self) -> None:
        """Let there be no dump."""
        (self._folder / "dump.rdb").unlink(missing_ok=True)


class RedisCluster:
    """Masters and a replica of each, on loopback."""

    def __init__(self, folder: Path) -> None:
        bus = [free_port() for _ in range(2 * MASTERS)]
        self.servers = [
            RedisServer(
                folder / str(number),
                *("--cluster-enabled", "yes", "--cluster-port", str(port)),
                *("--cluster-node-timeout", str(NODE_TIMEOUT_MS)),
                *("--cluster-replica-validity-factor", "0"),  # it takes over, whatever it lacks
                *("--repl-diskless-sync-delay", "0"),  # no other replica of a master is to come
                *("--repl-ping-replica-period", "1"),  # not listed before it has heard one
            )
            for number, port in enumerate(bus)
        ]

    @property
    def url(self) -> str:
        """Some of the servers, to find the others."""
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.servers)
        return f"redis://{hosts}"

    def start(self) -> None:
        """Start and join them; returns when every slot is served, and every replica linked."""
        for server in self.servers:
            server.start()
        places = [f"127.0.0.1:{server.port}" for server in self.servers]
        cli = shutil.which("redis-cli") or shutil.which("valkey-cli") or "redis-cli"
        subprocess.run(
            [cli, "--cluster", "create", *places, "--cluster-replicas", "1", "--cluster-yes"],
            check=True,
            capture_output=True,
            timeout=START_S,
        )
        self.settle()

    def settle(self) -> None:
        """Wait until all servers that run agree that all is well. Raises StoreUnusable if they do not."""
        if not until(lambda: all(self._is_well(server) for server in self.servers)):
            raise StoreUnusable("The cluster of Redis servers does not come to rest.")

    def _is_well(self, server: RedisServer) -> bool:
        try:
            if "cluster_state:ok" not in str(server.ask("CLUSTER", "INFO")):
                return False
            role, slots = server.ask("ROLE"), server.ask("CLUSTER", "SLOTS")
        except OSError:
            return False
        is_linked = role[0] != "slave" or role[3] == "connected"
        return is_linked and all(len(servers) > 1 for _, _, *servers in slots)

    def master_of(self, key: str) -> RedisServer:
        """Who has this key."""
        slot = int(self.servers[0].ask("CLUSTER", "KEYSLOT", key))
        for first, last, (_, port, *_), *_ in _slots(self.servers):
            if first <= slot <= last:
                return next(server for server in self.servers if server.port == port)
        raise StoreUnusable(f"Nobody has slot {slot}.")

    def replica_of(self, master: RedisServer) -> RedisServer:
        """Who would take a master's place."""
        for _, _, (_, port, *_), *replicas in _slots(self.servers):
            if port == master.port and replicas:
                return next(server for server in self.servers if server.port == replicas[0][1])
        raise StoreUnusable(f"The master at port {master.port} has no replica.")

    def masters(self) -> list[RedisServer]:
        """The servers that have slots now."""
        ports = {port for _, _, (_, port, *_), *_ in _slots(self.servers)}
        return [server for server in self.servers if server.port in ports]

    def cut_off(self, replica: RedisServer, master: RedisServer) -> None:
        """From here on the replica hears nothing of its master, until it takes over."""
        replica.pause()
        master.ask("CLIENT", "KILL", "TYPE", "replica")  # or the kernel would keep it for later

    def take_over(self, replica: RedisServer, master: RedisServer) -> None:
        """Kill the master, and let the replica be the new one, whatever it lacks; wait until it is."""
        master.kill()
        replica.resume()
        replica.ask("CLUSTER", "FAILOVER", "TAKEOVER")
        if not until(lambda: replica in self.masters()):
            raise StoreUnusable("The replica did not take over.")

    def kill(self) -> None:
        """SIGKILL for all."""
        for server in self.servers:
            server.kill()


def _slots(servers: Sequence[RedisServer]) -> list[Any]:
    for server in servers:
        with contextlib.suppress(OSError):
            return list(server.ask("CLUSTER", "SLOTS"))
    raise StoreUnusable("No server of the cluster answers.")


def until(true: Callable[[], bool]) -> bool:
    """Whether it comes true within START_S."""
    deadline_s = time.monotonic() + START_S
    while not true():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(STEP_S)
    return True
