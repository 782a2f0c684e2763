"""Session tokens over the end of an epoch: nothing that a session knew is forgotten."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from groundswell.consistency import Elsewhere, Level, Serve, Standing, choose
from groundswell.errors import BadToken
from groundswell.model import Effect
from groundswell.revision import NOTHING, Revision, SessionToken, Wrote
from groundswell.store import Changed, Committed, Store
from groundswell.tokens import Tokens

EPOCH = 2
PRIMARY = Revision.upto(50)  # after the failover: it has all that is left of the epoch before
LATE = Revision.upto(40)  # of a replica in this epoch, which still lacks some of that
LEVELS = [level for level in Level if level is not Level.EVENTUAL]


def tokens() -> Tokens:
    return Tokens(cast(Store, SimpleNamespace(identity="s", epoch=EPOCH)))


def session(epoch: int, **known: Any) -> SessionToken:
    return SessionToken(store="s", epoch=epoch, **known)


OLD = session(1, writes=(Wrote(45, 0, (Effect("like", 1, 1),)),), read=Revision.upto(45))


def chosen(level: Level, token: SessionToken, revision: Revision) -> Serve | Elsewhere:
    """Who serves a count, where there is one replica."""
    at = Standing(EPOCH, 7, revision, 0.0)
    return choose(level, token, [at], epoch=EPOCH, turn=0, now_s=0.0, additive=True)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("asked", LEVELS)
def test_after_a_read_of_an_old_session_no_replica_serves_less_than_the_primary_showed(
    asked: Level, level: Level
) -> None:
    assert chosen(asked, OLD, LATE) is Elsewhere.PRIMARY
    text = tokens().after_read(asked, OLD, PRIMARY)
    assert text is not None
    token = SessionToken.decode(text)
    assert token.epoch == EPOCH
    assert not isinstance(chosen(level, token, LATE), Serve)
    if level is not Level.LINEARIZABLE:
        assert chosen(level, token, PRIMARY) == Serve(0, overlay=False)


@pytest.mark.parametrize("level", LEVELS)
def test_after_a_write_of_an_old_session_its_earlier_ones_are_not_forgotten(level: Level) -> None:
    seen = Revision.upto(51)
    committed = Committed((Changed(True),), 51, 0, (Effect("like", 1, 1),), seen)
    token = SessionToken.decode(tokens().after_write(OLD, committed))
    assert token.epoch == EPOCH
    assert not isinstance(chosen(level, token, LATE), Serve)
    assert not isinstance(chosen(level, token, PRIMARY), Serve), "which lacks the write"
    if level is not Level.LINEARIZABLE:
        assert chosen(level, token, seen) == Serve(0, overlay=False)


@pytest.mark.parametrize("level", LEVELS)
def test_a_token_handed_over_from_a_newer_epoch_does_not_replace_what_was_written_before(
    level: Level,
) -> None:
    newer = session(EPOCH, read=LATE)
    for merged in (OLD.merge(newer), newer.merge(OLD), newer.merge(OLD).merge(newer)):
        assert chosen(level, merged, LATE) is Elsewhere.PRIMARY
        text = tokens().after_read(level, merged, PRIMARY)
        assert text is not None
        assert not isinstance(chosen(level, SessionToken.decode(text), LATE), Serve)


def test_a_token_of_this_epoch_asks_for_no_more_than_it_knew() -> None:
    mine = session(EPOCH, writes=(Wrote(30, 0, None),))
    text = tokens().after_read(Level.CAUSAL, mine, LATE)
    assert text is not None
    token = SessionToken.decode(text)
    assert (token.read, token.wrote, token.writes) == (LATE, NOTHING, mine.writes)


def test_eventual_reads_leave_an_old_token_as_it_is() -> None:
    assert tokens().after_read(Level.EVENTUAL, OLD, PRIMARY) == OLD.encode()


@pytest.mark.parametrize("form", ["{other}", " {other} ", "{mine},{other}", "{other}, {mine}"])
def test_a_token_of_another_store_is_refused_each_time(form: str) -> None:
    mine = session(EPOCH).encode()
    other = SessionToken(store="t", epoch=EPOCH).encode()
    kept = tokens()
    assert kept.decode(mine) == session(EPOCH)
    for _ in range(2):
        with pytest.raises(BadToken, match="another store"):
            kept.decode(form.format(mine=mine, other=other))


def test_several_tokens_are_one_and_spaces_around_them_are_nothing() -> None:
    one = session(EPOCH, read=Revision.upto(45))
    other = session(EPOCH, writes=(Wrote(47, 0, (Effect("like", 1, 1),)),))
    found = tokens().decode(f" {one.encode()} , {other.encode()}")
    assert found == one.merge(other)
