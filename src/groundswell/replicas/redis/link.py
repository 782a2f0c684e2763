"""The way to Redis: commands in pipelines, to one server or to the masters of a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import hiredis
from redis.asyncio import Connection, ConnectionPool, Redis, RedisCluster, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from groundswell.errors import ReplicaUnavailable

# uvloop's transports raise RuntimeError where a connection was closed under the hands of who writes.
FAILURES: Final = (RedisError, OSError, RuntimeError)
SCANNED: Final = 500  # keys looked at by one step of a scan


class _Packed(Connection):
    """A connection that packs commands in C: redis-py's takes 20 times as long for 100 keys."""

    def pack_command(self, *args: Any) -> list[bytes]:
        """The command as it is sent."""
        name, *words = args
        return [hiredis.pack_command((*name.split(), *words))]


class _PackedSSL(_Packed, SSLConnection):
    """The same with TLS."""


class Link:
    """Connections to what a URL names; whether that is a cluster is noticed at the first use.

    Calls fail at once and are not repeated: whoever calls knows better when to try again.
    """

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._urls = _each(url)
        self._timeout_s = timeout_s
        self._client: Redis | RedisCluster | None = None
        self._connecting = asyncio.Lock()

    async def is_cluster(self) -> bool:
        """Whether it is one. Raises ReplicaUnavailable."""
        return isinstance(await self._connected(), RedisCluster)

    async def _connected(self) -> Redis | RedisCluster:
        if self._client is not None:
            return self._client
        async with self._connecting:
            error: Exception = ReplicaUnavailable("Redis cannot be reached.")
            for url in self._urls if self._client is None else ():
                try:
                    self._client = await self._connect(url)
                    break
                except FAILURES as failed:
                    error = _unavailable(failed)
        if self._client is None:
            raise error
        return self._client

    async def _connect(self, url: str) -> Redis | RedisCluster:
        options: dict[str, Any] = {
            "socket_timeout": self._timeout_s,
            "socket_connect_timeout": self._timeout_s,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
        }
        packed = _PackedSSL if url.startswith("rediss:") else _Packed
        pool = ConnectionPool.from_url(url, **options)
        pool.connection_class = packed
        single = Redis.from_pool(pool)
        try:
            about = await single.info("cluster")
        except BaseException:
            await single.aclose()
            raise
        if not about.get("cluster_enabled"):
            return single
        await single.aclose()
        cluster = RedisCluster.from_url(url, **options)
        cluster.nodes_manager.connection_kwargs["connection_class"] = packed
        return cluster

    async def run(self, keys: Sequence[bytes], commands: Sequence[Sequence[Any]]) -> list[Any]:
        """The answers to the commands, sent at once; each goes to where its key of `keys` is.

        Those of one slot are executed in order. Raises ReplicaUnavailable if any fails: some of them may
        have been executed.
        """
        client = await self._connected()
        try:
            answers = await self._answers(client, keys, commands)
        except FAILURES as error:
            _end_if_cancelled()
            await self._give_up(client, error)
            raise _unavailable(error) from error
        _end_if_cancelled()
        return answers

    async def _answers(
        self,
        client: Redis | RedisCluster,
        keys: Sequence[bytes],
        commands: Sequence[Sequence[Any]],
    ) -> list[Any]:
        if isinstance(client, RedisCluster):
            return await self._run_in_cluster(client, keys, commands)
        if len(commands) == 1:
            return [await client.execute_command(*commands[0])]  # type: ignore[no-untyped-call]
        pipe = client.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        return await pipe.execute()

    async def _run_in_cluster(
        self, client: RedisCluster, keys: Sequence[bytes], commands: Sequence[Sequence[Any]]
    ) -> list[Any]:
        await client.initialize()
        pipe = client.pipeline()
        for key, command in zip(keys, commands, strict=True):
            pipe.execute_command(*command, target_nodes=client.get_node_from_key(key.decode()))
        return await pipe.execute()

    async def _give_up(self, client: Redis | RedisCluster, error: Exception) -> None:
        """A cluster may have other masters by now: look again before the next call."""
        if isinstance(client, RedisCluster) and not isinstance(error, ResponseError):
            await client.aclose()

    async def scan(self, key: bytes, pattern: bytes) -> AsyncIterator[list[bytes]]:
        """The keys like the pattern on the server that has `key`, some at a time.

        Raises ReplicaUnavailable.
        """
        cursor = 0
        while True:
            [(cursor, found)] = await self.run(
                [key], [("SCAN", cursor, "MATCH", pattern, "COUNT", SCANNED)]
            )
            yield found
            cursor = int(cursor)
            if cursor == 0:
                return

    async def close(self) -> None:
        """Let go of all connections."""
        if self._client is not None:
            await self._client.aclose()


def _each(url: str) -> list[str]:
    """A URL per host, of one that names several with commas."""
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    return [urlunsplit(parts._replace(netloc=user + at + host)) for host in hosts.split(",")]


def _end_if_cancelled() -> None:
    """Raise CancelledError where the client has swallowed one, as it does now and then."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _unavailable(error: Exception) -> ReplicaUnavailable:
    return ReplicaUnavailable(
        f"Redis does not do what was asked ({type(error).__name__}: {error}); nothing that counts is "
        "lost. Reads go elsewhere until it does."
    )
