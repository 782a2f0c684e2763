from __future__ import annotations

import json
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundswell.errors import BadRequest, BadSettings, TooLarge, UnknownKind
from groundswell.kinds import (
    BUCKETS_MAX,
    IdType,
    Kind,
    Kinds,
    ValueRange,
    bucket,
    canonical,
    check_id,
    check_text,
    check_write,
    parse_id,
)
from groundswell.model import (
    EDGE_DATA_BYTES_MAX,
    EXPIRES_S_MAX,
    ID_CHARS_MAX,
    INT_MAX,
    OBJECT_BYTES_MAX,
    VALUE_MAX,
    Add,
    Delete,
    Level,
    Open,
    Post,
    Put,
    Remove,
    Tally,
    Transfer,
    Void,
    Write,
)

UUID = "0123abcd-4567-89ef-0123-456789abcdef"
EMPTY = msgspec.Raw(b"{}")
KINDS = Kinds(
    [
        Kind(name="like"),
        Kind(name="note", source="text", target="uuid"),
        Kind(name="review", value=ValueRange(-1, 5)),
        Kind(name="view", unique=False, target="text"),
        Kind(name="chair", target="text", exclusive=True),
    ]
)


def raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


# --- declarations


@pytest.mark.parametrize("name", ["a", "like", "a_2", "x" * 32])
def test_a_kind_may_be_called(name: str) -> None:
    Kind(name=name).check()


@pytest.mark.parametrize("name", ["", "Like", "2nd", "_x", "li-ke", "x" * 33, "like\n", "é", 'a";'])
def test_a_kind_may_not_be_called(name: str) -> None:
    with pytest.raises(BadSettings, match="lower-case"):
        Kinds([Kind(name=name)])


@pytest.mark.parametrize(
    "contradiction", [{"exclusive": True}, {"inverse": True}, {"value": ValueRange(1, 2)}]
)
def test_a_kind_without_edges_has_nothing_of_edges(contradiction: dict[str, Any]) -> None:
    with pytest.raises(BadSettings, match="unique = false"):
        Kinds([Kind(name="view", unique=False, **contradiction)])


@pytest.mark.parametrize(("low", "high"), [(2, 1), (-VALUE_MAX - 1, 0), (0, VALUE_MAX + 1)])
def test_a_range_of_values_must_be_one(low: int, high: int) -> None:
    with pytest.raises(BadSettings, match="min <= max"):
        Kinds([Kind(name="review", value=ValueRange(low, high))])


def test_the_widest_range_of_values_is_allowed() -> None:
    Kind(name="review", value=ValueRange(-VALUE_MAX, VALUE_MAX)).check()


def test_where_nothing_is_said_a_kind_is_read_causally() -> None:
    assert Kind(name="like").consistency is Level.CAUSAL


def test_the_built_in_kinds_are_declared() -> None:
    assert [kind.name for kind in Kinds()] == ["follow", "like", "view", "review", "reply", "seat"]


def test_what_is_asked_about_some_kinds_always_names_the_target() -> None:
    assert Kind(name="a").by_target
    assert not Kind(name="a", inverse=True).by_target
    assert not Kind(name="a", exclusive=True).by_target
    assert not Kind(name="a", unique=False).by_target


@pytest.mark.parametrize("name", ["likes", "", "\ud800", None, 7, ["like"]])
def test_an_unknown_kind_is_named_beside_the_declared_ones(name: Any) -> None:
    with pytest.raises(UnknownKind, match="declared are: like, note, review, view"):
        KINDS[name]


def test_the_key_of_a_count_is_checked() -> None:
    assert KINDS.key("note", UUID.upper()) == ("note", UUID)
    with pytest.raises(BadRequest, match="target must be a 64-bit integer"):
        KINDS.key("like", "42")


def test_each_value_of_a_small_range_is_counted_by_itself() -> None:
    assert list(ValueRange(-1, 2).buckets) == [-1, 0, 1, 2]
    assert len(ValueRange(1, BUCKETS_MAX).buckets) == BUCKETS_MAX
    assert not ValueRange(0, BUCKETS_MAX).buckets
    assert not ValueRange(1, 5, histogram=False).buckets


def test_a_bucket_says_what_it_counts() -> None:
    assert KINDS.of_bucket(bucket("review", -1)) == (KINDS["review"], -1)
    assert KINDS.of_bucket("review") is None
    with pytest.raises(BadSettings):
        Kind(name=bucket("review", 5)).check()
    with pytest.raises(UnknownKind):
        KINDS.key(bucket("review", 5), 1)


# --- ids


@pytest.mark.parametrize("value", [0, 1, -1, INT_MAX, -INT_MAX])
def test_an_int_id_may_be(value: int) -> None:
    assert check_id("int", value, "target") == value


@pytest.mark.parametrize(
    "value", [INT_MAX + 1, -INT_MAX - 1, 10**100, True, 1.0, "1", None, b"1", [1]]
)
def test_an_int_id_may_not_be(value: object) -> None:
    with pytest.raises(BadRequest, match="target must be a 64-bit integer"):
        check_id("int", value, "target")


@pytest.mark.parametrize("wanted", ["int", "uuid", "text"])
def test_an_integer_too_long_to_be_written_is_refused_like_any_other(wanted: IdType) -> None:
    for value in (10**5000, -(10**5000)):
        with pytest.raises(BadRequest, match="far larger"):
            check_id(wanted, value, "target")


@pytest.mark.parametrize("value", ["a", " ", "é", "日本", "a b", "/?#%", "x" * ID_CHARS_MAX])
def test_a_text_id_may_be(value: str) -> None:
    assert check_id("text", value, "source") == value


@pytest.mark.parametrize("value", ["", "\x00", "a\nb", "\x7f", "\x85", "\ud800"])
def test_a_text_id_may_not_be(value: str) -> None:
    with pytest.raises(BadRequest):
        check_id("text", value, "source")


def test_a_text_id_has_a_limit() -> None:
    with pytest.raises(TooLarge, match="129 characters; the limit is 128"):
        check_id("text", "x" * (ID_CHARS_MAX + 1), "source")


@pytest.mark.parametrize("wanted", ["text", "uuid"])
@pytest.mark.parametrize("value", [1, True, None, b"a", 1.5, ("a",)])
def test_an_id_of_characters_must_be_a_string(wanted: IdType, value: object) -> None:
    with pytest.raises(BadRequest, match="must be a string"):
        check_id(wanted, value, "source")
    with pytest.raises(BadRequest, match="must be a string"):
        check_text(cast(str, value), "source")


def test_a_uuid_comes_back_in_lower_case() -> None:
    assert check_id("uuid", UUID.upper(), "target") == UUID


@pytest.mark.parametrize(
    "value",
    [
        "",
        UUID[:-1],
        UUID + "0",
        UUID.replace("-", ""),
        f"{{{UUID}}}",
        f"urn:uuid:{UUID}",
        UUID + "\n",
        UUID.replace("a", "g"),
        UUID.replace("0", "\u0660"),
    ],
)
def test_other_forms_of_a_uuid_are_refused(value: str) -> None:
    with pytest.raises(BadRequest, match="must be a UUID"):
        check_id("uuid", value, "target")


@pytest.mark.parametrize("value", [0, 7, -7, INT_MAX, -INT_MAX])
def test_an_int_id_can_be_spelled(value: int) -> None:
    assert parse_id("int", str(value), "target") == value


@pytest.mark.parametrize(
    "text",
    ["", "007", "-0", "+1", " 1", "1 ", "1_0", "1.0", "1e3", "\u0661", str(2**63), "9" * 5000],
)
def test_an_int_id_has_one_spelling(text: str) -> None:
    with pytest.raises(BadRequest, match="64-bit integer"):
        parse_id("int", text, "target")


def test_other_ids_are_spelled_as_they_are() -> None:
    assert parse_id("text", "007", "target") == "007"
    assert parse_id("uuid", UUID.upper(), "target") == UUID


# --- writes


@pytest.mark.parametrize(
    "write",
    [
        Add("like", 1, 2),
        Add("review", 1, 2, value=5),
        Remove("like", 1, 2),
        Tally("view", "a", 3, "once"),
        Delete("a", 3),
        Add("chair", "1A", 2, expires_in_s=0.001),
        Add("chair", "1A", 2, expires_in_s=EXPIRES_S_MAX),
        Open("a"),
        Open("a", None, -5),
        Open("a", -INT_MAX, INT_MAX),
        Transfer("t", "a", "b", 1),
        Transfer("t", "a", "b", INT_MAX, True, 1.5),
        Transfer("t", "a", "b", 5, True),
        Post("t"),
        Post("t", 1),
        Void("t"),
    ],
)
def test_a_good_write_passes_as_it_is(write: Write) -> None:
    assert check_write(KINDS, write) == write


def test_ids_and_contents_get_their_one_form() -> None:
    assert check_write(KINDS, Remove("note", UUID.upper(), "me")) == Remove("note", UUID, "me")
    added = check_write(KINDS, Add("note", UUID.upper(), "me", data=raw('{"b": 1, "a": 2}')))
    assert added == Add("note", UUID, "me", data=raw('{"a":2,"b":1}'))
    put = check_write(KINDS, Put("a", "t", raw('{"b": [ ], "a": null}'), 0))
    assert put == Put("a", "t", raw('{"a":null,"b":[]}'), 0)


def test_data_that_is_null_is_no_data() -> None:
    assert check_write(KINDS, Add("like", 1, 2, data=raw("null"))) == Add("like", 1, 2)


BAD_EXPIRIES: list[Any] = [0, -1, 0.0001, EXPIRES_S_MAX + 1, float("inf"), float("nan"), True, "5"]
BAD_AMOUNTS = [0, -1, INT_MAX + 1, True, 1.0, "1"]
BAD_WRITES: list[tuple[Write, str]] = [
    (Add("nope", 1, 2), "no kind 'nope'"),
    (Add("like", "1", 2), "target must be a 64-bit"),
    (Add("like", 1, "2"), "source must be a 64-bit"),
    (Add("like", True, 2), "target must be a 64-bit"),
    (Add("like", 1, 2, value=1), "carry no value"),
    (Add("review", 1, 2), "a whole value from -1 to 5"),
    (Add("review", 1, 2, value=6), "a whole value from -1 to 5"),
    (Add("review", 1, 2, value=-2), "a whole value from -1 to 5"),
    (Add("review", 1, 2, value=True), "a whole value from -1 to 5"),
    (Add("review", 1, 2, value=cast(int, 1.0)), "a whole value from -1 to 5"),
    (Add("like", 1, 2, data=raw("[]")), "must be a JSON object"),
    (Add("view", "a", 2), "use a tally"),
    (Remove("view", "a", 2), "use a tally"),
    (Remove("like", 1, "x"), "source must be"),
    (Tally("like", 1), "add one instead of a tally"),
    (Tally("view", 1), "target must be a string"),
    (Tally("view", "a", 0), "whole number from 1"),
    (Tally("view", "a", VALUE_MAX + 1), "whole number from 1"),
    (Tally("view", "a", True), "whole number from 1"),
    (Tally("view", "a", 1, ""), "tally id is empty"),
    (Tally("view", "a", 1, cast(str, 4)), "tally id must be a string"),
    (Put("", "t", EMPTY), "object id is empty"),
    (Put("a", "", EMPTY), "object type is empty"),
    (Put("a\n", "t", EMPTY), "control characters"),
    (Put(cast(str, 3), "t", EMPTY), "object id must be a string"),
    (Put("a", "t", raw("[1]")), "must be a JSON object"),
    (Put("a", "t", EMPTY, -1), "if_version"),
    (Put("a", "t", EMPTY, INT_MAX + 1), "if_version"),
    (Put("a", "t", EMPTY, True), "if_version"),
    (Delete("a", -1), "if_version"),
    (cast(Write, {"op": "delete", "id": "a"}), "not a write"),
    (Delete("a", cast(int, "1")), "if_version"),
    (Delete("x" * 129), "object id has 129 characters"),
    (Put("account:a", "t", EMPTY), "kept for accounts"),
    (Delete("account:a"), "kept for accounts"),
    (Add("like", 1, 2, expires_in_s=5), "not exclusive"),
    *((Add("chair", "1A", 2, expires_in_s=s), "from 0.001 to") for s in BAD_EXPIRIES),
    *((Transfer("t", "a", "b", 1, True, s), "from 0.001 to") for s in BAD_EXPIRIES),
    (Open(""), "account id is empty"),
    (Open("a", INT_MAX + 1), "floor must be a 64-bit"),
    (Open("a", cast(int, 1.0)), "floor must be a 64-bit"),
    (Open("a", 0, True), "ceiling must be a 64-bit"),
    (Open("a", 2, 1), "floor 2 is above the ceiling 1"),
    (Transfer("", "a", "b", 1), "transfer id is empty"),
    (Transfer("t", "", "b", 1), "debit account's id is empty"),
    (Transfer("t", "a", cast(str, 4), 1), "credit account's id must be a string"),
    (Transfer("t", "a", "a", 1), "both debit and credit"),
    (Transfer("t", "a", "b", 1, expires_in_s=5), "Only a pending transfer"),
    *((Transfer("t", "a", "b", cast(int, n)), "whole number from 1") for n in BAD_AMOUNTS),
    *((Post("t", cast(int, n)), "whole number from 1") for n in BAD_AMOUNTS),
    (Post(""), "transfer id is empty"),
    (Void("x" * 129), "transfer id has 129 characters"),
]


@pytest.mark.parametrize(("write", "message"), BAD_WRITES)
def test_a_bad_write_is_refused_with_the_reason(write: Write, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        check_write(KINDS, write)


# --- canonical JSON

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # Characters that JSON text can carry; lone surrogates it cannot.
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab\u00e9"), inner),
    max_leaves=5,
)


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from("abc"), json_values))
def test_equal_contents_are_equal_bytes(value: dict[str, Any]) -> None:
    backwards = dict(reversed(value.items()))
    one = canonical(raw(json.dumps(value, indent=2)), OBJECT_BYTES_MAX, "data")
    two = canonical(raw(json.dumps(backwards, ensure_ascii=False)), OBJECT_BYTES_MAX, "data")
    assert bytes(one) == bytes(two)
    assert json.loads(bytes(one)) == value


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from("abc"), json_values))
def test_the_canonical_form_is_final(value: dict[str, Any]) -> None:
    one = canonical(raw(json.dumps(value)), OBJECT_BYTES_MAX, "data")
    assert bytes(canonical(one, OBJECT_BYTES_MAX, "data")) == bytes(one)


def test_keys_are_in_order_at_every_depth() -> None:
    found = canonical(raw('{"b": {"d": 1, "c": [{"f": 1, "e": 2}]}, "a": 0}'), 100, "data")
    assert bytes(found) == b'{"a":0,"b":{"c":[{"e":2,"f":1}],"d":1}}'


@pytest.mark.parametrize("text", ["[]", "1", '"x"', "null", "true"])
def test_what_is_not_an_object_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="must be a JSON object"):
        canonical(raw(text), 100, "data")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"{'a': 1}",
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": "\xff"}',
        b'{"a": "\\ud800"}',
        b"{} {}",
        b'{"a": 01}',
        b'{1: "a"}',
        b"\xef\xbb\xbf{}",
    ],
)
def test_what_is_not_json_is_refused(data: bytes) -> None:
    with pytest.raises(BadRequest, match="is not valid JSON"):
        canonical(msgspec.Raw(data), 100, "data")


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize("closed", [True, False])
def test_a_depth_bomb_is_refused(opening: str, closing: str, closed: bool) -> None:
    depth = 10_000
    bomb = '{"a":' + opening * depth + ("1" + closing * depth + "}" if closed else "")
    with pytest.raises(BadRequest, match="is not valid JSON"):
        canonical(raw(bomb), 10**6, "data")


@pytest.mark.parametrize(
    ("limit", "write"),
    [
        (OBJECT_BYTES_MAX, lambda data: Put("a", "t", data)),
        (EDGE_DATA_BYTES_MAX, lambda data: Add("like", 1, 2, data=data)),
    ],
)
def test_data_has_a_limit(limit: int, write: Any) -> None:
    fits = '{"a":"' + "x" * (limit - 8) + '"}'
    assert check_write(KINDS, write(raw(fits)))
    with pytest.raises(TooLarge, match=f"{limit + 1} bytes; the limit is {limit}"):
        check_write(KINDS, write(raw(fits + " ")))


def test_the_limit_holds_for_the_canonical_form_too() -> None:
    numbers = raw('{"a":[' + ",".join(["1e5"] * 10) + "]}")
    with pytest.raises(TooLarge):
        canonical(numbers, len(bytes(numbers)), "data")


@pytest.mark.parametrize("value", ["👩\u200d🚀", "a\u00a0b", "עברית", "a b/c?d#e%"])
def test_a_text_id_may_be_any_other_text(value: str) -> None:
    assert check_text(value, "id") == value


def test_data_that_is_no_json_text_is_refused_with_a_typed_error() -> None:
    put = Put("id", "t", cast(msgspec.Raw, {"x": 1}))
    with pytest.raises(BadRequest, match="Raw"):
        check_write(Kinds(), put)
