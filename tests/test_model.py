from __future__ import annotations

import msgspec
import pytest

from groundswell import model
from groundswell.model import Add, Counter, Delete, Edge, Effect, Level, Put, Remove, Tally, Write

WRITES: list[tuple[str, Write]] = [
    ('{"op":"add","kind":"like","target":42,"source":7}', Add("like", 42, 7)),
    (
        '{"op":"add","kind":"seat","target":"4F","source":7,"value":1}',
        Add("seat", "4F", 7, value=1),
    ),
    ('{"op":"remove","kind":"like","target":42,"source":7}', Remove("like", 42, 7)),
    ('{"op":"tally","kind":"view","target":1,"by":3,"id":"x"}', Tally("view", 1, 3, "x")),
    (
        '{"op":"put","id":"a","type":"t","data":{},"if_version":1}',
        Put("a", "t", msgspec.Raw("{}"), 1),
    ),
    ('{"op":"delete","id":"a"}', Delete("a")),
]


@pytest.mark.parametrize(("text", "write"), WRITES)
def test_a_write_is_told_by_its_op(text: str, write: Write) -> None:
    decoded = msgspec.json.decode(text, type=Write)
    assert type(decoded) is type(write)
    assert msgspec.json.encode(decoded) == msgspec.json.encode(write)


@pytest.mark.parametrize(("text", "write"), WRITES)
def test_a_write_with_an_unknown_field_is_refused(text: str, write: Write) -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.json.decode(text.replace("{", '{"valeu":1,', 1), type=Write)


@pytest.mark.parametrize("value", [Effect("like", 1, 1), Counter(1), *(w for _, w in WRITES)])
def test_values_cannot_be_changed(value: msgspec.Struct) -> None:
    with pytest.raises(AttributeError):
        setattr(value, value.__struct_fields__[0], "x")


def test_levels_go_from_the_weakest_to_the_strictest() -> None:
    assert [*Level] == ["eventual", "read_your_writes", "monotonic", "causal", "linearizable"]


def test_an_edge_is_written_without_what_it_does_not_have() -> None:
    edge = Edge(kind="like", target=1, source=2, created_ms=3)
    assert msgspec.json.encode(edge) == b'{"kind":"like","target":1,"source":2,"created_ms":3}'


def test_the_largest_sum_of_values_fits_a_64_bit_integer() -> None:
    assert model.VALUE_MAX * 2**32 < model.INT_MAX
