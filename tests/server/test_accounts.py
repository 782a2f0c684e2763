"""Accounts and transfers over HTTP: what is asked for wrongly, levels, and what has expired."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nodes

_names = itertools.count(1)


@pytest.fixture
def bank(node: nodes.Node) -> Iterator[tuple[nodes.Node, str, str]]:
    """The shared node, an account with 100, and one with nothing whose ceiling is 50."""
    n = next(_names)
    mint, rich, poor = f"mint-{n}", f"rich-{n}", f"poor-{n}"
    assert node.request("PUT", f"/v1/accounts/{mint}", {"floor": None}).status == 200
    assert node.request("PUT", f"/v1/accounts/{rich}").status == 200
    assert node.request("PUT", f"/v1/accounts/{poor}", {"ceiling": 50}).status == 200
    move = {"id": f"minted-{n}", "debit": mint, "credit": rich, "amount": 100}
    assert node.request("POST", "/v1/transfers", move).status == 200
    yield node, rich, poor


def balance(node: nodes.Node, id_: str, level: str = "linearizable") -> tuple[int, int, int]:
    """As the primary says it, or at any other level a replica alone, which is waited for."""
    by = "" if level == "linearizable" else "&fallback=none&wait_ms=20000"
    found = node.request("GET", f"/v1/accounts/{id_}?consistency={level}{by}").json
    return found["balance"], found["held"], found["expected"]


WRONG: list[tuple[dict[str, Any], int, str]] = [
    ({"amount": 0}, 400, "whole number"),
    ({"amount": -1}, 400, "whole number"),
    ({"amount": 1.5}, 400, "int"),
    ({"amount": "1"}, 400, "int"),
    ({"amount": True}, 400, "int"),
    ({"amount": None}, 400, "int"),
    ({"amount": 2**63}, 400, ""),
    ({"amount": 2**200}, 400, ""),
    ({"credit": "{rich}"}, 400, "both debit and credit"),
    ({"credit": ""}, 400, "empty"),
    ({"id": ""}, 400, "empty"),
    ({"id": "x" * 129}, 413, "128"),
    ({"id": "a\u0000b"}, 400, "control"),
    ({"expires_in_s": 5}, 400, "pending"),
    ({"pending": True, "expires_in_s": 0}, 400, "expires_in_s"),
    ({"pending": True, "expires_in_s": -1}, 400, "expires_in_s"),
    ({"pending": True, "expires_in_s": 1e12}, 400, "expires_in_s"),
    ({"pending": 1}, 400, "bool"),
    ({"amuont": 1}, 400, "amuont"),
    ({"debit": "nobody"}, 404, "no account 'nobody'"),
    ({"credit": "nobody"}, 404, "no account 'nobody'"),
    ({"amount": 101, "credit": "{mint}"}, 409, "100 available"),
    ({"amount": 51}, 409, "room for 50"),
]


@pytest.mark.parametrize(("wrong", "status", "said"), WRONG, ids=[str(w[0])[:40] for w in WRONG])
@pytest.mark.parametrize("bulk", [False, True])
def test_a_wrong_transfer_changes_nothing(
    bank: tuple[nodes.Node, str, str], wrong: dict[str, Any], status: int, said: str, bulk: bool
) -> None:
    node, rich, poor = bank
    places = {"rich": rich, "mint": rich.replace("rich", "mint")}
    wrong = {k: v.format(**places) if isinstance(v, str) else v for k, v in wrong.items()}
    transfer = {"id": f"t-{rich}", "debit": rich, "credit": poor, "amount": 5} | wrong
    if bulk:
        writes = [{"op": "transfer"} | transfer]
        answer = node.request("POST", "/v1/writes", {"writes": writes, "atomic": True})
    else:
        answer = node.request("POST", "/v1/transfers", transfer)
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    assert said in answer.json["detail"]
    assert [balance(node, id_) for id_ in (rich, poor)] == [(100, 0, 0), (0, 0, 0)]
    assert node.request("GET", f"/v1/accounts/{poor}/transfers").json["transfers"] == []


def test_a_hold_is_answered_for_wrongly(bank: tuple[nodes.Node, str, str]) -> None:
    node, rich, poor = bank
    hold = {"debit": rich, "credit": poor, "amount": 9, "pending": True}
    for name in ("posted", "voided", "over", "open"):
        expiry = {"expires_in_s": 0.05} if name == "over" else {}
        made = node.request("POST", "/v1/transfers", hold | expiry | {"id": f"{name}-{rich}"})
        assert made.status == 200
    assert node.request("POST", f"/v1/transfers/posted-{rich}/post").status == 200
    assert node.request("POST", f"/v1/transfers/voided-{rich}/void").status == 200
    time.sleep(0.06)
    before = [balance(node, id_) for id_ in (rich, poor)]
    wrong: list[tuple[str, dict[str, int] | None, str]] = [
        (f"posted-{rich}/post", None, "has been posted"),
        (f"posted-{rich}/void", None, "has been posted"),
        (f"voided-{rich}/post", None, "was voided"),
        (f"voided-{rich}/void", None, "was voided"),
        (f"over-{rich}/post", None, "has expired"),
        (f"over-{rich}/void", None, "has expired"),
        (f"open-{rich}/post", {"amount": 10}, "holds 9, less than 10"),
        (f"minted-{rich.split('-')[1]}/post", None, "has been posted"),
    ]
    for path, body, said in wrong:
        answer = node.request("POST", f"/v1/transfers/{path}", body)
        assert (answer.status, answer.json["code"]) == (409, "transfer-conflict"), path
        assert said in answer.json["detail"]
    for amount in (0, -1, 0.5, 2**63, "1"):
        answer = node.request("POST", f"/v1/transfers/open-{rich}/post", {"amount": amount})
        assert (answer.status, answer.json["code"]) == (400, "bad-request"), amount
    assert [balance(node, id_) for id_ in (rich, poor)] == before == [(91, 9, 0), (9, 0, 9)]


@pytest.mark.parametrize(
    ("bounds", "status", "code"),
    [
        ({"floor": 101}, 409, "insufficient-funds"),
        ({"ceiling": 99}, 409, "ceiling-exceeded"),
        ({"floor": 3, "ceiling": 2}, 400, "bad-request"),
        ({"floor": 2**63}, 400, "bad-request"),
        ({"floor": "0"}, 400, "bad-request"),
        ({"ceiling": 1.5}, 400, "bad-request"),
        ({"cieling": 5}, 400, "bad-request"),
    ],
)
def test_wrong_bounds_change_nothing(
    bank: tuple[nodes.Node, str, str], bounds: dict[str, Any], status: int, code: str
) -> None:
    node, rich, _ = bank
    answer = node.request("PUT", f"/v1/accounts/{rich}", bounds)
    assert (answer.status, answer.json["code"]) == (status, code), answer
    found = node.request("GET", f"/v1/accounts/{rich}").json
    assert (found["floor"], found["ceiling"], found["balance"]) == (0, None, 100)


def test_a_retry_gets_the_first_answer(bank: tuple[nodes.Node, str, str]) -> None:
    node, rich, poor = bank
    transfer = {"id": f"t-{rich}", "debit": rich, "credit": poor, "amount": 5}
    first = node.request("POST", "/v1/transfers", transfer)
    node.request("POST", "/v1/transfers", transfer | {"id": f"u-{rich}", "amount": 1})
    again = node.request("POST", "/v1/transfers", transfer)
    assert again.body == first.body
    assert balance(node, rich) == (94, 0, 0)


def test_objects_cannot_pose_as_accounts(bank: tuple[nodes.Node, str, str]) -> None:
    node, rich, _ = bank
    put = {"type": "account", "data": {"balance": 10**9}}
    for method, body in (("PUT", put), ("GET", None), ("DELETE", None)):
        answer = node.request(method, f"/v1/objects/account:{rich}", body)
        assert (answer.status, answer.json["code"]) == (400, "bad-request")


@pytest.mark.parametrize("level", ["eventual", "read_your_writes", "monotonic", "causal"])
def test_balances_can_be_read_from_replicas(bank: tuple[nodes.Node, str, str], level: str) -> None:
    node, rich, poor = bank
    transfer = {"id": f"t-{rich}", "debit": rich, "credit": poor, "amount": 5}
    token = node.request("POST", "/v1/transfers", transfer).token
    path = f"/v1/accounts/{rich}?consistency={level}&fallback=none&wait_ms=5000"
    if level == "eventual":
        nodes.until(lambda: balance(node, rich, level) == (95, 0, 0), "the replica has it")
    found = node.request("GET", path, tokens=token).json
    if level != "monotonic":
        assert (found["balance"], found["available"]) == (95, 95)
    assert found["read"]["served_by"].startswith("replica")


def test_what_has_expired_is_let_go_of_in_the_background(
    bank: tuple[nodes.Node, str, str],
) -> None:
    node, rich, poor = bank
    expiry = {"expires_in_s": 2}  # on a busy machine too it is not over when the next answer comes
    hold = {"debit": rich, "credit": poor, "amount": 9, "pending": True} | expiry
    node.request("POST", "/v1/transfers", hold | {"id": f"h-{rich}"})
    assert balance(node, rich) == (100, 9, 0)
    node.request("PUT", f"/v1/edges/seat/{rich}/1", expiry)
    assert node.request("PUT", f"/v1/edges/seat/{rich}/2").json["code"] == "seat-taken"
    nodes.until(lambda: balance(node, rich, "eventual") == (100, 0, 0), "replicas show it")
    nodes.until(lambda: balance(node, poor, "eventual") == (0, 0, 0), "replicas show it")
    place = f"/v1/edges/seat/{rich}/1"
    nodes.until(lambda: node.request("GET", place).status == 404, "the claim is gone")
    path = f"/v1/counts/seat/{rich}?consistency=eventual"
    nodes.until(lambda: node.request("GET", path).json["count"] == 0, "replicas show it")
    assert node.request("PUT", f"/v1/edges/seat/{rich}/2").status == 200


def test_a_claim_says_when_it_expires(node: nodes.Node, target: int) -> None:
    place = f"/v1/edges/seat/s{target}/1"
    assert node.request("PUT", place, {"expires_in_s": 60}).json == {"changed": True}
    left_ms = node.request("GET", place).json["expires_ms"] - time.time() * 1000
    assert 55_000 < left_ms <= 60_001
    listed = node.request("GET", f"/v1/edges/seat/s{target}").json["edges"]
    assert "expires_ms" in listed[0]
    assert node.request("PUT", place).json == {"changed": True}
    assert "expires_ms" not in node.request("GET", place).json
    for body in ({"expires_in_s": 0}, {"expires_in_s": "5"}, {"expires_in_s": 1e10}):
        assert node.request("PUT", place, body).status == 400
    like = node.request("PUT", f"/v1/edges/like/{target}/1", {"expires_in_s": 5})
    assert (like.status, "exclusive" in like.json["detail"]) == (400, True)


def test_accounts_outlive_the_node(tmp_path: Path) -> None:
    with nodes.running(tmp_path) as node:
        node.request("PUT", "/v1/accounts/mint", {"floor": None})
        node.request("PUT", "/v1/accounts/a")
        move = {"id": "1", "debit": "mint", "credit": "a", "amount": 5}
        node.request("POST", "/v1/transfers", move)
        hold = {"id": "2", "debit": "a", "credit": "mint", "amount": 2, "pending": True}
        node.request("POST", "/v1/transfers", hold)
        node.kill()
        node.start()
        assert balance(node, "a") == (5, 2, 0)
        assert node.request("POST", "/v1/transfers", move).status == 200
        assert node.request("POST", "/v1/transfers/2/post").status == 200
        assert balance(node, "a") == (3, 0, 0)
        nodes.until(lambda: balance(node, "a", "eventual") == (3, 0, 0), "replicas have it")
