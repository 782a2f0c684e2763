"""The pieces of a history that checkers work on; `op` is the operation's id, for the witness."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple


class Violation(NamedTuple):
    """A contradiction: what is wrong, and the operations that show it, as few as possible."""

    what: str
    ops: tuple[int, ...]


class Change(NamedTuple):
    """A change of a number: a like is +1. `end` is NEVER where the outcome is not known."""

    op: int
    start: int
    end: int
    by: int = 1


class Seen(NamedTuple):
    """A number that was read."""

    op: int
    start: int
    end: int
    value: int


class Wrote(NamedTuple):
    """A value that was written to a register, and nowhere else; NEVER ends what is not known."""

    op: int
    start: int
    end: int
    value: Hashable


class Got(NamedTuple):
    """A value that was read from a register; None: its initial state."""

    op: int
    start: int
    end: int
    value: Hashable | None


class Txn(NamedTuple):
    """What one operation read and wrote, on several keys at once, in one session.

    Within a session transactions are in order of the list they stand in. `writes` and `reads` are by
    key; a value is written once in a history, None is a key's initial state. An operation whose
    outcome is not known is no transaction of its session: it stands in a session of its own.
    """

    op: int
    session: int
    reads: dict[str, Hashable | None]
    writes: dict[str, Hashable]
