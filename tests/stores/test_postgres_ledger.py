"""Transfers on PostgreSQL while others make them, too."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from groundswell.kinds import Kinds
from groundswell.model import Open, Post, Transfer
from groundswell.stores.postgres import PostgresStore, ledger, migrate
from groundswell.stores.postgres.server import Connection
from groundswell.testing.base import codes, commit

pytestmark = pytest.mark.anyio


async def test_a_hold_made_while_its_accounts_are_looked_up_is_not_there_yet(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate(database, Kinds())
    store = await PostgresStore.open(database, Kinds(), idle_s=None)
    await commit(store, Open("a"), Open("b"), Open("mint", None), Transfer("m", "mint", "a", 9))
    look_up = ledger._parties

    async def slowly(connection: Connection, ids: Collection[str]) -> set[str]:
        found = await look_up(connection, ids)
        if ids:
            made = await commit(store, Transfer("h", "a", "b", 5, pending=True))
            assert codes(made) == [True]
        return found

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "_parties", slowly)
        posted = await commit(store, Post("h"), Transfer("t", "mint", "b", 1))
    assert codes(posted) == ["transfer-not-found", True]
    assert codes(await commit(store, Post("h"))) == [True]
    account, _ = await store.account("b")
    assert account is not None
    assert (account.balance, account.expected) == (6, 0)
    await store.close()
