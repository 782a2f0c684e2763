"""Redis servers that tests of replicas share; those that break one start their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import redises


@pytest.fixture(scope="session")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redises.RedisServer]:
    with redises.server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def one_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redises.RedisCluster]:
    with redises.clustered(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a server that is well may take longer than reads are to wait."""
    monkeypatch.setattr("groundswell.replicas.redis.replica.READ_S", 1.5)
