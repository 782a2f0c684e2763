"""Ids and JSON on their way to PostgreSQL and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from groundswell.kinds import IdType
from groundswell.model import Id

SQL_TYPE: Final[dict[IdType, str]] = {"int": "bigint", "uuid": "uuid", "text": "text"}


def array(type_: IdType, ids: Sequence[Id]) -> Any:
    """A parameter for `%s::type[]`."""
    if type_ == "text":
        return list(ids)
    return "{" + ",".join(map(str, ids)) + "}"  # nothing in them needs quotes; spares a call per id


def out(column: str, type_: IdType) -> str:
    """A column as it has to be selected, so that ids come back as the model has them."""
    return f"{column}::text" if type_ == "uuid" else column


def raw(text: str | None) -> msgspec.Raw | None:
    """JSON as stored, as the model carries it."""
    return None if text is None else msgspec.Raw(text.encode("utf-8"))


def json(data: msgspec.Raw | None) -> str | None:
    """JSON as the model carries it, as stored."""
    return None if data is None else bytes(data).decode("utf-8")
