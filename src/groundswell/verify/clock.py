"""A wall clock that jumps, for a process that is started with it: by libfaketime, where there is one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

LIBRARIES: Final = (
    *Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"),
    *Path("/usr/lib/faketime").glob("libfaketimeMT.so.1"),
)


class WallClock:
    """What a process believes the time is; intervals are left as they are."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set(0)

    def set(self, seconds: int) -> None:
        """How far it is off, from a few seconds on."""
        whole = self._file.with_suffix(".new")
        whole.write_text(f"{seconds:+d}\n", "ascii")
        whole.replace(self._file)

    @property
    def preload(self) -> Mapping[str, str]:
        """The environment of a process that has this clock; empty where that cannot be."""
        if not LIBRARIES:
            return {}
        return {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DISABLE_SHM": "1",  # which a killed process would leave behind
        }
