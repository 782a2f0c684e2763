from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundswell import sse
from groundswell.sse import Message, Parser, encode

EVENTS = [Message("1-5", "counts", b'{"a":1}'), Message("1-6", "counts", b"{}")]
TEXT = sse.ALIVE + b"".join(encode(m.id, m.event, m.data) + sse.ALIVE for m in EVENTS)


def test_an_event_is_three_lines_and_an_empty_one() -> None:
    assert encode("1-5", "counts", b"{}") == b"id: 1-5\nevent: counts\ndata: {}\n\n"


@given(st.lists(st.integers(0, len(TEXT))), st.sampled_from([b"\n", b"\r\n"]))
def test_events_come_out_as_they_went_in_however_they_are_cut(cuts: list[int], end: bytes) -> None:
    text = TEXT.replace(b"\n", end)
    places = [0, *sorted(cuts), len(text)]
    parser = Parser()
    parts = [text[a:b] for a, b in itertools.pairwise(places)]
    assert [message for part in parts for message in parser.feed(part)] == EVENTS


def test_what_is_no_event_of_ours_is_passed_over() -> None:
    text = b"retry: 5\n\nid:7\ndata:x\n\nid: 8\n\n"
    assert list(Parser().feed(text)) == [Message("7", "message", b"x")]


def test_an_event_without_an_end_does_not_fill_the_memory() -> None:
    parser = Parser()
    with pytest.raises(ValueError, match="without an end"):
        for _ in range(100):
            list(parser.feed(b"x" * 100_000))
