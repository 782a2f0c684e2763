"""The pieces of a history that checkers work on; `op` is the operation's id, for the witness."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Literal, NamedTuple, Protocol


class Violation(NamedTuple):
    """A contradiction: what is wrong, and the operations that show it, as few as possible."""

    what: str
    ops: tuple[int, ...]


class Timed(Protocol):
    """A fact of one operation, and when it was under way."""

    @property
    def op(self) -> int:
        """The operation's id."""

    @property
    def start(self) -> int:
        """When it began, in ns."""

    @property
    def end(self) -> int:
        """When it ended; NEVER if nobody knows."""


def shown_by(what: str, *facts: Timed) -> Violation:
    """A violation that these facts show; its operations stand in order of time."""
    ordered = sorted(facts, key=lambda fact: (fact.start, fact.op))
    return Violation(what, tuple(dict.fromkeys(fact.op for fact in ordered)))


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


class Aged(NamedTuple):
    """A number that was read, and how old it was said to be at most."""

    op: int
    start: int
    end: int
    value: int
    age_ns: int


class Looked(NamedTuple):
    """Whether an edge was there when somebody looked."""

    op: int
    start: int
    end: int
    found: bool


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


class Step(NamedTuple):
    """What a session did with one register; steps stand in the order in which the session took them."""

    op: int
    session: int
    key: str
    wrote: bool  # else it read
    version: int  # that was told; 0: nothing was ever written
    value: Hashable | None


class Counted(NamedTuple):
    """What a session did with a number that only grows, or with its token; given before it is taken.

    An "add" was acknowledged, and is one that no other operation has tried before.
    """

    op: int
    session: int
    did: Literal["add", "count", "give", "take"]
    key: str = ""  # of "add" and "count"
    value: int = 0  # that "count" found; the token that was given or taken


class Page(NamedTuple):
    """Numbers that were read at once, by key."""

    op: int
    counts: dict[str, int]


class Paid(NamedTuple):
    """A transfer between two accounts; NEVER ends one that may not have happened."""

    op: int
    start: int
    end: int
    id: str
    debit: str  # account that it takes from
    credit: str  # account that it goes to
    amount: int


class Balance(NamedTuple):
    """What was read of an account."""

    op: int
    start: int
    end: int
    account: str
    value: int
