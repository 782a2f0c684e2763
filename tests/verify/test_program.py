"""What a verification starts: its ports, and what is said where it does not start."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from groundswell.errors import StoreUnusable
from groundswell.verify.program import free_port
from groundswell.verify.redises import START_S
from redises import RedisServer, needs_redis


def test_a_port_is_given_to_nobody_else() -> None:
    ports = [free_port() for _ in range(500)]
    assert len({*ports}) == 500
    assert all(20_000 <= port < 30_000 for port in ports)


def test_a_port_on_which_somebody_listens_is_not_given() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port() + 1))
        taken.listen()
        assert free_port() != taken.getsockname()[1]


@needs_redis
def test_a_redis_that_cannot_listen_says_so_at_once(tmp_path: Path) -> None:
    made = RedisServer(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", made.port))
        began_s = time.monotonic()
        with pytest.raises(StoreUnusable, match="Address already in use"):
            made.start()
    assert time.monotonic() - began_s < START_S / 2
