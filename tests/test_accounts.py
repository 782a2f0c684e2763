"""Accounts as objects, and back."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from groundswell.accounts import account, document
from groundswell.model import INT_MAX, Account, Document

amounts = st.integers(-INT_MAX, INT_MAX)


@given(
    st.text(min_size=1),
    amounts,
    st.integers(0, INT_MAX),
    st.integers(0, INT_MAX),
    st.none() | amounts,
    st.none() | amounts,
)
def test_an_account_comes_back_from_its_object(
    id_: str, balance: int, held: int, expected: int, floor: int | None, ceiling: int | None
) -> None:
    made = Account(
        id=id_,
        balance=balance,
        held=held,
        expected=expected,
        floor=floor,
        ceiling=ceiling,
        version=3,
        xid=7,
    )
    shown = document(made)
    assert (shown.id, shown.type, shown.version, shown.xid) == (f"account:{id_}", "account", 3, 7)
    assert account(shown) == made


def test_its_data_is_what_the_stores_write() -> None:
    """The stores on SQL make the same bytes."""
    shown = document(Account(id="a", balance=-5, floor=None, ceiling=9))
    assert shown.data is not None
    assert bytes(shown.data) == (b'{"balance":-5,"held":0,"expected":0,"floor":null,"ceiling":9}')


def test_an_object_that_is_not_there_is_no_account() -> None:
    assert account(Document("account:a", "", 0, 0, None)) is None


def test_what_is_available_is_what_may_go_out() -> None:
    made = Account(id="a", balance=10, held=3, floor=-5)
    assert made.available == 12
    assert msgspec.structs.replace(made, floor=None).available is None
