"""Small disks, which can be filled up: file systems in memory, where this user may mount one."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

TAKEN = "ballast"  # the file that takes the place


def mount(folder: Path, size: int, **options: object) -> str:
    """A file system of so many bytes at `folder`; why there is none, or nothing if there is."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return "needs root and mount(8), for a small file system of its own"
    how = ",".join(f"{name}={value}" for name, value in {"size": size, **options}.items())
    command = ["mount", "-t", "tmpfs", "-o", how, "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    return f"mounting is not permitted here: {done.stderr.strip()}" if done.returncode else ""


def unmount(folder: Path) -> None:
    """Let go of it, and of all that is in it."""
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Leave no room on the file system."""
    with (folder / TAKEN).open("ab") as ballast:
        while room := shutil.disk_usage(folder).free:
            size = os.fstat(ballast.fileno()).st_size
            with contextlib.suppress(OSError):  # somebody else was faster
                os.posix_fallocate(ballast.fileno(), size, room)


def free(folder: Path) -> None:
    """Give the room back."""
    (folder / TAKEN).unlink(missing_ok=True)
