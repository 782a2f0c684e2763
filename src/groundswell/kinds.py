"""The declared kinds, and the checks that every id and every write must pass. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal

import msgspec

from groundswell.errors import BadRequest, BadSettings, TooLarge, UnknownKind
from groundswell.model import (
    ACCOUNT,
    EDGE_DATA_BYTES_MAX,
    EXPIRES_S_MAX,
    ID_CHARS_MAX,
    INT_MAX,
    OBJECT_BYTES_MAX,
    VALUE_MAX,
    Add,
    Delete,
    Id,
    Key,
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

IdType = Literal["int", "uuid", "text"]

BUCKETS_MAX: Final = 100  # values of a kind

_INT_MIN: Final = -INT_MAX
_KIND_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # surrogates are no UTF-8
_UUID: Final = re.compile(
    r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
)


class ValueRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole numbers that an edge's value may be, both ends included.

    With `histogram` the edges of each value are counted too, where there are at most BUCKETS_MAX values.
    """

    min: int
    max: int
    histogram: bool = True

    @property
    def buckets(self) -> range:
        """The values that are counted one by one."""
        if not self.histogram or self.max - self.min >= BUCKETS_MAX:
            return range(0)
        return range(self.min, self.max + 1)


def bucket(kind: str, value: int) -> str:
    """The kind under which edges of `kind` with this value are counted; none can be declared like it."""
    return f"{kind}={value}"


class Kind(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A declared type of edge."""

    name: str = ""
    source: IdType = "int"
    target: IdType = "int"
    consistency: Level = Level.CAUSAL  # level of a read that names none
    unique: bool = True  # False: tallies, counted without an edge
    exclusive: bool = False  # at most one source per target
    inverse: bool = False  # also list what a source did
    value: ValueRange | None = None  # edges carry a number; its sum is kept beside the count

    @property
    def by_target(self) -> bool:
        """Whether it has edges, and whatever is asked about them names the target."""
        return self.unique and not self.inverse and not self.exclusive

    def check(self) -> None:
        """Raise BadSettings where the declaration contradicts itself."""
        if not _KIND_NAME.fullmatch(self.name):
            raise BadSettings(
                f"Kind name {self.name!r}: use a lower-case letter, then up to 31 letters, digits or _."
            )
        if not self.unique and (self.exclusive or self.inverse or self.value):
            raise BadSettings(
                f"Kind {self.name}: unique = false stores no edges, so it excludes exclusive, inverse "
                "and value."
            )
        if self.value and not -VALUE_MAX <= self.value.min <= self.value.max <= VALUE_MAX:
            raise BadSettings(
                f"Kind {self.name}: value needs min <= max, both between -{VALUE_MAX} and {VALUE_MAX}."
            )


BUILT_IN: Final = (
    Kind(name="follow", inverse=True),
    Kind(name="like", inverse=True),
    Kind(name="view", unique=False),
    Kind(name="review", value=ValueRange(1, 5)),
    Kind(name="reply"),
    Kind(name="seat", target="text", exclusive=True),
)


class Kinds:
    """The kinds a node knows, by name."""

    def __init__(self, kinds: Sequence[Kind] = BUILT_IN) -> None:
        for kind in kinds:
            kind.check()
        self._by_name = {kind.name: kind for kind in kinds}

    def __getitem__(self, name: str) -> Kind:
        try:
            return self._by_name[name]
        except (KeyError, TypeError):
            known = ", ".join(self._by_name)
            raise UnknownKind(f"There is no kind {name!r:.60}; declared are: {known}.") from None

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._by_name.values())

    def of_bucket(self, name: str) -> tuple[Kind, int] | None:
        """The kind and the value that a `bucket` stands for, if it is one."""
        kind, sign, value = name.partition("=")
        return (self[kind], int(value)) if sign else None

    def key(self, kind: str, target: object) -> Key:
        """The checked key of a count."""
        return kind, check_id(self[kind].target, target, "target")


def check_id(wanted: IdType, value: object, what: str) -> Id:
    """`value` as an id of the declared type; UUIDs come back in lower case."""
    if wanted == "int":
        if type(value) is int and _INT_MIN <= value <= INT_MAX:
            return value
        raise BadRequest(f"The {what} must be a 64-bit integer, not {_shown(value)}.")
    if type(value) is not str:
        raise BadRequest(f"The {what} must be a string, not {_shown(value)}.")
    if wanted == "uuid":
        if _UUID.fullmatch(value):
            return value.lower()
        raise BadRequest(
            f"The {what} must be a UUID like 8-4-4-4-12 hex digits, not {value!r:.60}."
        )
    return check_text(value, what)


def check_text(value: str, what: str) -> str:
    """`value` where it may be a text id."""
    if not isinstance(value, str):
        raise BadRequest(f"The {what} must be a string, not {_shown(value)}.")
    if not value:
        raise BadRequest(f"The {what} is empty.")
    if len(value) > ID_CHARS_MAX:
        raise TooLarge(f"The {what} has {len(value)} characters; the limit is {ID_CHARS_MAX}.")
    if _CONTROL.search(value):
        raise BadRequest(f"The {what} holds control characters: {value!r:.60}.")
    return value


def _shown(value: object) -> str:
    """What was given instead of an id, cut short; an integer of any length has no other form."""
    if isinstance(value, int) and value.bit_length() > 200:
        return "one far larger"
    return f"{value!r:.60}"


def parse_id(wanted: IdType, text: str, what: str) -> Id:
    """The id that a path segment or a command-line argument spells."""
    if wanted != "int":
        return check_id(wanted, text, what)
    try:
        number = int(text)
    except ValueError:
        number = None
    # One id, one spelling: "007" and "+7" are not 7.
    return check_id(wanted, number if str(number) == text else text, what)


def check_write(kinds: Kinds, write: Write) -> Write:
    """`write` in the one form that stores accept; raises a BadRequest that says what is wrong."""
    check = _CHECKS.get(type(write))
    if check is None:
        raise BadRequest("This is not a write.")
    return check(kinds, write)


def _check_add(kinds: Kinds, write: Add) -> Add:
    kind = kinds[write.kind]
    if not kind.unique:
        raise _no_edges(kind)
    source = check_id(kind.source, write.source, "source")
    target = check_id(kind.target, write.target, "target")
    if kind.value is None:
        if write.value is not None:
            raise BadRequest(f"Edges of kind {kind.name} carry no value.")
    elif type(write.value) is not int or not kind.value.min <= write.value <= kind.value.max:
        raise BadRequest(
            f"Edges of kind {kind.name} need a whole value from {kind.value.min} to {kind.value.max}."
        )
    if write.expires_in_s is not None:
        if not kind.exclusive:
            raise BadRequest(f"Kind {kind.name} is not exclusive: only claims on a target expire.")
        _check_expiry(write.expires_in_s)
    if write.data is None and source is write.source and target is write.target:
        return write
    data = None
    if write.data is not None and bytes(write.data) != b"null":
        data = canonical(write.data, EDGE_DATA_BYTES_MAX, "edge's data")
    return Add(write.kind, target, source, write.value, data, write.expires_in_s)


def _check_remove(kinds: Kinds, write: Remove) -> Remove:
    kind = kinds[write.kind]
    if not kind.unique:
        raise _no_edges(kind)
    source = check_id(kind.source, write.source, "source")
    target = check_id(kind.target, write.target, "target")
    if source is write.source and target is write.target:
        return write
    return Remove(write.kind, target, source)


def _check_tally(kinds: Kinds, write: Tally) -> Tally:
    kind = kinds[write.kind]
    if kind.unique:
        raise BadRequest(f"Kind {kind.name} stores edges: add one instead of a tally.")
    if type(write.by) is not int or not 1 <= write.by <= VALUE_MAX:
        raise BadRequest(f"A tally's `by` must be a whole number from 1 to {VALUE_MAX}.")
    if write.id is not None:
        check_text(write.id, "tally id")
    return Tally(write.kind, check_id(kind.target, write.target, "target"), write.by, write.id)


def _check_put(kinds: Kinds, write: Put) -> Put:
    check_object_id(write.id)
    check_text(write.type, "object type")
    _check_version(write.if_version)
    data = canonical(write.data, OBJECT_BYTES_MAX, "object's data")
    return Put(write.id, write.type, data, write.if_version)


def _check_delete(kinds: Kinds, write: Delete) -> Delete:
    check_object_id(write.id)
    _check_version(write.if_version)
    return write


def check_object_id(id_: str) -> str:
    """`id_` where it may be an object's."""
    if check_text(id_, "object id").startswith(ACCOUNT):
        raise BadRequest(f"Object ids that begin with {ACCOUNT!r} are kept for accounts.")
    return id_


def _check_open(kinds: Kinds, write: Open) -> Open:
    check_text(write.id, "account id")
    for name, bound in (("floor", write.floor), ("ceiling", write.ceiling)):
        if bound is not None and (type(bound) is not int or abs(bound) > INT_MAX):
            raise BadRequest(f"The {name} must be a 64-bit integer or null, not {_shown(bound)}.")
    if write.floor is not None and write.ceiling is not None and write.floor > write.ceiling:
        raise BadRequest(f"The floor {write.floor} is above the ceiling {write.ceiling}.")
    return write


def _check_transfer(kinds: Kinds, write: Transfer) -> Transfer:
    check_text(write.id, "transfer id")
    check_text(write.debit, "debit account's id")
    check_text(write.credit, "credit account's id")
    if write.debit == write.credit:
        raise BadRequest(f"Account {write.debit!r} cannot be both debit and credit.")
    _check_amount(write.amount)
    if write.expires_in_s is not None:
        if not write.pending:
            raise BadRequest(
                "Only a pending transfer expires: set `pending`, or no `expires_in_s`."
            )
        _check_expiry(write.expires_in_s)
    return write


def _check_post(kinds: Kinds, write: Post) -> Post:
    check_text(write.id, "transfer id")
    if write.amount is not None:
        _check_amount(write.amount)
    return write


def _check_void(kinds: Kinds, write: Void) -> Void:
    check_text(write.id, "transfer id")
    return write


def _check_amount(amount: object) -> None:
    if type(amount) is not int or not 1 <= amount <= INT_MAX:
        raise BadRequest(
            f"The amount must be a whole number from 1 to {INT_MAX}, not {_shown(amount)}."
        )


def _check_expiry(lasts_s: object) -> None:
    if type(lasts_s) not in (int, float) or not 0.001 <= lasts_s <= EXPIRES_S_MAX:  # type: ignore[operator]
        raise BadRequest(
            f"`expires_in_s` must be from 0.001 to {EXPIRES_S_MAX} seconds, not {_shown(lasts_s)}."
        )


_CHECKS: Final[dict[type, Callable[[Kinds, Any], Write]]] = {
    Add: _check_add,
    Remove: _check_remove,
    Tally: _check_tally,
    Put: _check_put,
    Delete: _check_delete,
    Open: _check_open,
    Transfer: _check_transfer,
    Post: _check_post,
    Void: _check_void,
}


def _no_edges(kind: Kind) -> BadRequest:
    return BadRequest(f"Kind {kind.name} stores no edges: use a tally.")


def _check_version(version: int | None) -> None:
    if version is not None and (type(version) is not int or not 0 <= version <= INT_MAX):
        raise BadRequest("`if_version` must be 0 (only if there is none) or a version.")


def canonical(data: msgspec.Raw, bytes_max: int, what: str) -> msgspec.Raw:
    """A JSON object with its keys in order, so that equal contents are equal bytes."""
    if not isinstance(data, msgspec.Raw):
        raise BadRequest(f"The {what} must be JSON as msgspec.Raw, not {type(data).__name__}.")
    _check_bytes(len(bytes(data)), bytes_max, what)
    try:
        value: Any = msgspec.json.decode(data)
        if not isinstance(value, dict):
            raise BadRequest(f"The {what} must be a JSON object.")
        ordered = msgspec.json.encode(value, order="sorted")
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise BadRequest(f"The {what} is not valid JSON: {error}.") from error
    _check_bytes(len(ordered), bytes_max, what)  # 1e5 has become 100000.0
    return msgspec.Raw(ordered)


def _check_bytes(found: int, bytes_max: int, what: str) -> None:
    if found > bytes_max:
        raise TooLarge(f"The {what} has {found} bytes; the limit is {bytes_max}.")
