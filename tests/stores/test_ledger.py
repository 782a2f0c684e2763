"""What the ledgers of the stores share; the promises about accounts are in the conformance suite."""

from __future__ import annotations

import pytest
from msgspec.structs import astuple

from groundswell.model import Account, Movement, SettleAccount
from groundswell.stores.ledger import (
    ACCOUNT_FIELDS,
    MOVEMENT_FIELDS,
    to_account,
    to_movement,
    to_settle,
)

ACCOUNT = Account(
    id="a", balance=1, held=2, expected=3, floor=4, ceiling=5, version=6, xid=7
)  # every field another value
MOVEMENT = Movement(
    id="t",
    debit="a",
    credit="b",
    amount=1,
    pending=True,
    state="expired",
    posted=2,
    created_ms=3,
    expires_ms=4,
    debit_balance=5,
    credit_balance=6,
    debit_open=True,
    credit_open=False,
)


def test_an_account_is_read_from_its_columns() -> None:
    assert to_account([getattr(ACCOUNT, name) for name in ACCOUNT_FIELDS]) == ACCOUNT


@pytest.mark.parametrize("flags", [(True, True, False), (True, False, True), (False, True, True)])
def test_a_transfer_is_read_from_its_columns(flags: tuple[bool, bool, bool]) -> None:
    names = ("pending", "debit_open", "credit_open")
    made = Movement(
        **{name: getattr(MOVEMENT, name) for name in MOVEMENT_FIELDS}
        | dict(zip(names, flags, strict=True))
    )
    assert to_movement(astuple(made)) == made
    numbers = [int(v) if isinstance(v, bool) else v for v in astuple(made)]
    read = to_movement(numbers)
    assert read == made
    assert all(isinstance(getattr(read, name), bool) for name in names)


def test_an_account_is_settled_once_and_only_where_a_side_is_open() -> None:
    rows = [("a", True, "b", False), ("c", 0, "b", 1), ("a", 1, "d", 0)]
    assert to_settle(rows) == [SettleAccount("a"), SettleAccount("b")]
