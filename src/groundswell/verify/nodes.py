"""Nodes in processes of their own, which may be killed, paused and started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from groundswell.errors import StoreUnusable
from groundswell.processes import end_with_parent
from groundswell.verify.program import Program

START_S: Final = 60.0
STOP_S: Final = 20.0
_LISTENS: Final = re.compile(rb"listens on http://\S+?:(\d+)")


class Node(Program):
    """One `groundswell serve` on loopback, on the same port each time it is started."""

    def __init__(
        self,
        name: str,
        folder: Path,
        arguments: Sequence[str],
        settings: Mapping[str, str],
        preload: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.port = 0  # once it is started
        self._log = folder / f"{name}.log"
        self._arguments = arguments
        # What may hold a password does not stand on the command line, which others can read.
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith("GROUNDSWELL_")
        }
        self._environment |= {
            f"GROUNDSWELL_{key.upper()}": value for key, value in settings.items()
        }
        self._environment |= preload or {}

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it, and wait until it listens. Raises StoreUnusable with what it said if it does not."""
        began = self._log.stat().st_size if self._log.exists() else 0
        process = self._process = self._spawn()
        deadline_s = time.monotonic() + START_S
        while not await self._is_there(began):
            if process.poll() is not None or time.monotonic() > deadline_s:
                said = self._log.read_text("utf-8", "replace")[-2_000:]
                self.kill()
                raise StoreUnusable(f"{self.name} did not start. {said.strip()}")
            await asyncio.sleep(0.02)

    async def _is_there(self, began: int) -> bool:
        """Whether it has said where it will listen, and does."""
        found = _LISTENS.search(self._log.read_bytes(), began)
        if found is None:
            return False
        self.port = int(found[1])
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

    def _spawn(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "groundswell", "serve", "--config", os.devnull]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [*command, "--port", str(self.port), *self._arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the verification, which then ends it
                preexec_fn=end_with_parent,
            )

    async def stop(self) -> None:
        """SIGTERM; SIGKILL if that takes too long."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self._process.wait, STOP_S)
            self.kill()
