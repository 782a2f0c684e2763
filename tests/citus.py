"""Citus for tests.

Most take one that was set up for them: GROUNDSWELL_TEST_CITUS_DSN is the URL of its coordinator, the
extension is there and the workers are added. Each store is made anew in that database. Tests that kill
servers start their own, where Citus is installed.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from clusters import Cluster, installations
from clusters import missing as no_server
from groundswell.kinds import Kinds
from groundswell.stores.postgres import migrate
from groundswell.testing import KINDS

DSN: Final = os.environ.get("GROUNDSWELL_TEST_CITUS_DSN", "")

NAME: Final = "edges"  # of the database, on each server of our own
WORKERS: Final = 2
_SETTINGS: Final = {
    "shared_preload_libraries": "citus",
    "max_prepared_transactions": 100,
    "citus.node_conninfo": "sslmode=disable",
}

needed = pytest.mark.skipif(not DSN, reason="GROUNDSWELL_TEST_CITUS_DSN names no Citus coordinator")


def run(*statements: str) -> list[Any]:
    """The rows of the last statement, on the coordinator."""
    with psycopg.connect(DSN, autocommit=True) as connection:
        for statement in statements[:-1]:
            connection.execute(statement.encode())
        done = connection.execute(statements[-1].encode())
        return done.fetchall() if done.description is not None else []


def drop() -> None:
    """Remove the store of before, whoever is connected to it."""
    run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'groundswell' AND datname = current_database()",
        "DROP SCHEMA IF EXISTS groundswell CASCADE",
        "DROP EXTENSION IF EXISTS pgq CASCADE",
    )


async def fresh(queue: Any = "outbox", kinds: Kinds = KINDS) -> str:
    """The URL of an empty distributed store, in place of the one of before."""
    drop()
    await migrate(DSN, kinds, queue=queue, distributed="citus")
    return DSN


class Servers:
    """A coordinator and two workers of our own, to be killed; where `missing` is empty."""

    def __init__(self) -> None:
        installation = installations()[0]
        self.nodes = [
            Cluster(installation, settings=_SETTINGS, in_memory=True) for _ in range(1 + WORKERS)
        ]
        self.coordinator, *workers = self.nodes
        for node in self.nodes:
            node.execute(f"ALTER ROLE postgres PASSWORD '{self.coordinator.password}'")
            node.password = self.coordinator.password
            node.create_database(NAME)
            node.execute("CREATE EXTENSION citus", database=NAME)
            node.execute(
                f"INSERT INTO pg_dist_authinfo VALUES (0, 'postgres', 'password={node.password}')",
                database=NAME,
            )
        self.run(f"SELECT citus_set_coordinator_host('127.0.0.1', {self.coordinator.port})")
        for node in workers:
            self.run(f"SELECT citus_add_node('127.0.0.1', {node.port})")

    @property
    def url(self) -> str:
        """Of the database, on the coordinator."""
        return self.coordinator.url(NAME)

    def run(self, sql: str) -> list[Any]:
        """The rows of a statement, on the coordinator."""
        return self.coordinator.execute(sql, database=NAME)

    def close(self) -> None:
        """End and remove them."""
        for node in self.nodes:
            node.close()


def missing() -> str:
    """Why no servers of our own can be started; empty if they can."""
    if reason := no_server():
        return reason
    pg_config = installations()[0].bin / "pg_config"
    share = subprocess.run(
        [pg_config, "--sharedir"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not (Path(share) / "extension/citus.control").exists():
        return "Citus is not installed"
    return ""
