"""A network of this process's own, with nothing but loopback, in which packets get lost on purpose.

A proxy that stalls still acknowledges what it gets. Where packets are lost nobody does, and it is the
kernel's timers that notice.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import socket
import struct
import subprocess
from typing import Final

_NEW_NETWORK: Final = 0x40000000  # CLONE_NEWNET
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1  # of netdevice(7)
_REQUEST: Final = "16sh14x"
_RULES: Final = """
    table inet groundswell {
        set there { type inet_service; }
        set back { type inet_service; }
        chain input {
            type filter hook input priority 0;
            tcp dport @there drop
            tcp sport @back drop
        }
    }
"""

_entered = False


def enter() -> bool:
    """Move into a new one, with whatever is started from now on; whether that could be done.

    It needs root and nft(8). To be called before there is a second thread, which would stay behind. The
    network is gone with the last process in it, so that nothing is left to be undone.
    """
    global _entered
    if _entered or os.geteuid() != 0 or shutil.which("nft") is None:
        return _entered
    if ctypes.CDLL(None).unshare(_NEW_NETWORK) != 0:
        return False
    with socket.socket() as any_socket:
        found = fcntl.ioctl(any_socket, _GET_FLAGS, struct.pack(_REQUEST, b"lo", 0))
        flags = struct.unpack(_REQUEST, found)[1]
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack(_REQUEST, b"lo", flags | _UP))
    _entered = _nft(_RULES)
    return _entered


def is_own() -> bool:
    """Whether this process has one of its own, in which `lose` works."""
    return _entered


def lose(port: int, *, back_only: bool = False) -> None:
    """Let everything be lost that is sent to this TCP port, and from it; or only what comes back."""
    for way in ("back",) if back_only else ("there", "back"):
        _nft(f"add element inet groundswell {way} {{ {port} }}")


def carry(port: int) -> None:
    """Lose nothing more."""
    for way in ("there", "back"):
        _nft(f"delete element inet groundswell {way} {{ {port} }}")  # where it is one


def _nft(rules: str) -> bool:
    done = subprocess.run(["nft", "-f", "-"], input=rules.encode(), capture_output=True)
    return done.returncode == 0
