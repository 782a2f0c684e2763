"""Packets are lost in a network of the process's own, and nowhere else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("nft") is None, reason="needs root and nft(8)"
)

NETWORK = Path("/proc/self/ns/net")

LOSES = """
import contextlib, os, socket, time
from groundswell.verify import network

before = os.readlink("/proc/self/ns/net")
assert not network.is_own()
assert network.enter() and network.is_own() and network.enter()
assert os.readlink("/proc/self/ns/net") != before

listening = socket.create_server(("127.0.0.1", 0))
port = listening.getsockname()[1]
near = socket.create_connection(("127.0.0.1", port))
far, _ = listening.accept()
for end in (near, far):
    end.settimeout(0.5)

def arrives(source, sink):
    source.sendall(b"x")
    with contextlib.suppress(TimeoutError):
        return sink.recv(1) == b"x"
    return False

assert arrives(near, far) and arrives(far, near)
network.lose(port)
assert not arrives(near, far) and not arrives(far, near)
network.carry(port)
for end in (near, far):
    end.settimeout(20)
assert far.recv(1) == near.recv(1) == b"x"  # sent again by the kernel
assert arrives(near, far) and arrives(far, near)
time.sleep(0.5)  # all of it is acknowledged: else nothing more is sent when acknowledgements are lost
network.lose(port, back_only=True)
near.settimeout(0.5)
assert arrives(near, far) and not arrives(far, near)
network.carry(port)
network.carry(port)
print("seen")
"""


def test_packets_are_lost_both_ways_or_one_way_and_then_carried_again() -> None:
    ours = NETWORK.readlink()
    done = subprocess.run(
        [sys.executable, "-c", LOSES], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "seen\n"), done
    assert NETWORK.readlink() == ours
