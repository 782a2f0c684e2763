from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from groundswell.consistency import Decision, Elsewhere, Level, Serve, Standing, choose
from groundswell.model import Effect
from groundswell.revision import NOTHING, Revision, SessionToken, Wrote

UNIVERSE = 5
NOW_S = 100.0
PRIMARY, WAIT = Elsewhere.PRIMARY, Elsewhere.WAIT
PLUS_ONE = (Effect("like", 1, 1),)


def standing(revision: Revision, *, epoch: int = 1, fresh_at_s: float = NOW_S) -> Standing:
    return Standing(epoch, 7, revision, fresh_at_s)


def session(
    *writes: Wrote, read: Revision = NOTHING, wrote: Revision = NOTHING, epoch: int = 1
) -> SessionToken:
    return SessionToken(store="s", epoch=epoch, read=read, wrote=wrote, writes=writes)


def decide(
    level: Level,
    token: SessionToken | None,
    *standings: Standing,
    turn: int = 0,
    additive: bool = False,
    max_age_s: float | None = None,
    epoch: int = 1,
) -> Decision:
    return choose(
        level,
        token,
        standings,
        epoch=epoch,
        turn=turn,
        now_s=NOW_S,
        additive=additive,
        max_age_s=max_age_s,
    )


# --- the table of the design, in sets


def visible(revision: Revision) -> set[int]:
    return {xid for xid in range(UNIVERSE + 2) if revision.sees(xid)}


def serves(
    level: Level, token: SessionToken | None, at: Standing, additive: bool, epoch: int
) -> bool | None:
    """Whether `at` may serve, and if so whether own writes have to be added."""
    shown = visible(at.revision)
    if level is Level.EVENTUAL:
        return False
    if at.epoch != epoch or (token is not None and token.epoch != epoch):
        return None
    if token is None:
        return False
    has_read = visible(token.read) <= shown
    has_written = visible(token.wrote) | {w.xid for w in token.writes} <= shown
    can_add = additive and visible(token.wrote) <= shown
    can_add = can_add and all(w.effects is not None for w in token.writes if w.xid not in shown)
    needed = {
        Level.READ_YOUR_WRITES: (has_written or can_add),
        Level.MONOTONIC: has_read,
        Level.CAUSAL: has_read and (has_written or can_add),
    }
    if not needed[level]:
        return None
    return level is not Level.MONOTONIC and not has_written


def specified(
    level: Level,
    token: SessionToken | None,
    standings: list[Standing],
    turn: int,
    additive: bool,
    max_age_s: float | None,
    epoch: int,
) -> Decision:
    if level is Level.LINEARIZABLE or not standings:
        return PRIMARY
    total = len(standings)
    order = sorted(range(total), key=lambda index: (index - turn) % total)
    if max_age_s is not None:
        order = [i for i in order if NOW_S - max_age_s <= standings[i].fresh_at_s]
    for index in order:
        overlay = serves(level, token, standings[index], additive, epoch)
        if overlay is not None:
            return Serve(index, overlay)
    foreign = [i for i in order if {standings[i].epoch, token.epoch if token else epoch} != {epoch}]
    return PRIMARY if foreign and level is not Level.EVENTUAL else WAIT


revisions = st.builds(
    lambda end, running: Revision.of(end, tuple(running)),
    st.integers(0, UNIVERSE),
    st.sets(st.integers(0, UNIVERSE)),
)
wrotes = st.builds(
    Wrote, st.integers(0, UNIVERSE), st.just(0), st.sampled_from([PLUS_ONE, (), None])
)
sessions = st.builds(
    lambda writes, read, wrote, epoch: session(*writes, read=read, wrote=wrote, epoch=epoch),
    st.lists(wrotes, max_size=3),
    revisions,
    revisions,
    st.sampled_from([1, 1, 1, 2]),
)
standings_ = st.builds(
    lambda revision, epoch, fresh_at_s: standing(revision, epoch=epoch, fresh_at_s=fresh_at_s),
    revisions,
    st.sampled_from([1, 1, 1, 2]),
    st.sampled_from([-math.inf, NOW_S - 3, NOW_S - 2, NOW_S - 1, NOW_S]),
)


@given(
    st.sampled_from(Level),
    st.none() | sessions,
    st.lists(standings_, max_size=4),
    st.integers(0, 9),
    st.booleans(),
    st.none() | st.sampled_from([0.0, 1.0, 2.5, math.inf]),
    st.sampled_from([1, 1, 1, 2]),
)
@example(
    Level.CAUSAL, session(epoch=2), [standing(NOTHING), standing(NOTHING, epoch=2)], 0, True, 1, 2
)
def test_the_choice_is_the_one_specified(
    level: Level,
    token: SessionToken | None,
    standings: list[Standing],
    turn: int,
    additive: bool,
    max_age_s: float | None,
    epoch: int,
) -> None:
    chosen = decide(
        level, token, *standings, turn=turn, additive=additive, max_age_s=max_age_s, epoch=epoch
    )
    assert chosen == specified(level, token, standings, turn, additive, max_age_s, epoch)


# --- each rule by itself

OWN = Wrote(5, 0, PLUS_ONE)
LATE = standing(Revision.upto(4))
WITHOUT_OWN = standing(Revision.of(9, (5,)))
UP_TO_DATE = standing(Revision.upto(9))
SESSION_LEVELS = [Level.READ_YOUR_WRITES, Level.MONOTONIC, Level.CAUSAL]


def test_eventual_takes_any_replica() -> None:
    token = session(OWN, read=Revision.upto(9), epoch=2)
    assert decide(Level.EVENTUAL, token, LATE) == Serve(0, overlay=False)


@pytest.mark.parametrize("level", [Level.READ_YOUR_WRITES, Level.CAUSAL])
def test_own_writes_wait_for_a_replica_that_sees_them(level: Level) -> None:
    assert decide(level, session(OWN), LATE) is WAIT
    assert decide(level, session(OWN), WITHOUT_OWN) is WAIT
    assert decide(level, session(OWN), LATE, UP_TO_DATE) == Serve(1, overlay=False)


@pytest.mark.parametrize("level", [Level.READ_YOUR_WRITES, Level.CAUSAL])
def test_own_writes_no_longer_listed_are_waited_for_too(level: Level) -> None:
    token = session(wrote=Revision.upto(5))
    assert decide(level, token, LATE, WITHOUT_OWN, additive=True) is WAIT
    assert decide(level, token, UP_TO_DATE, additive=True) == Serve(0, overlay=False)


@pytest.mark.parametrize("level", [Level.READ_YOUR_WRITES, Level.CAUSAL])
def test_to_a_count_own_writes_are_added_instead(level: Level) -> None:
    assert decide(level, session(OWN), LATE, additive=True) == Serve(0, overlay=True)
    assert decide(level, session(OWN), UP_TO_DATE, additive=True) == Serve(0, overlay=False)


@pytest.mark.parametrize("level", [Level.READ_YOUR_WRITES, Level.CAUSAL])
def test_own_writes_of_unknown_effect_cannot_be_added(level: Level) -> None:
    assert decide(level, session(OWN, Wrote(6, 0, None)), LATE, additive=True) is WAIT


def test_read_your_writes_does_not_ask_for_what_was_read() -> None:
    token = session(read=Revision.upto(9))
    assert decide(Level.READ_YOUR_WRITES, token, LATE) == Serve(0, overlay=False)


@pytest.mark.parametrize("level", [Level.MONOTONIC, Level.CAUSAL])
def test_what_was_read_is_never_unread(level: Level) -> None:
    token = session(read=Revision.upto(5))
    assert decide(level, token, LATE, additive=True) is WAIT
    assert decide(level, token, WITHOUT_OWN, additive=True) is WAIT
    assert decide(level, token, LATE, UP_TO_DATE) == Serve(1, overlay=False)


def test_monotonic_does_not_ask_for_own_writes() -> None:
    assert decide(Level.MONOTONIC, session(OWN), LATE, additive=True) == Serve(0, overlay=False)


def test_causal_asks_for_both() -> None:
    reads, writes = Revision.of(5, (2,)), Wrote(2, 0, None)
    assert decide(Level.CAUSAL, session(writes, read=reads), standing(reads)) is WAIT
    assert decide(Level.CAUSAL, session(writes, read=reads), standing(Revision.upto(3))) is WAIT
    assert decide(Level.CAUSAL, session(writes, read=reads), LATE) == Serve(0, overlay=False)


def test_linearizable_is_for_the_primary_alone() -> None:
    assert decide(Level.LINEARIZABLE, None, UP_TO_DATE, additive=True) is PRIMARY


@pytest.mark.parametrize("level", Level)
def test_without_replicas_there_is_only_the_primary(level: Level) -> None:
    assert decide(level, None) is PRIMARY
    assert decide(level, session(OWN), additive=True) is PRIMARY


@pytest.mark.parametrize("level", SESSION_LEVELS)
@pytest.mark.parametrize("epoch", [1, 3])
def test_a_token_of_another_epoch_goes_to_the_primary(level: Level, epoch: int) -> None:
    others = standing(Revision.upto(9), epoch=2)
    token = session(epoch=epoch)
    assert decide(level, token, others, others, additive=True, epoch=2) is PRIMARY


@pytest.mark.parametrize("level", SESSION_LEVELS)
@pytest.mark.parametrize("token", [None, session(), session(epoch=2)])
def test_a_replica_of_another_epoch_serves_eventual_alone(
    level: Level, token: SessionToken | None
) -> None:
    """It may show what the new primary has lost, and a token must not vouch for that."""
    assert decide(level, token, UP_TO_DATE, additive=True, epoch=2) is PRIMARY
    assert decide(Level.EVENTUAL, token, UP_TO_DATE, epoch=2) == Serve(0, overlay=False)


@pytest.mark.parametrize("level", SESSION_LEVELS)
@pytest.mark.parametrize("turn", range(3))
def test_while_replicas_change_epoch_one_of_the_tokens_epoch_may_serve(
    level: Level, turn: int
) -> None:
    old, new = standing(Revision.upto(9)), standing(Revision.upto(9), epoch=2)
    token = session(read=Revision.upto(8), epoch=2)
    assert decide(level, token, old, new, turn=turn, epoch=2) == Serve(1, overlay=False)


@pytest.mark.parametrize("level", [Level.EVENTUAL, *SESSION_LEVELS])
def test_a_session_that_did_nothing_takes_any_replica(level: Level) -> None:
    assert decide(level, None, standing(NOTHING)) == Serve(0, overlay=False)
    assert decide(level, session(), standing(NOTHING)) == Serve(0, overlay=False)


@pytest.mark.parametrize("level", [Level.EVENTUAL, *SESSION_LEVELS])
def test_max_age_turns_away_what_is_older_or_not_known(level: Level) -> None:
    old, young = standing(NOTHING, fresh_at_s=NOW_S - 2.1), standing(NOTHING, fresh_at_s=NOW_S - 2)
    unknown = standing(NOTHING, fresh_at_s=-math.inf)
    assert decide(level, None, unknown, old, max_age_s=2) is WAIT
    assert decide(level, None, unknown, old, young, max_age_s=2) == Serve(2, overlay=False)
    assert decide(level, None, unknown) == Serve(0, overlay=False)


def test_turns_are_shared_out_evenly() -> None:
    replicas = [UP_TO_DATE] * 3
    chosen = [decide(Level.CAUSAL, session(OWN), *replicas, turn=turn) for turn in range(6)]
    assert chosen == [Serve(i, overlay=False) for i in (0, 1, 2, 0, 1, 2)]


def test_the_turn_of_one_that_does_not_qualify_goes_to_the_next() -> None:
    replicas = [UP_TO_DATE, LATE, UP_TO_DATE]
    chosen = [decide(Level.CAUSAL, session(OWN), *replicas, turn=turn) for turn in range(4)]
    assert chosen == [Serve(i, overlay=False) for i in (0, 2, 2, 0)]


@pytest.mark.parametrize("turn", [0, 63, 64, 99])
def test_there_may_be_many_replicas(turn: int) -> None:
    assert decide(Level.EVENTUAL, None, *[LATE] * 100, turn=turn) == Serve(turn, overlay=False)
