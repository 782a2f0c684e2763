from __future__ import annotations

import gzip
import os
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from groundswell.demo.trace import (
    Action,
    Message,
    TraceError,
    read_threads,
    read_trace,
    write_trace,
)

DATA = Path(os.environ.get("GROUNDSWELL_DATA") or Path(__file__).parents[3] / "shared" / "data")
HIGGS_LOG = DATA / "higgs-activity_time.txt.gz"
REDDIT_CSV = DATA / "reddit_ireland_events.csv.gz"
WINDOW_SINCE, WINDOW_UNTIL = 1341374400, 1341403200

HEADER = "t,kind,target,source,op"
CSV_ROW = "5,like,1,2,add"
HIGGS_ROW = "7 8 1341100972 RT"
THREADS_HEADER = "id,parent_id,discussion,t"


def real(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"needs {path.name}, looked for in $GROUNDSWELL_DATA and beside the checkout")
    return path


def written(folder: Path, *lines: str) -> Path:
    path = folder / "trace"
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return path


def edges(actions: list[Action]) -> set[tuple[int | str, int | str]]:
    return {(action.target, action.source) for action in actions}


# --- the Higgs log


@pytest.mark.parametrize(
    ("activity", "rows", "distinct"),
    [("RT", 354_930, 328_132), ("MT", 171_237, 150_818), ("RE", 36_902, 32_523)],
)
def test_the_real_log_has_the_published_figures(activity: str, rows: int, distinct: int) -> None:
    actions = read_trace(real(HIGGS_LOG), only=activity)
    assert len(actions) == rows
    assert len(edges(actions)) == distinct


def test_the_hottest_accounts_of_the_real_log() -> None:
    popularity = Counter(target for target, _ in edges(read_trace(real(HIGGS_LOG), only="RT")))
    assert popularity.most_common(5) == [
        (88, 14_060),
        (14454, 6_190),
        (677, 5_613),
        (1988, 4_335),
        (349, 2_802),
    ]


def test_all_rows_of_the_real_log_are_adds_of_likes_in_order_of_time() -> None:
    actions = read_trace(real(HIGGS_LOG))
    assert len(actions) == 563_069
    assert {(action.kind, action.op) for action in actions} == {("like", "add")}
    assert all(a.t <= b.t for a, b in pairwise(actions))
    assert actions[0] == Action(1341100972.0, "like", target=213163, source=223789, op="add")


def test_the_window_of_the_spike() -> None:
    log = real(HIGGS_LOG)
    everything = read_trace(log, since=WINDOW_SINCE, until=WINDOW_UNTIL)
    assert len(everything) == 203_577
    per_second = Counter(action.t for action in everything)
    per_minute = Counter(action.t // 60 for action in everything)
    assert (max(per_second.values()), max(per_minute.values())) == (55, 1_096)
    retweets = read_trace(log, since=WINDOW_SINCE, until=WINDOW_UNTIL, only="RT")
    assert len(retweets) == 133_069
    assert len(edges(retweets)) == 119_732


def test_since_is_kept_and_until_is_not(tmp_path: Path) -> None:
    path = written(tmp_path, *(f"1 2 {t} RT" for t in (10, 11, 12, 13)))
    assert [action.t for action in read_trace(path, since=11, until=13)] == [11, 12]


def test_only_keeps_one_activity_and_a_retweeter_is_the_source(tmp_path: Path) -> None:
    path = written(tmp_path, "1 2 10 RT", "3 4 10 MT", "3 4 10 RE")
    assert read_trace(path, only="MT") == [Action(10.0, "like", target=4, source=3, op="add")]


def test_a_higgs_log_has_no_other_activities(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"one of RT, MT, RE .* found 'like'"):
        read_trace(written(tmp_path, HIGGS_ROW), only="like")


@pytest.mark.parametrize(
    "bad",
    [
        "7 8 1341100972",
        "7 8 1341100972 RT 9",
        "7 8 1341100972 XX",
        "7 8 1341100972 rt",
        "7 8 13411.5 RT",
        "-7 8 1341100972 RT",
        "seven 8 1341100972 RT",
        "7  8 1341100972 RT",
        "7 8 1341100972 RT ",
        "\N{ARABIC-INDIC DIGIT SEVEN} 8 1341100972 RT",
        "7\t8\t1341100972\tRT",
        "9" * 5000 + " 8 1341100972 RT",
    ],
)
@pytest.mark.parametrize("after", [(), (HIGGS_ROW,)])
def test_a_malformed_line_of_a_higgs_log_is_named(
    tmp_path: Path, bad: str, after: tuple[str, ...]
) -> None:
    path = written(tmp_path, HIGGS_ROW, HIGGS_ROW, bad, *after)
    with pytest.raises(TraceError, match="userA userB unix_ts KIND") as caught:
        read_trace(path, until=0)
    assert (caught.value.path, caught.value.line) == (path, 3)
    assert str(path) in str(caught.value)
    assert "line 3" in str(caught.value)
    assert repr(bad[:80]) in str(caught.value)


# --- Groundswell's CSV


ACTIONS = [
    Action(1341374400.0, "like", 1, 2, "add"),
    Action(1341374400.0, "like", 1, 2, "remove"),
    Action(1341374400.125, "view", 'a photo, "quoted"', 2, "tally"),
    Action(1341374401.1, "follow", "007", "Zoë", "add"),
    Action(1341374402.3333333, "review", 0, -5, "add"),
    Action(1341374403.0, "reply", "f1b6c2a0-0000-4000-8000-000000000000", " ", "add"),
]


@pytest.mark.parametrize("name", ["trace.csv", "trace.csv.gz"])
def test_what_is_written_is_read_again(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_trace(path, ACTIONS)
    assert read_trace(path) == ACTIONS
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == name.endswith(".gz")


def test_the_same_actions_give_the_same_bytes(tmp_path: Path) -> None:
    paths = [tmp_path / "one.csv.gz", tmp_path / "two.csv.gz"]
    for path in paths:
        write_trace(path, iter(ACTIONS))
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_the_csv_is_plain_to_read_and_write_by_hand(tmp_path: Path) -> None:
    write_trace(tmp_path / "trace.csv", [Action(5, "like", 1, 2, "add")])
    assert (tmp_path / "trace.csv").read_text() == "t,kind,target,source,op\n5.0,like,1,2,add\n"


def test_a_trace_without_actions_is_a_header(tmp_path: Path) -> None:
    write_trace(tmp_path / "trace.csv", [])
    assert read_trace(tmp_path / "trace.csv") == []


def test_line_ends_and_byte_order_mark_of_spreadsheets_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(f"\ufeff{HEADER}\r\n{CSV_ROW}\r\n".encode())
    assert read_trace(path) == [Action(5.0, "like", 1, 2, "add")]


def test_actions_come_sorted_and_at_the_same_time_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, HEADER, "9,like,1,3,add", "5,like,1,2,add", "5,like,1,2,remove")
    assert [(action.t, action.op) for action in read_trace(path)] == [
        (5, "add"),
        (5, "remove"),
        (9, "add"),
    ]


def test_only_keeps_one_kind(tmp_path: Path) -> None:
    write_trace(tmp_path / "trace.csv", ACTIONS)
    assert read_trace(tmp_path / "trace.csv", only="view") == [ACTIONS[2]]


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        ("5,like,1,2", HEADER),
        ("5,like,1,2,add,6", HEADER),
        ("soon,like,1,2,add", "as t"),
        ("nan,like,1,2,add", "as t"),
        ("5,,1,2,add", "as kind"),
        ("5,like,,2,add", "as target"),
        ("5,like,1,,add", "as source"),
        (f"5,like,1,{'x' * 129},add", "as source"),
        ("5,like,1,a\tb,add", "as source"),
        ("5,like,1,2,drop", "as op"),
        ('5,like,1,"2,add', "CSV"),
    ],
)
def test_a_malformed_line_of_the_csv_is_named(tmp_path: Path, bad: str, expected: str) -> None:
    path = written(tmp_path, HEADER, CSV_ROW, bad)
    with pytest.raises(TraceError, match=f"line 3: expected .*{expected}") as caught:
        read_trace(path, only="view")
    assert (caught.value.path, caught.value.line) == (path, 3)


@pytest.mark.parametrize(
    "bad",
    [
        Action(float("nan"), "like", 1, 2, "add"),
        Action(5.0, "like", "two\nlines", 2, "add"),
        Action(5.0, "like", 1, "\ud800", "add"),
        Action(5.0, "like", 1, 2, "drop"),
    ],
)
def test_an_action_that_could_not_be_read_back_is_not_written(tmp_path: Path, bad: Action) -> None:
    path = tmp_path / "trace.csv"
    with pytest.raises(TraceError, match="line 3: expected"):
        write_trace(path, [ACTIONS[0], bad])
    assert not path.exists()


# --- files that are no trace


@pytest.mark.parametrize("rows", [(HEADER, CSV_ROW, CSV_ROW), (HIGGS_ROW, HIGGS_ROW, HIGGS_ROW)])
def test_empty_lines_end_a_file_but_do_not_stand_within(
    tmp_path: Path, rows: tuple[str, str, str]
) -> None:
    assert read_trace(written(tmp_path, *rows, "", "")) == read_trace(written(tmp_path, *rows))
    with pytest.raises(TraceError, match=r"line 3: expected .* found ''"):
        read_trace(written(tmp_path, *rows[:2], "", rows[2]))


def test_a_file_in_neither_format_is_refused_with_both_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=f"line 1: .*{HEADER}.*userA userB") as caught:
        read_trace(written(tmp_path, "t;kind;target;source;op"))
    assert caught.value.line == 1


@pytest.mark.parametrize("read", [read_trace, read_threads])
def test_an_empty_file_is_no_trace(tmp_path: Path, read: object) -> None:
    assert callable(read)
    with pytest.raises(TraceError, match="line 1: expected"):
        read(written(tmp_path))


@pytest.mark.parametrize("read", [read_trace, read_threads])
def test_files_that_cannot_be_read_are_named(tmp_path: Path, read: object) -> None:
    assert callable(read)
    whole = gzip.compress(f"{HEADER}\n{CSV_ROW}\n".encode())
    cases = {
        "missing": (None, "cannot be read"),
        "cut short": (whole[:-12], "expected a complete gzip file"),
        "damaged": (whole[:12] + b"\xff\xff\xff" + whole[15:], "expected a complete gzip file"),
        "only the magic": (whole[:2], "expected a complete gzip file"),
        "not text": (b"1 2\n3 \xff\n", "line 2: expected text in UTF-8"),
    }
    for name, (content, problem) in cases.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(TraceError, match=problem) as caught:
            read(path)
        assert caught.value.path == path
    with pytest.raises(TraceError, match="cannot be read"):
        read(tmp_path)


def test_a_folder_that_is_not_there_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="cannot be written"):
        write_trace(tmp_path / "absent" / "trace.csv", ACTIONS)


# --- discussions


def test_the_real_discussions_have_the_published_figures() -> None:
    messages = read_threads(real(REDDIT_CSV))
    assert len(messages) == 117_787
    assert sum(1 for message in messages if message.parent) == 79_171
    seen = {0}
    for message in messages:
        assert message.parent in seen
        seen.add(message.id)


def test_parents_come_before_replies_whatever_the_order_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, THREADS_HEADER, "3,2,d,30", "2,1,d,20", "4,1,d,20", "1,0,d,10.5")
    assert read_threads(path) == [
        Message(10.5, 1, 0, "d"),
        Message(20.0, 2, 1, "d"),
        Message(20.0, 4, 1, "d"),
        Message(30.0, 3, 2, "d"),
    ]


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ("2,9,1,20", "parent of message 2 .* found '9'"),
        ("2,1,1,10", "strictly earlier"),
        ("2,1,1,5", "strictly earlier"),
        ("2,2,1,20", "strictly earlier"),
        ("1,0,1,20", "each id once"),
        ("0,1,1,20", "id other than 0"),
        ("two,1,1,20", "whole number as id"),
        ("2,,1,20", "whole number as parent_id"),
        ("2,1,,20", "as discussion"),
        ("2,1,1,late", "as t"),
        ("2,1,1", THREADS_HEADER),
    ],
)
def test_a_discussion_that_cannot_be_is_refused(tmp_path: Path, bad: str, problem: str) -> None:
    path = written(tmp_path, THREADS_HEADER, "1,0,1,10", bad, "5,1,1,50")
    with pytest.raises(TraceError, match=f"line 3: .*{problem}"):
        read_threads(path)


def test_discussions_need_their_header(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=f"line 1: expected the header '{THREADS_HEADER}'"):
        read_threads(written(tmp_path, HEADER, CSV_ROW))
