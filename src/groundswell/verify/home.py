"""Folders for private servers: what works in one ends with whoever made it, and leaves nothing."""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MEMORY = Path("/dev/shm")
ROOM = 2 << 30  # bytes of memory that have to be free for a server to be put there

# A shell of its own waits until its input ends: because the folder was given up, or because
# whoever made it is gone, killed perhaps. Then it kills what works in the folder (a paused process would
# stay for ever) and removes what is left: shared memory and the folder. PR_SET_PDEATHSIG would do
# less, and kill the server too when no more than the thread that started it has ended.
GUARD = """
cd / && exec >/dev/null 2>&1
read -r _
while
    left=
    for process in /proc/[0-9]*; do
        if [ "$process/cwd" -ef "$0" ] || [ "$process/cwd" -ef "$0/data" ]; then
            kill -KILL "${process#/proc/}" && left=yes
        fi
    done
    [ "$left" ]
do sleep 0.02; done
memory=$(awk 'NR == 7 { print $2 }' "$0/data/postmaster.pid")
[ "$memory" ] && ipcrm -m "$memory"
mountpoint -q "$0" && umount "$0"
rm -rf "$0"
"""


class Home:
    """A new folder for whoever runs the servers: what works in it, or in its `data`, ends with it."""

    def __init__(self, *, in_memory: bool = False) -> None:
        self.folder = _folder(in_memory)
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, str(self.folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is not for it
        )

    def close(self) -> None:
        """Kill what is left, and remove all of it."""
        self._guard.communicate()

    def processes(self) -> list[int]:
        """Those that are alive: each works in the folder, PostgreSQL's in `data`."""
        return [*working_in(self.folder), *working_in(self.folder / "data")]

    def signal(self, number: signal.Signals) -> None:
        """Send it to all of them."""
        send(number, self.processes())


@functools.cache
def server_user() -> pwd.struct_passwd:
    """Who runs the servers: this user, but PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    users = {user.pw_name: user for user in pwd.getpwall()}
    return users.get("postgres") or users["nobody"]


def as_user() -> dict[str, Any]:
    """What makes Popen run one of PostgreSQL's programs as that user, and in its own way."""
    environment = {n: v for n, v in os.environ.items() if not n.startswith(("PG", "LC_"))}
    as_is: dict[str, Any] = {"env": environment, "stdin": subprocess.DEVNULL}
    if os.geteuid() != 0:
        return as_is
    return as_is | {"user": server_user().pw_uid, "group": server_user().pw_gid, "extra_groups": []}


def working_in(folder: Path) -> list[int]:
    """The processes whose working directory it is."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone, or somebody else's
            if (process / "cwd").readlink() == folder:
                found.append(int(process.name))
    return found


def send(number: signal.Signals, processes: Sequence[int]) -> None:
    """Send it to those of them that are still there."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)


def _folder(in_memory: bool) -> Path:
    """A new one for none but who runs the servers; in /tmp where that user can't pass TMPDIR."""
    base = Path(tempfile.gettempdir()).resolve()
    if in_memory and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM:
        base = MEMORY.resolve()
    elif os.geteuid() == 0 and not all(f.stat().st_mode & 0o001 for f in (base, *base.parents)):
        base = Path("/tmp")
    made = Path(tempfile.mkdtemp(prefix="groundswell-", dir=base))
    if os.geteuid() == 0:
        os.chown(made, server_user().pw_uid, server_user().pw_gid)
    return made
