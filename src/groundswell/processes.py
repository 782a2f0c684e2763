"""Processes that end with the one that started them."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Callable
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


# To be called in the child before it begins (`preexec_fn`): from then on the kernel kills it when the
# thread that started it has gone, however that ended. Only Linux can.
end_with_parent: Final[Callable[[], None] | None] = (
    _end_with_parent if sys.platform == "linux" else None
)
