"""Bugs planted in tokens, in the choice of who serves, and in what the primary counts."""

from __future__ import annotations

import contextlib
from typing import Any
from unittest import mock

from msgspec.structs import replace

from groundswell import current, reader, rollup, shared, tokens
from groundswell.consistency import Elsewhere, Level, Serve
from groundswell.revision import NOTHING, Revision, SessionToken
from groundswell.session import Session
from groundswell.verify.simulation.mutants import (
    BACK,
    CAUSAL_COUNTS,
    CAUSE,
    DIES,
    LINEAR,
    MORE,
    OWN,
    Patch,
    instead,
    mutant,
)


@mutant(OWN)
def own_writes_are_not_added() -> Patch:
    """A replica that lacks own writes serves a count without them."""
    return mock.patch.object(reader, "_pending", lambda *_: {})


@mutant(MORE, LINEAR)
def own_writes_are_added_twice() -> Patch:
    """Own writes are added on top although the replica sees them."""

    def pending(original: Any, self: SessionToken, revision: Revision) -> Any:
        return original(self, NOTHING)

    return instead(SessionToken, "pending", pending)


@mutant(OWN)
def a_token_forgets_own_writes() -> Patch:
    """What was written does not enter the token."""
    return instead(SessionToken, "after", lambda _, self, write: self)


@mutant(OWN)
def a_token_keeps_the_last_write_alone() -> Patch:
    """Each own write replaces the one before."""
    return instead(SessionToken, "after", lambda _, self, write: replace(self, writes=(write,)))


@mutant(BACK)
def a_token_forgets_what_was_read() -> Patch:
    """A read does not enter the token."""
    return instead(SessionToken, "saw", lambda _, self, revision: self)


@mutant(CAUSE, CAUSAL_COUNTS)
def merged_tokens_keep_the_smaller() -> Patch:
    """Of two tokens the smaller revision is taken."""

    def merge(original: Any, self: SessionToken, other: SessionToken) -> SessionToken:
        both: SessionToken = original(self, other)
        smaller = self.read if other.read.includes(self.read) else other.read
        return replace(both, read=smaller, writes=self.writes)

    return instead(SessionToken, "merge", merge)


@mutant(CAUSE, CAUSAL_COUNTS)
def a_token_handed_over_is_ignored() -> Patch:
    """A session does not take over what another one has seen."""
    return instead(Session, "observe", lambda *_: None)


@mutant(OWN, CAUSAL_COUNTS)
def writes_of_one_transaction_are_one() -> Patch:
    """Merged tokens take two sessions' writes in one group commit for the same write."""

    def merge(original: Any, self: SessionToken, other: SessionToken) -> SessionToken:
        both: SessionToken = original(self, other)
        return replace(both, writes=tuple({w.xid: w for w in both.writes}.values()))

    return instead(SessionToken, "merge", merge)


@mutant(BACK)
def newcomers_share_an_old_token() -> Patch:
    """The token made for reads without one is kept although the state has moved on."""

    def after_read(original: Any, self: Any, level: Level, session: Any, revision: Any) -> Any:
        if session is None and level is not Level.EVENTUAL and self._newcomer[1]:
            return self._newcomer[1]
        return original(self, level, session, revision)

    return instead(tokens.Tokens, "after_read", after_read)


# --- revisions and the choice of a replica ------------------------------------------------------


# By `xmax` it would hardly ever be wrong: every rollup takes an id, so that two never end at the same one,
# and only a read on the primary between a rollup's snapshot and its commit could tell.
@mutant(BACK, OWN, CAUSE)
def revisions_are_compared_by_xmin() -> Patch:
    """One number stands for a revision: its oldest running transaction."""
    return instead(Revision, "includes", lambda _, self, other: self.xmin >= other.xmin)


@mutant(OWN)
def running_transactions_count_as_seen() -> Patch:
    """Whether a replica sees own writes is decided without the list of running transactions."""
    return instead(
        SessionToken,
        "sees_writes",
        lambda _, self, revision: all(w.xid < revision.xmax for w in self.writes),
    )


@mutant(OWN, BACK, CAUSE)
def the_level_is_faked() -> Patch:
    """Where no replica qualifies, any will do."""

    def choose(original: Any, level: Level, token: Any, standings: Any, **rest: Any) -> Any:
        decision = original(level, token, standings, **rest)
        return Serve(0, overlay=False) if decision is Elsewhere.WAIT else decision

    return instead(reader, "choose", choose)


@mutant(BACK)
def monotonic_is_read_your_writes() -> Patch:
    """What has been read does not count at `monotonic`."""

    def choose(original: Any, level: Level, token: Any, standings: Any, **rest: Any) -> Any:
        weaker = Level.READ_YOUR_WRITES if level is Level.MONOTONIC else level
        return original(weaker, token, standings, **rest)

    return instead(reader, "choose", choose)


@mutant("bounded: no older than was asked for")
def the_highest_age_is_ignored() -> Patch:
    """`max_age_ms` is read, and that is all."""

    def choose(original: Any, *args: Any, **rest: Any) -> Any:
        return original(*args, **{**rest, "max_age_s": None})

    return instead(reader, "choose", choose)


@mutant(LINEAR, DIES)
def linearizable_reads_take_a_replica() -> Patch:
    """The strongest level is served like the one below."""

    def choose(original: Any, level: Level, token: Any, standings: Any, **rest: Any) -> Any:
        weaker = Level.CAUSAL if level is Level.LINEARIZABLE else level
        return original(weaker, token, standings, **rest)

    return instead(reader, "choose", choose)


# --- what the primary counts --------------------------------------------------------------------


@mutant(LINEAR)
def what_waits_is_not_counted() -> Patch:
    """A linearizable count is that of the newest rollup."""

    async def ask(original: Any, self: Any, keys: Any) -> Any:
        read = await self._store.counters(keys)
        return [row.counter for row in read.rows], read.revision

    return instead(current.Current, "_ask", ask)


@mutant(LINEAR)
def a_shared_read_is_joined_late() -> Patch:
    """Calls that came while a statement ran are answered by it."""

    async def answer(original: Any, self: Any, group: Any) -> None:
        work = self._work

        async def working(asked: Any) -> Any:
            found = await work(asked)
            for one in list(self._waiting):
                with contextlib.suppress(KeyError):
                    one[1].set_result(found(one[0]))
                    self._waiting.remove(one)
            return found

        self._work = working
        try:
            await original(self, group)
        finally:
            self._work = work

    return instead(shared.Shared, "_answer", answer)


@mutant(LINEAR)
def a_rollup_covers_those_who_come_later() -> Patch:
    """Whoever waits when a rollup ends is told that it covers them."""

    async def round_(original: Any, self: Any) -> None:
        await original(self)
        waiters, self._waiters = self._waiters, []
        rollup._settle(waiters, None)

    return instead(rollup.RollupWorker, "_round", round_)


@mutant(LINEAR)
def a_bounded_rollup_counts_as_whole() -> Patch:
    """One bounded step is taken for all that was committed."""

    async def round_(original: Any, self: Any) -> None:
        rolled = await self._roll()
        if rolled and rolled.more:
            self._wanted.set()

    return instead(rollup.RollupWorker, "_round", round_)
