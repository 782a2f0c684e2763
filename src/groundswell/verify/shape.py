"""What the clients of a verification work on, and how much.

Keys in the history are short names; the ids behind them are of one run alone, so that a deployment's own
data is left in peace.
"""

from __future__ import annotations

from typing import Final

import msgspec

from groundswell.model import Key, Level

BOUNDED: Final = "bounded"  # a session whose reads are eventual, with a highest age
LEVELS: Final = (*(str(level) for level in Level), BOUNDED)

COUNTERS: Final = ("c0", "c1", "c2")  # targets that are only liked, each by another source
PAIR: Final = ("p0", "p1")  # two of them that are only ever liked together
MINE: Final = "s"  # and the session's number: a target that only this session likes
TOGGLED: Final = ("t0", "t1")  # targets that are liked and unliked
OBJECTS: Final = ("o0", "o1", "o2")
ACCOUNTS: Final = ("a0", "a1", "a2")
BANK: Final = "bank"


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How much is done, and where."""

    run: int  # ids begin here: of this run alone
    kind: str = "like"
    text: tuple[bool, bool] = (False, False)  # whether ids of (targets, sources) are text
    sessions: int = 2  # at a time, of each level
    operations: int = 40  # of a session, before another one takes its place
    pause_s: float = 0.01  # mean, between two operations of a session
    max_age_ms: int = 200  # of the sessions that are bounded

    def target(self, name: str) -> Key:
        """The (kind, target) behind a short name."""
        number = _NUMBERS.get(name)
        id_ = self.run + (len(_NUMBERS) + int(name[1:]) if number is None else number)
        return self.kind, str(id_) if self.text[0] else id_

    def source(self, number: int) -> int | str:
        """The id of a source."""
        id_ = self.run + number
        return str(id_) if self.text[1] else id_

    def name(self, name: str) -> str:
        """The id of an object, an account or a transfer."""
        return f"verify-{self.run}-{name}"


_NUMBERS: Final = {name: number for number, name in enumerate((*COUNTERS, *PAIR, *TOGGLED))}


def grows(name: str) -> bool:
    """Whether a target is only ever liked."""
    return name in COUNTERS or name in PAIR or name.startswith(MINE)
