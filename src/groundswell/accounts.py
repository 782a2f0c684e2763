"""Accounts as the objects that the change feed and the replicas know them as. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from groundswell.model import ACCOUNT, Account, Document


class State(msgspec.Struct, frozen=True):
    """An account as replicas hold it: the data of its object."""

    balance: int
    held: int
    expected: int
    floor: int | None
    ceiling: int | None


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(State).decode


def document(account: Account) -> Document:
    """The account as an object."""
    state = State(account.balance, account.held, account.expected, account.floor, account.ceiling)
    data = msgspec.Raw(_encode(state))
    return Document(ACCOUNT + account.id, "account", account.version, account.xid, data)


def account(document: Document) -> Account | None:
    """The account that an object holds, if it does."""
    if document.data is None:
        return None
    state = _decode(document.data)
    return Account(
        id=document.id.removeprefix(ACCOUNT),
        balance=state.balance,
        held=state.held,
        expected=state.expected,
        floor=state.floor,
        ceiling=state.ceiling,
        version=document.version,
        xid=document.xid,
    )
