"""The scripts, as commands. Each is sent whole: a server that failed over knows none of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

Command = list[Any]


@cache
def _text(name: str) -> str:
    return resources.files(__package__).joinpath(f"{name}.lua").read_text("utf-8")


def script(name: str, keys: Sequence[bytes], *arguments: Any) -> Command:
    """The command that runs `name.lua`."""
    return ["EVAL", _text(name), len(keys), *keys, *arguments]
