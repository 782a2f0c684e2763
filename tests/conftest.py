"""What every test can use."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest
from hypothesis import settings

import clusters

settings.register_profile("groundswell", print_blob=True, deadline=None)
settings.load_profile("groundswell")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def seed() -> int:
    """Of a random test; printed when it fails, and taken from GROUNDSWELL_TEST_SEED to replay it."""
    drawn = int(os.environ.get("GROUNDSWELL_TEST_SEED") or secrets.randbelow(2**32))
    print(f"GROUNDSWELL_TEST_SEED={drawn}")  # noqa: T201
    return drawn


@pytest.fixture(scope="session")
def installation(request: pytest.FixtureRequest) -> clusters.Installation:
    """One that has PgQ, if there is one; `@clusters.every()` runs a test on all."""
    if reason := clusters.missing():
        pytest.skip(reason)
    found = getattr(request, "param", clusters.installations()[0])
    assert isinstance(found, clusters.Installation)
    return found


@pytest.fixture(scope="session")
def shared_clusters() -> Iterator[dict[clusters.Installation, clusters.Cluster]]:
    """Those that the session has started so far; they run until its end."""
    started: dict[clusters.Installation, clusters.Cluster] = {}
    yield started
    for cluster in started.values():
        cluster.close()


@pytest.fixture(scope="session")
def cluster(
    installation: clusters.Installation,
    shared_clusters: dict[clusters.Installation, clusters.Cluster],
) -> clusters.Cluster:
    """The session's own; a test that stops, kills or pauses a server makes another."""
    if installation not in shared_clusters:
        shared_clusters[installation] = clusters.Cluster(installation, in_memory=True)
    return shared_clusters[installation]


@pytest.fixture
def database(cluster: clusters.Cluster) -> Iterator[str]:
    """The URL of a new database on the session's cluster; dropped at the end."""
    name = cluster.create_database()
    yield cluster.url(name)
    cluster.drop_database(name)
