"""A sale: seats and standing tickets, carts that expire, retries, and a node that is killed.

GROUNDSWELL_TEST_SALE=25 runs it with 25 times as many of everything: 50,000 buyers.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
import pytest

import clusters
import nodes
import pg_nodes
from groundswell.kinds import Kinds
from groundswell.store import Store, Window
from groundswell.stores.postgres import PostgresStore
from groundswell.stores.sqlite import SqliteStore

pytestmark = pytest.mark.anyio

SCALE: Final = int(os.environ.get("GROUNDSWELL_TEST_SALE", "1"))
BUYERS, SEATS, STANDING = 2_000 * SCALE, 400 * SCALE, 40 * SCALE
LIMIT: Final = 4  # tickets per buyer
PRICE, PURSE = 30, 500
CONNECTIONS: Final = 256
CART_S: Final = 1.0
AGAIN: Final = 1 / 3  # share of the requests that are sent twice
LEFT: Final = 0.2  # share of the carts that are left behind

no_server, no_pgq = clusters.missing(), clusters.missing(pgq=True)

Writes = list[dict[str, Any]]


class Sale:
    """The buyers, and what they have been told."""

    def __init__(self, node: nodes.Node, rng: random.Random) -> None:
        self._node = node
        self._rng = rng
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS))
        self._carts = 0
        self.seats: dict[int, int] = {}  # sold: by which cart
        self.standing = 0
        self.tickets: dict[int, int] = {}  # by buyer
        self.left = 0  # carts left behind

    async def close(self) -> None:
        await self._http.close()

    async def _send(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """The answer; without one the request is sent again, as it was."""
        data = None if body is None else msgspec.json.encode(body)
        while True:
            try:
                async with self._http.request(method, self._node.url + path, data=data) as answer:
                    found = msgspec.json.decode(await answer.read())
                    if answer.status != 503:
                        return answer.status, found
            except (aiohttp.ClientError, ConnectionError, TimeoutError):
                pass
            await asyncio.sleep(0.05)

    async def _write(self, writes: Writes) -> tuple[int, Any]:
        body = {"writes": writes, "atomic": True}
        status, found = await self._send("POST", "/v1/writes", body)
        if self._rng.random() < AGAIN:
            again, found_again = await self._send("POST", "/v1/writes", body)
            assert again in (200, 409), found_again
            if status != 200 and again == 200:  # what was in the way has gone meanwhile
                return again, found_again
        return status, found

    async def open(self) -> None:
        """The accounts: money is made in the mint, tickets in the hall."""
        shared = [("mint", None), ("hall", None), ("till", 0), ("seats", 0), ("standing", 0)]
        writes: Writes = [{"op": "account", "id": id_, "floor": floor} for id_, floor in shared]
        writes += [
            _move("seats", "hall", "seats", SEATS),
            _move("stands", "hall", "standing", STANDING),
        ]
        for n in range(BUYERS):
            writes += [
                {"op": "account", "id": f"purse-{n}"},
                {"op": "account", "id": f"tickets-{n}", "ceiling": LIMIT},
                _move(f"purse-{n}", "mint", f"purse-{n}", PURSE),
            ]
        for start in range(0, len(writes), 6_000):
            status, found = await self._send(
                "POST", "/v1/writes", {"writes": writes[start : start + 6_000]}
            )
            assert status == 200
            assert all("code" not in outcome for outcome in found["outcomes"])

    async def buy(self, buyer: int, seat: int | None) -> bool:
        """A cart with one ticket, which is then paid or left; whether the buyer got it."""
        self._carts += 1
        number = self._carts
        cart = f"cart-{number}"
        holds = {"pending": True, "expires_in_s": CART_S}
        stock = "standing" if seat is None else "seats"
        claim = {"op": "add", "kind": "seat", "target": f"S{seat}", "source": number}
        writes: Writes = [] if seat is None else [claim | {"expires_in_s": CART_S}]
        writes += [
            _move(f"{cart}-pay", f"purse-{buyer}", "till", PRICE) | holds,
            _move(f"{cart}-ticket", stock, f"tickets-{buyer}", 1) | holds,
        ]
        status, found = await self._write(writes)
        if status != 200:
            assert found["code"] in ("seat-taken", "insufficient-funds", "ceiling-exceeded"), found
            assert str(self.seats.get(seat or -1, "nobody")) not in found["detail"].split(), (
                "no names"
            )
            return False
        if self._rng.random() < LEFT:
            self.left += 1
            return False
        pay: Writes = [] if seat is None else [claim]
        pay += [{"op": "post", "id": f"{cart}-pay"}, {"op": "post", "id": f"{cart}-ticket"}]
        pay += [{"op": "put", "id": cart, "type": "order", "data": {"buyer": buyer}}]
        status, found = await self._write(pay)
        if status != 200:  # it may have happened before an answer was lost, or the cart was too old
            assert found["code"] in ("transfer-conflict", "seat-taken"), found
            _, transfer = await self._send("GET", f"/v1/transfers/{cart}-pay")
            assert transfer["state"] in ("posted", "expired"), transfer
            if transfer["state"] == "expired":
                return False
        if seat is not None:
            assert seat not in self.seats, "sold twice"
            self.seats[seat] = number
        self.standing += seat is None
        self.tickets[buyer] = self.tickets.get(buyer, 0) + 1
        return True

    async def run(self) -> None:
        """Everybody tries, some want too much; then whoever is left gets what carts have given back."""
        waiting = [n for n in range(BUYERS) for _ in range(7 if n % 50 == 0 else 1)]
        self._rng.shuffle(waiting)

        async def counter() -> None:
            while waiting:
                await self.buy(waiting.pop(), self._pick())

        await asyncio.gather(*(counter() for _ in range(CONNECTIONS)))
        while len(self.seats) < SEATS or self.standing < STANDING:
            free = [seat for seat in range(SEATS) if seat not in self.seats]
            wanted = [*free, *[None] * (STANDING - self.standing)]
            poor = [n for n in range(BUYERS) if self.tickets.get(n, 0) < 2]
            for start in range(0, len(wanted), CONNECTIONS):
                part = wanted[start : start + CONNECTIONS]
                buyers = self._rng.sample(poor, len(part))
                await asyncio.gather(*map(self.buy, buyers, part))
            await asyncio.sleep(0.1)

    def _pick(self) -> int | None:
        return None if self._rng.random() < 0.15 else self._rng.randrange(SEATS)


def _move(id_: str, debit: str, credit: str, amount: int) -> dict[str, Any]:
    return {"op": "transfer", "id": id_, "debit": debit, "credit": credit, "amount": amount}


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("pgq", marks=pytest.mark.skipif(bool(no_pgq), reason=no_pgq)),
        pytest.param("outbox", marks=pytest.mark.skipif(bool(no_server), reason=no_server)),
    ]
)
async def running(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[nodes.Node, str]]:
    """A node, and the URL of its store if that is PostgreSQL."""
    if request.param == "sqlite":
        with nodes.running(tmp_path) as node:
            yield node, ""
        return
    cluster: clusters.Cluster = request.getfixturevalue("cluster")
    url = await pg_nodes.migrated(cluster, request.param)
    with pg_nodes.serving(tmp_path, "one", url) as node:
        yield node, url


async def test_everything_is_sold_once_and_the_money_is_right(
    running: tuple[nodes.Node, str], seed: int
) -> None:
    node, url = running
    sale = Sale(node, random.Random(seed))
    try:
        await sale.open()
        selling = asyncio.create_task(sale.run())
        while len(sale.seats) < SEATS / 3:
            await asyncio.sleep(0.01)
            assert not selling.done()
        await asyncio.to_thread(node.kill)
        await asyncio.to_thread(node.start)
        await selling
        await asyncio.sleep(CART_S + 0.1)  # carts left behind have expired
    finally:
        await sale.close()
    assert sale.left
    node.terminate()
    kinds = Kinds()
    store: Store = await (
        PostgresStore.open(url, kinds) if url else SqliteStore.open(str(node.store), kinds)
    )
    try:
        await check(store, sale)
    finally:
        await store.close()


async def check(store: Store, sale: Sale) -> None:
    for seat, cart in sale.seats.items():
        [edge] = (await store.edges("seat", f"S{seat}", Window())).edges
        assert (edge.source, edge.expires_ms) == (cart, None)
    assert (len(sale.seats), sale.standing) == (SEATS, STANDING)
    ids = ["mint", "hall", "till", "seats", "standing"]
    ids += [f"{what}-{n}" for n in range(BUYERS) for what in ("purse", "tickets")]
    found = {id_: (await store.account(id_))[0] for id_ in ids}
    balances = {id_: account.balance for id_, account in found.items() if account}
    assert len(balances) == len(ids)
    assert all(account.held == account.expected == 0 for account in found.values() if account)
    assert sum(balances.values()) == 0
    assert balances["till"] == PRICE * (SEATS + STANDING)
    assert (balances["seats"], balances["standing"]) == (0, 0)
    assert (balances["mint"], balances["hall"]) == (-PURSE * BUYERS, -SEATS - STANDING)
    for n in range(BUYERS):
        tickets = sale.tickets.get(n, 0)
        assert balances[f"tickets-{n}"] == tickets <= LIMIT
        assert balances[f"purse-{n}"] == PURSE - PRICE * tickets
