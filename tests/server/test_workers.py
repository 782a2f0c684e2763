"""`serve --workers`: several processes on one port."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from nodes import Node, command, running, together, until

pytestmark = pytest.mark.timeout(180)


def workers(node: Node) -> list[int]:
    """The process ids of a node's workers."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
            is_worker = b"spawn_main" in (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if is_worker and int(stat[1]) == node.pid:
            found.append(int(entry.name))
    return sorted(found)


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def liked(node: Node, source: int) -> bool:
    try:
        return node.request("PUT", f"/v1/edges/like/1/{source}").status == 200
    except OSError:
        return False


def test_several_workers_count_together(tmp_path: Path) -> None:
    with running(tmp_path, "--workers", "2") as node:
        until(lambda: len(workers(node)) == 2, "two workers")
        assert all(together(16, lambda source: liked(node, source)))
        assert {node.count("like", 1) for _ in range(20)} == {16}
        assert "2 workers" in node.output()


def test_a_worker_that_is_killed_is_replaced(tmp_path: Path) -> None:
    with running(tmp_path, "--workers", "2") as node:
        until(lambda: len(workers(node)) == 2, "two workers")
        assert liked(node, 1)
        victim = workers(node)[0]
        os.kill(victim, signal.SIGKILL)
        until(lambda: len(workers(node)) == 2 and victim not in workers(node), "another worker")
        until(lambda: all(liked(node, source) for source in range(2, 12)), "likes")
        assert node.count("like", 1) == 11


def test_sigterm_ends_them_all(tmp_path: Path) -> None:
    with running(tmp_path, "--workers", "2") as node:
        until(lambda: len(workers(node)) == 2, "two workers")
        assert liked(node, 1)
        started = workers(node)
        assert node.terminate() == 0
        assert all(is_gone(pid) for pid in started)
        assert "everything that was accepted is stored" in node.output()


def test_workers_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    with running(tmp_path, "--workers", "2") as node:
        until(lambda: len(workers(node)) == 2, "two workers")
        started = workers(node)
        node.kill()
        until(lambda: all(is_gone(pid) for pid in started), "their end")


def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = command(tmp_path, "serve", "--workers", "2", "--port", str(port))
    assert done.returncode == 1
    assert f"Cannot listen on 127.0.0.1 port {port}" in done.stderr


def test_memory_cannot_be_shared(tmp_path: Path) -> None:
    done = command(tmp_path, "serve", "--workers", "2", "--store", "memory://")
    assert done.returncode == 1
    assert "Several workers cannot share memory://" in done.stderr
