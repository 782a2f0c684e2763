from __future__ import annotations

import base64
import inspect
import itertools
import random
import sys
from collections.abc import Callable, Iterable
from unittest import mock

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundswell import revision as module
from groundswell.errors import BadToken
from groundswell.model import Effect, Key
from groundswell.revision import (
    NO_EPOCH,
    NOTHING,
    TOKEN_CHARS_MAX,
    WRITES_LISTED,
    XID_MAX,
    Revision,
    SessionToken,
    Wrote,
)

UNIVERSE = 6
BASES = [0, 10**15]


def revision_of(visible: Iterable[int], base: int = 0) -> Revision:
    """The one canonical revision that sees all ids below `base`, and base + those given."""
    seen = set(visible)
    end = max(seen, default=-1) + 1
    missing = tuple(base + xid for xid in range(end) if xid not in seen)
    return Revision(missing[0] if missing else base + end, base + end, missing)


def subsets(size: int = UNIVERSE) -> list[frozenset[int]]:
    ids = range(size)
    return [frozenset(s) for n in range(size + 1) for s in itertools.combinations(ids, n)]


ALL = [(seen, revision_of(seen)) for seen in subsets()]


# --- revisions


@pytest.mark.parametrize("base", BASES)
def test_a_revision_sees_exactly_the_ids_it_was_made_of(base: int) -> None:
    for end in range(UNIVERSE + 1):
        for running in subsets():
            made = Revision.of(base + end, tuple(base + xid for xid in running))
            seen = {xid for xid in range(UNIVERSE + 2) if made.sees(base + xid)}
            assert seen == set(range(end)) - running
            assert base == 0 or made.sees(base - 1)


@pytest.mark.parametrize("base", BASES)
def test_equal_sets_are_equal_values(base: int) -> None:
    for end in range(UNIVERSE + 1):
        for running in subsets():
            made = Revision.of(base + end, tuple(base + xid for xid in running))
            assert made == revision_of(set(range(end)) - running, base)


def test_different_sets_are_different_values() -> None:
    assert len({revision for _, revision in ALL}) == len(ALL)


def test_running_ids_may_come_in_any_order_repeated_and_out_of_range() -> None:
    assert Revision.of(6, (4, 2, 2, 9, -1, 6)) == Revision(2, 6, (2, 4))


@pytest.mark.parametrize("base", BASES)
def test_includes_is_set_inclusion(base: int) -> None:
    all_ = [(seen, revision_of(seen, base)) for seen in subsets()]
    for (mine, here), (theirs, there) in itertools.product(all_, all_):
        assert here.includes(there) == (mine >= theirs), (str(here), str(there))


@pytest.mark.parametrize("base", BASES)
def test_merge_is_the_set_union_in_its_smallest_form(base: int) -> None:
    all_ = [(seen, revision_of(seen, base)) for seen in subsets()]
    for (mine, here), (theirs, there) in itertools.product(all_, all_):
        assert here.merge(there) == revision_of(mine | theirs, base), (str(here), str(there))


def test_inclusion_does_not_follow_from_the_upper_ends_alone() -> None:
    assert not Revision.of(10, (4,)).includes(Revision.of(9))
    assert Revision.of(9).includes(Revision.of(9, (4,)))


def test_comparing_with_a_far_larger_revision_is_cheap() -> None:
    assert not Revision.upto(3).includes(Revision.of(XID_MAX))
    assert Revision.upto(3).merge(Revision.of(XID_MAX, (2,))) == Revision.of(XID_MAX)


def test_upto_sees_everything_up_to_an_id() -> None:
    for xid in range(UNIVERSE):
        assert Revision.upto(xid) == revision_of(range(xid + 1))


def test_nothing_is_the_empty_set() -> None:
    assert revision_of(()) == NOTHING
    assert not NOTHING.sees(0)


def test_it_is_written_as_a_pg_snapshot() -> None:
    assert str(Revision.of(20, (10, 14))) == "10:20:10,14"
    assert str(Revision.upto(7)) == "8:8:"


def test_only_the_canonical_form_passes_as_such() -> None:
    canonical = {revision_of(seen) for seen in subsets(4)}
    fields = range(5)
    running = [t for n in range(4) for t in itertools.product(fields, repeat=n)]
    for xmin, xmax, xip in itertools.product(fields, fields, running):
        revision = Revision(xmin, xmax, xip)
        assert revision.is_canonical == (revision in canonical), str(revision)


# --- session tokens

KEYS: list[Key] = [("like", 1), ("like", 2), ("review", "a")]


def token(
    *writes: Wrote, read: Revision = NOTHING, wrote: Revision = NOTHING, epoch: int = 1
) -> SessionToken:
    return SessionToken(store="s", epoch=epoch, read=read, wrote=wrote, writes=writes)


def effects_of(xid: int, slot: int) -> tuple[Effect, ...]:
    """What the write at this place did: the same whoever lists it."""
    draw = random.Random(xid * 7 + slot)
    return tuple(
        Effect(*key, draw.choice([-1, 0, 1, 5]), draw.choice([0, 3]))
        for key in draw.sample(KEYS, draw.randrange(3))
    )


small_revisions = st.sets(st.integers(0, UNIVERSE - 1)).map(revision_of)
places = st.tuples(st.integers(0, UNIVERSE - 1), st.integers(0, 1))


@st.composite
def small_tokens(draw: st.DrawFn) -> SessionToken:
    """Tokens over a universe so small that every revision in it can be tried."""
    listed = draw(st.dictionaries(places, st.booleans(), max_size=5))
    writes = (
        Wrote(xid, slot, effects_of(xid, slot) if kept else None)
        for (xid, slot), kept in sorted(listed.items())
    )
    return token(*writes, read=draw(small_revisions), wrote=draw(small_revisions))


xids = st.integers(0, XID_MAX - 1)
ids = st.one_of(st.integers(-(2**63), 2**63 - 1), st.text(max_size=40))
effects = st.builds(
    Effect, st.text(max_size=32), ids, st.integers(-(2**40), 2**40), st.integers(-(2**40), 2**40)
)
revisions = st.builds(
    Revision.of, st.integers(0, XID_MAX), st.lists(xids, max_size=200).map(tuple)
) | st.builds(
    lambda first, size, kept: Revision.of(
        first + size, tuple(xid for xid in range(first, first + size) if xid % kept)
    ),
    st.integers(0, 2**62),
    st.integers(0, 600),
    st.integers(1, 4),
)
written = st.lists(
    st.builds(Wrote, xids, st.integers(0, 2**31), st.none() | st.lists(effects).map(tuple)),
    max_size=30,
) | st.builds(lambda first, n: [Wrote(first + i, 0, None) for i in range(n)], xids, st.just(300))
tokens = st.builds(
    lambda store, epoch, read, wrote, writes: SessionToken(
        store=store,
        epoch=epoch,
        read=read,
        wrote=wrote,
        writes=tuple(sorted((w for w in writes if w.xid < XID_MAX), key=lambda w: (w.xid, w.slot))),
    ),
    st.text(max_size=40),
    xids,
    revisions,
    revisions,
    written,
)


def raw(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def text_of(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@given(tokens)
def test_a_token_is_never_longer_than_its_limit_and_can_always_be_read_back(
    full: SessionToken,
) -> None:
    text = full.encode()
    assert len(text) <= TOKEN_CHARS_MAX
    back = SessionToken.decode(text)
    assert (back.store, back.epoch) == (full.store, full.epoch)
    assert back.encode() == text


@given(small_tokens())
def test_what_fits_comes_back_unchanged(small: SessionToken) -> None:
    assert SessionToken.decode(small.encode()) == small


def test_effects_are_dropped_first() -> None:
    long = "x" * 128
    full = token(*(Wrote(xid, 0, (Effect("like", long, 1),)) for xid in range(10)))
    assert SessionToken.decode(full.encode()) == token(*(Wrote(xid, 0, None) for xid in range(10)))


def test_then_the_writes_are_folded_into_a_revision_that_sees_them() -> None:
    full = token(*(Wrote(10**6 + xid, 0, ()) for xid in range(300)), read=Revision.of(9, (3,)))
    back = SessionToken.decode(full.encode())
    assert back == token(read=Revision.of(9, (3,)), wrote=Revision.upto(10**6 + 299))


def test_last_of_all_the_lists_of_running_transactions_are_dropped() -> None:
    running = tuple(range(10**6, 10**6 + 1000, 2))
    full = token(read=Revision.of(10**6 + 1000, running), wrote=Revision.of(10**6 + 900, running))
    back = SessionToken.decode(full.encode())
    assert back == token(read=Revision.of(10**6 + 1000), wrote=Revision.of(10**6 + 900))


@given(small_tokens(), st.integers(1, 60))
def test_a_degraded_token_never_asks_for_less(full: SessionToken, chars_max: int) -> None:
    with mock.patch.object(module, "TOKEN_CHARS_MAX", chars_max):
        text = full.encode()
    degraded = SessionToken.decode(text)
    for _, state in ALL:
        if degraded.sees_writes(state):
            assert full.sees_writes(state)
        if state.includes(degraded.read):
            assert state.includes(full.read)
        if degraded.overlays(state):
            assert full.overlays(state)
            assert degraded.pending(state) == full.pending(state)


@given(small_tokens())
def test_a_degraded_token_speaks_of_no_later_transaction(full: SessionToken) -> None:
    with mock.patch.object(module, "TOKEN_CHARS_MAX", 1):
        text = full.encode()
    degraded = SessionToken.decode(text)
    for end in range(UNIVERSE + 2):
        assert degraded.claims_beyond(Revision.of(end)) == full.claims_beyond(Revision.of(end))


@given(small_tokens(), small_tokens())
def test_a_merged_token_covers_both_and_nothing_more(a: SessionToken, b: SessionToken) -> None:
    merged = a.merge(b)
    for _, state in ALL:
        assert merged.sees_writes(state) == (a.sees_writes(state) and b.sees_writes(state))
        assert state.includes(merged.read) == (state.includes(a.read) and state.includes(b.read))
        assert not merged.overlays(state) or state.includes(a.wrote.merge(b.wrote))


@given(small_tokens(), small_tokens())
def test_merging_is_the_same_in_both_orders(a: SessionToken, b: SessionToken) -> None:
    assert a.merge(b) == b.merge(a)


@given(small_tokens(), small_tokens())
def test_merging_again_changes_nothing(a: SessionToken, b: SessionToken) -> None:
    merged = a.merge(b)
    assert a.merge(a) == a
    assert merged.merge(a) == merged.merge(b) == merged


def test_merging_keeps_the_effects_that_one_of_them_still_lists() -> None:
    kept, dropped = Wrote(3, 0, (Effect("like", 1, 1),)), Wrote(3, 0, None)
    assert token(dropped).merge(token(kept)).writes == (kept,)
    assert token(kept).merge(token(dropped)).writes == (kept,)


def test_two_writes_that_shared_a_transaction_are_both_kept() -> None:
    mine, yours = Wrote(3, 0, (Effect("like", 1, 1),)), Wrote(3, 1, (Effect("like", 1, 1),))
    merged = token(yours).merge(token(mine))
    assert merged.writes == (mine, yours)
    assert merged.pending(NOTHING) == {("like", 1): (2, 0)}


def test_tokens_of_different_stores_do_not_merge() -> None:
    with pytest.raises(BadToken, match="different stores"):
        token().merge(SessionToken(store="other", epoch=1))


def test_a_token_of_two_epochs_is_one_that_no_replica_can_prove() -> None:
    old = token(Wrote(90, 0), read=Revision.upto(99), epoch=1)
    new = token(Wrote(5, 0), read=Revision.upto(7), epoch=2)
    both = token(epoch=NO_EPOCH)
    assert old.merge(new) == new.merge(old) == both
    assert both.merge(new) == new.merge(both) == both.merge(both) == both


def listed(full: SessionToken, write: Wrote, limit: int = 2) -> SessionToken:
    with mock.patch.object(module, "WRITES_LISTED", limit):
        return full.after(write)


@given(small_tokens(), places)
def test_after_a_write_the_token_asks_for_it_too(
    full: SessionToken, place: tuple[int, int]
) -> None:
    after = listed(full, Wrote(*place, effects_of(*place)))
    for _, state in ALL:
        if after.sees_writes(state):
            assert full.sees_writes(state)
            assert state.sees(place[0])
        if state.includes(full.read) and full.sees_writes(state) and state.sees(place[0]):
            assert after.sees_writes(state)


@given(small_tokens(), places)
def test_a_write_is_pending_until_it_is_seen(full: SessionToken, place: tuple[int, int]) -> None:
    after = listed(full, Wrote(*place, effects_of(*place)))
    for _, state in ALL:
        if after.overlays(state):
            unseen = [w for w in (*full.writes, after.writes[-1]) if not state.sees(w.xid)]
            expected: dict[Key, tuple[int, int]] = {}
            for effect in (effect for w in unseen for effect in w.effects or ()):
                count, sum_ = expected.get((effect.kind, effect.target), (0, 0))
                moved = count + effect.count, sum_ + effect.sum
                expected[effect.kind, effect.target] = moved
            assert after.pending(state) == expected


def test_many_writes_that_were_read_back_are_no_longer_listed() -> None:
    session = token()
    for xid in range(1, 200):
        session = session.after(Wrote(xid, 0, (Effect("like", xid, 1),))).saw(Revision.upto(xid))
        assert len(session.writes) <= WRITES_LISTED
        assert session.sees_writes(Revision.upto(xid))
        assert not session.sees_writes(Revision.of(xid + 1, (xid,)))
        assert not session.sees_writes(Revision.of(xid + 1, (1,)))


def test_many_writes_that_were_not_read_back_stay_listed() -> None:
    session = token()
    for xid in range(1, 2 * WRITES_LISTED):
        session = session.after(Wrote(xid, 0, (Effect("like", 1, 1),)))
    assert session.pending(NOTHING) == {("like", 1): (2 * WRITES_LISTED - 1, 0)}


@given(small_tokens(), small_revisions)
def test_what_was_read_is_asked_for_and_nothing_else(full: SessionToken, state: Revision) -> None:
    after = full.saw(state)
    assert after.read == full.read.merge(state)
    assert (after.wrote, after.writes) == (full.wrote, full.writes)


def test_reading_what_is_known_keeps_the_very_token() -> None:
    session = token(read=Revision.upto(9))
    assert session.saw(Revision.upto(4)) is session


@given(small_tokens(), small_revisions)
def test_a_write_that_was_there_already_counts_as_read_and_written(
    full: SessionToken, state: Revision
) -> None:
    after = full.found(state)
    assert after.read == full.read.merge(state)
    assert after.wrote == full.wrote.merge(state)
    assert after.writes == full.writes


@given(small_tokens(), st.integers(0, UNIVERSE + 1))
def test_claims_beyond_is_true_of_what_cannot_have_begun(full: SessionToken, end: int) -> None:
    spoken_of = {w.xid for w in full.writes} | {
        xid for xid in range(UNIVERSE) if full.read.sees(xid) or full.wrote.sees(xid)
    }
    assert full.claims_beyond(Revision.of(end)) == any(xid >= end for xid in spoken_of)


def test_a_state_overlays_only_where_the_effects_of_all_it_lacks_are_known() -> None:
    known, unknown = Wrote(3, 0, (Effect("like", 1, 1),)), Wrote(4, 0, None)
    assert token(known).overlays(NOTHING)
    assert not token(known, unknown).overlays(Revision.upto(3))
    assert token(known, unknown).overlays(Revision.of(5, (3,)))
    assert not token(known, wrote=Revision.upto(1)).overlays(NOTHING)


# --- malformed tokens

SAMPLE = token(
    Wrote(12, 0, (Effect("like", 42, 1), Effect("review", "a", 1, 5))),
    Wrote(13, 1, None),
    read=Revision.of(20, (14, 17)),
    wrote=Revision.upto(9),
)


def accepts(text: str) -> SessionToken | None:
    """The token, if it is one; what is accepted must be usable in every way."""
    try:
        session = SessionToken.decode(text)
    except BadToken:
        return None
    more = session.merge(session).after(Wrote(1, 0, ())).saw(Revision.upto(2))
    more.pending(NOTHING)
    more.claims_beyond(more.found(Revision.upto(3)).wrote)
    assert SessionToken.decode(more.encode()).store == session.store
    with mock.patch.object(module, "TOKEN_CHARS_MAX", 1):
        folded = more.encode()
    assert len(folded) > TOKEN_CHARS_MAX or SessionToken.decode(folded)
    return session


@given(st.text())
def test_arbitrary_text_is_a_bad_token(text: str) -> None:
    assert accepts(text) is None


@pytest.mark.parametrize("text", ["", "A", "AQ", "%%%", "\ud800", "é", "AQ==\n", "null", " "])
def test_garbage_is_a_bad_token(text: str) -> None:
    assert accepts(text) is None


@given(st.binary(max_size=200))
def test_arbitrary_bytes_never_raise_anything_else(tail: bytes) -> None:
    accepts(text_of(b"\x01" + tail))


def test_a_token_cut_at_any_length_is_bad() -> None:
    text = SAMPLE.encode()
    for length in range(len(text)):
        assert accepts(text[:length]) is None


@given(st.data())
def test_flipped_bytes_never_raise_anything_else(data: st.DataObject) -> None:
    changed = bytearray(raw(SAMPLE.encode()))
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    accepts(text_of(bytes(changed)))


@given(st.data())
def test_changed_characters_never_raise_anything_else(data: st.DataObject) -> None:
    text = SAMPLE.encode()
    place = data.draw(st.integers(0, len(text) - 1))
    accepts(text[:place] + data.draw(st.characters()) + text[place + 1 :])


nested = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=6),
    max_leaves=20,
)


@given(st.lists(nested, max_size=6))
def test_other_contents_never_raise_anything_else(contents: list[object]) -> None:
    accepts(text_of(b"\x01" + msgspec.msgpack.encode(contents)))


def forged(
    *,
    store: object = "s",
    epoch: object = 1,
    read: object = (0, 0, []),
    wrote: object = (0, 0, []),
    writes: object = (),
) -> str:
    return text_of(b"\x01" + msgspec.msgpack.encode([store, epoch, read, wrote, writes]))


def test_the_forger_can_write_a_good_one() -> None:
    assert accepts(forged(read=(2, 5, [2, 3]), writes=[(7, 0, [])])) is not None


@pytest.mark.parametrize(
    "read",
    [
        (-1, 0, []),
        (0, 2**63, []),
        (2**64 - 1, 2**64 - 1, []),
        (3, 2, []),
        (1, 5, []),
        (2, 5, [3]),
        (2, 5, [2, 2]),
        (2, 5, [3, 2]),
        (2, 5, [2, 4]),
        (2, 5, [2, 7]),
        (2, 5, [-2]),
        (2.5, 5, []),
        ("2", 5, []),
        (True, 5, []),
        (None, None, None),
        (0,),
        [],
        {},
    ],
)
def test_an_impossible_revision_is_a_bad_token(read: object) -> None:
    assert accepts(forged(read=read)) is None
    assert accepts(forged(wrote=read)) is None


@pytest.mark.parametrize(
    "write",
    [
        (-1, 0, []),
        (2**63 - 1, 0, []),
        (2**64 - 1, 0, []),
        (1, -1, []),
        (1, 2**31 + 1, []),
        (1, 0, [("like", 1)]),
        (1, 0, [("like", 1.5, 1)]),
        (1, 0, [(3, 1, 1)]),
        (1, 0, 7),
        (1,),
        7,
    ],
)
def test_an_impossible_write_is_a_bad_token(write: object) -> None:
    assert accepts(forged(writes=[write])) is None


@pytest.mark.parametrize("epoch", [-1, 2**63, 1.0, "1", None])
def test_an_impossible_epoch_is_a_bad_token(epoch: object) -> None:
    assert accepts(forged(epoch=epoch)) is None


@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_version_is_a_bad_token(version: int) -> None:
    with pytest.raises(BadToken, match="another version"):
        SessionToken.decode(text_of(bytes([version]) + raw(SAMPLE.encode())[1:]))


def test_a_token_over_the_limit_is_bad() -> None:
    with pytest.raises(BadToken, match="1025 characters"):
        SessionToken.decode("A" * (TOKEN_CHARS_MAX + 1))


def test_announcing_more_than_is_there_takes_no_memory() -> None:
    good = raw(forged())
    for size in (2**16, 2**32 - 1):
        assert accepts(text_of(good[:-1] + b"\xdd" + size.to_bytes(4, "big"))) is None


def test_nesting_without_end_is_no_crash_however_deep_the_caller_stands() -> None:
    bomb = text_of(b"\x01\x96" + raw(forged())[2:] + b"\x91" * 700 + b"\xc0")

    def deeper(levels: int, call: Callable[[], object]) -> object:
        return deeper(levels - 1, call) if levels else call()

    here = len(inspect.stack(0))
    for spare in (120, 300, 600):
        deeper(max(0, sys.getrecursionlimit() - here - spare), lambda: accepts(bomb))
