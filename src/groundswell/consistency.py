"""The five levels, and the one function that decides who may serve a read. Pure."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final

import msgspec

from groundswell.model import Level
from groundswell.revision import Revision, SessionToken


class Standing(msgspec.Struct, frozen=True):
    """Where a replica stands: one immutable value, replaced as the replica moves on."""

    epoch: int  # timeline of the store it follows
    rollup: int  # number of the last rollup it applied
    revision: Revision  # what that rollup includes
    fresh_at_s: float  # monotonic time at which nothing newer existed; -inf while not known


class Serve(msgspec.Struct, frozen=True):
    """Let this replica answer."""

    replica: int  # index into the standings that were given
    overlay: bool  # add the session's own writes that it has not seen


class Elsewhere(enum.Enum):
    """No replica answers now."""

    WAIT = "wait"  # one of them may qualify soon
    PRIMARY = "primary"  # only the primary can meet this


Decision = Serve | Elsewhere

# Asked of its class, a level costs a call on Python 3.11, and these are asked for with every read.
_EVENTUAL: Final = Level.EVENTUAL
_READ_YOUR_WRITES: Final = Level.READ_YOUR_WRITES
_MONOTONIC: Final = Level.MONOTONIC
_LINEARIZABLE: Final = Level.LINEARIZABLE

__all__ = ["Decision", "Elsewhere", "Level", "Serve", "Standing", "choose"]


def choose(
    level: Level,
    token: SessionToken | None,
    standings: Sequence[Standing],
    *,
    epoch: int,
    turn: int,
    now_s: float,
    additive: bool,
    max_age_s: float | None = None,
) -> Decision:
    """Who may serve a read at `level` for a session that carries `token`, in the store's `epoch`.

    `additive` says that what is read is a count, so that own writes which a replica lacks can be added
    on top. Among the replicas that qualify, `turn` picks: the first from `turn % len(standings)` on.
    """
    if level is _LINEARIZABLE:
        return Elsewhere.PRIMARY
    session = None if token is None or level is _EVENTUAL else token
    total = len(standings)
    comparable = total > 0
    for step in range(total):
        index = (turn + step) % total
        at = standings[index]
        if max_age_s is not None and now_s - at.fresh_at_s > max_age_s:
            continue
        if at.epoch != epoch and level is not _EVENTUAL:
            comparable = False  # it shows what has been lost, until it begins anew
            continue
        if session is None:
            return Serve(index, overlay=False)
        if session.epoch != at.epoch:
            comparable = False  # not ever, however long one waits
            continue
        if level is not _READ_YOUR_WRITES and not at.revision.includes(session.read):
            continue
        if level is _MONOTONIC or session.sees_writes(at.revision):
            return Serve(index, overlay=False)
        if additive and session.overlays(at.revision):
            return Serve(index, overlay=True)
    return Elsewhere.WAIT if comparable else Elsewhere.PRIMARY
