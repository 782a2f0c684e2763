"""The OpenAPI document: valid, complete, and true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nodes
from groundswell.server.routes import ENDPOINTS

PLACES = {"kind": "like", "target": "1", "source": "1", "id": "x"}
METHODS = {"get", "put", "post", "delete"}


@pytest.fixture(scope="session")
def document(shared_node: nodes.Node) -> dict[str, Any]:
    answer = shared_node.request("GET", "/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    found: dict[str, Any] = answer.json
    return found


def everything_in(value: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object within a value."""
    if isinstance(value, dict):
        yield value
    for inner in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        yield from everything_in(inner)


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_the_document_has_the_parts_of_openapi_3_1(document: dict[str, Any]) -> None:
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    assert document["info"].keys() >= {"title", "version"}
    assert set(document) <= {"openapi", "info", "paths", "components"}
    assert set(document["components"]) <= {"schemas", "securitySchemes"}
    for method, path, operation in operations(document):
        assert method in METHODS
        assert path.startswith("/")
        assert operation["summary"]
        assert operation["responses"]
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[1-5]\d\d", status)
            assert response["description"]
            assert all(media.keys() == {"schema"} for media in response["content"].values())


def test_every_operation_has_a_name_of_its_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))


def test_every_path_parameter_is_described_once(document: dict[str, Any]) -> None:
    for _, path, operation in operations(document):
        described = [p["name"] for p in operation["parameters"] if p["in"] == "path"]
        assert described == re.findall(r"{(\w+)}", path)
        assert all(p["required"] for p in operation["parameters"] if p["in"] == "path")
        places = [(p["in"], p["name"]) for p in operation["parameters"]]
        assert len(places) == len(set(places))


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    references = [part["$ref"] for part in everything_in(document) if "$ref" in part]
    assert references
    for reference in references:
        place: Any = document
        assert reference.startswith("#/")
        for step in reference[2:].split("/"):
            place = place[step]
        assert isinstance(place, dict)


def test_every_schema_is_valid_and_none_is_left_over(document: dict[str, Any]) -> None:
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for _, _, operation in operations(document):
        for parameter in operation["parameters"]:
            jsonschema.Draft202012Validator.check_schema(parameter["schema"])
    used = {part["$ref"].rsplit("/", 1)[1] for part in everything_in(document) if "$ref" in part}
    assert used == set(document["components"]["schemas"])


def test_every_security_scheme_exists(document: dict[str, Any]) -> None:
    schemes = document["components"]["securitySchemes"]
    for _, path, operation in operations(document):
        named = {name for one in operation.get("security", []) for name in one}
        assert named <= set(schemes)
        assert bool(named) is (path not in ("/healthz", "/readyz"))


def test_every_endpoint_is_in_the_document(document: dict[str, Any]) -> None:
    served = {(endpoint.method.lower(), endpoint.path) for endpoint in ENDPOINTS}
    assert {(method, path) for method, path, _ in operations(document)} == served


def test_every_path_of_the_document_is_served(node: nodes.Node, document: dict[str, Any]) -> None:
    for method, path, _ in operations(document):
        answer = node.request(method.upper(), path.format(**PLACES))
        assert answer.status != 405
        if answer.status == 404:
            assert answer.json["code"] in {
                "object-not-found",
                "edge-not-found",
                "account-not-found",
                "transfer-not-found",
            }, path


def test_a_path_takes_exactly_the_documented_methods(
    node: nodes.Node, document: dict[str, Any]
) -> None:
    for path, methods in document["paths"].items():
        answer = node.request("PATCH", path.format(**PLACES))
        assert answer.status == 405
        assert set(answer.headers["allow"].lower().split(", ")) == set(methods)


def check(document: dict[str, Any], method: str, path: str, answer: nodes.Answer) -> None:
    """The answer is one that the document describes."""
    method = "GET" if method == "HEAD" else method
    responses = document["paths"][path][method.lower()]["responses"]
    assert str(answer.status) in responses, (method, path, answer)
    [(media, content)] = responses[str(answer.status)]["content"].items()
    assert answer.headers["content-type"].split(";")[0] == media
    if not media.endswith("json"):
        return
    schema = content["schema"] | {"components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(answer.json)
    if answer.status >= 400 and media.startswith("application/problem"):
        assert answer.json["code"] in responses[str(answer.status)]["description"], answer


ADD = {"op": "add", "kind": "like", "target": 9, "source": 9}
PUT = {"type": "t", "data": {"a": [1, None, "x"]}}
DELETE = {"op": "delete", "id": "w"}
TRANSFER = {"id": "1", "debit": "mint", "credit": "x", "amount": 9}
HOLD = {"id": "hold", "pending": True, "expires_in_s": 60}
ACCOUNT = "/v1/accounts/{id}"
E = "/v1/edges/{kind}/{target}/{source}"
CALLS: list[tuple[str, str, dict[str, str], str, Any, int]] = [
    # method, path, its parameters, query, body, status
    ("PUT", E, {}, "", None, 200),
    ("PUT", E, {"kind": "review"}, "", {"value": 5, "data": {"text": "x"}}, 200),
    ("PUT", E, {"kind": "review"}, "", {"value": 9}, 400),
    ("PUT", E, {"kind": "nope"}, "", None, 404),
    ("PUT", E, {"kind": "tag", "target": "x" * 129}, "", None, 413),
    ("PUT", E, {"kind": "seat", "target": "S"}, "", None, 200),
    ("PUT", E, {"kind": "seat", "target": "S", "source": "2"}, "", None, 409),
    ("GET", E, {}, "", None, 200),
    ("GET", E, {"kind": "review"}, "", None, 200),
    ("GET", E, {"source": "404"}, "", None, 404),
    ("GET", E, {"source": "x"}, "", None, 400),
    ("GET", E, {"kind": "tag", "target": "x" * 129}, "", None, 413),
    ("GET", "/v1/edges/{kind}/{target}", {}, "", None, 200),
    ("GET", "/v1/edges/{kind}/{target}", {"kind": "review"}, "limit=1", None, 200),
    ("GET", "/v1/edges/{kind}/{target}", {"target": "4040"}, "", None, 200),
    ("GET", "/v1/edges/{kind}/{target}", {}, "limit=0", None, 400),
    ("GET", "/v1/edges/{kind}/{target}", {"kind": "nope"}, "", None, 404),
    ("GET", "/v1/edges/{kind}/{target}", {"kind": "tag", "target": "x" * 129}, "", None, 413),
    ("GET", "/v1/edges/{kind}", {}, "source=1", None, 200),
    ("GET", "/v1/edges/{kind}", {}, "", None, 400),
    ("GET", "/v1/edges/{kind}", {"kind": "nope"}, "source=1", None, 404),
    ("GET", "/v1/edges/{kind}", {"kind": "tag"}, "source=" + "x" * 129, None, 413),
    ("GET", "/v1/counts/{kind}/{target}", {}, "", None, 200),
    ("GET", "/v1/counts/{kind}/{target}", {"kind": "review"}, "", None, 200),
    ("GET", "/v1/counts/{kind}/{target}", {}, "consistency=linearizable", None, 200),
    ("GET", "/v1/counts/{kind}/{target}", {}, "consistency=x", None, 400),
    ("GET", "/v1/counts/{kind}/{target}", {"kind": "nope"}, "", None, 404),
    ("GET", "/v1/counts/{kind}/{target}", {"kind": "tag", "target": "x" * 129}, "", None, 413),
    ("GET", "/v1/counts/{kind}/{target}", {}, "max_age_ms=0&wait_ms=0&fallback=none", None, 503),
    ("POST", "/v1/counts", {}, "", {"keys": [["like", 1], ["review", 1]]}, 200),
    ("POST", "/v1/counts", {}, "", {"keys": []}, 400),
    ("POST", "/v1/counts", {}, "", {"keys": [["nope", 1]]}, 404),
    ("POST", "/v1/counts", {}, "", {"keys": [["like", n] for n in range(1_001)]}, 413),
    ("POST", "/v1/page", {}, "", {"keys": [["follow", 31], ["view", 1]], "viewer": 1}, 200),
    ("POST", "/v1/page", {}, "", {"keys": [["review", 31]], "newest": 50}, 200),
    ("POST", "/v1/page", {}, "", {"keys": [["like", 1]], "newest": 51}, 400),
    ("POST", "/v1/page", {}, "", {"keys": [["nope", 1]]}, 404),
    ("POST", "/v1/page", {}, "", {"keys": [["like", n] for n in range(201)]}, 413),
    ("POST", "/v1/tallies/{kind}/{target}", {"kind": "view"}, "", {"by": 2, "id": "x"}, 200),
    ("POST", "/v1/tallies/{kind}/{target}", {"kind": "view"}, "", None, 200),
    ("POST", "/v1/tallies/{kind}/{target}", {"kind": "like"}, "", None, 400),
    ("POST", "/v1/tallies/{kind}/{target}", {"kind": "nope"}, "", None, 404),
    ("POST", "/v1/tallies/{kind}/{target}", {"kind": "view"}, "", {"id": "x" * 129}, 413),
    ("POST", "/v1/writes", {}, "", {"writes": [ADD, ADD | {"kind": "nope"}]}, 200),
    ("POST", "/v1/writes", {}, "", {"writes": [{"op": "put", "id": "w"} | PUT, ADD]}, 200),
    ("POST", "/v1/writes", {}, "", {"writes": [ADD | {"kind": "nope"}], "atomic": True}, 404),
    ("POST", "/v1/writes", {}, "", {"writes": [{"op": "?"}]}, 400),
    ("POST", "/v1/writes", {}, "", {"writes": [ADD] * 10_001}, 413),
    ("POST", "/v1/writes", {}, "", {"writes": [DELETE | {"if_version": 9}], "atomic": True}, 409),
    ("GET", "/v1/ratings/{kind}/{target}", {"kind": "review"}, "", None, 200),
    ("GET", "/v1/ratings/{kind}/{target}", {"kind": "like"}, "", None, 400),
    ("GET", "/v1/ratings/{kind}/{target}", {"kind": "nope"}, "", None, 404),
    ("GET", "/v1/ratings/{kind}/{target}", {"kind": "tag", "target": "x" * 129}, "", None, 413),
    ("PUT", ACCOUNT, {"id": "mint"}, "", {"floor": None}, 200),
    ("PUT", ACCOUNT, {}, "", None, 200),
    ("PUT", ACCOUNT, {}, "", {"floor": 5}, 409),
    ("PUT", ACCOUNT, {}, "", {"floor": 5, "ceiling": 4}, 400),
    ("PUT", ACCOUNT, {"id": "x" * 129}, "", None, 413),
    ("GET", ACCOUNT, {}, "", None, 200),
    ("GET", ACCOUNT, {"id": "mint"}, "consistency=linearizable", None, 200),
    ("GET", ACCOUNT, {"id": "none"}, "", None, 404),
    ("GET", ACCOUNT, {"id": "x" * 129}, "", None, 413),
    ("POST", "/v1/transfers", {}, "", TRANSFER, 200),
    ("POST", "/v1/transfers", {}, "", TRANSFER | {"amount": 10}, 409),
    ("POST", "/v1/transfers", {}, "", TRANSFER | {"id": "2", "credit": "none"}, 404),
    ("POST", "/v1/transfers", {}, "", TRANSFER | {"amount": 0}, 400),
    ("POST", "/v1/transfers", {}, "", TRANSFER | {"id": "x" * 129}, 413),
    ("POST", "/v1/transfers", {}, "", TRANSFER | HOLD, 200),
    ("GET", "/v1/transfers/{id}", {"id": "1"}, "", None, 200),
    ("GET", "/v1/transfers/{id}", {"id": "hold"}, "", None, 200),
    ("GET", "/v1/transfers/{id}", {"id": "none"}, "", None, 404),
    ("GET", "/v1/transfers/{id}", {"id": "x" * 129}, "", None, 413),
    ("POST", "/v1/transfers/{id}/post", {"id": "hold"}, "", {"amount": 1}, 200),
    ("POST", "/v1/transfers/{id}/post", {"id": "hold"}, "", None, 409),
    ("POST", "/v1/transfers/{id}/post", {"id": "none"}, "", None, 404),
    ("POST", "/v1/transfers/{id}/post", {"id": "hold"}, "", {"amount": 1.5}, 400),
    ("POST", "/v1/transfers", {}, "", TRANSFER | HOLD | {"id": "other"}, 200),
    ("POST", "/v1/transfers/{id}/void", {"id": "other"}, "", None, 200),
    ("POST", "/v1/transfers/{id}/void", {"id": "other"}, "", None, 409),
    ("POST", "/v1/transfers/{id}/void", {"id": "none"}, "", None, 404),
    ("GET", "/v1/accounts/{id}/transfers", {"id": "mint"}, "limit=2", None, 200),
    ("GET", "/v1/accounts/{id}/transfers", {"id": "none"}, "", None, 200),
    ("GET", "/v1/accounts/{id}/transfers", {}, "limit=0", None, 400),
    ("GET", "/v1/accounts/{id}/transfers", {"id": "x" * 129}, "", None, 413),
    ("POST", "/v1/writes", {}, "", {"writes": [TRANSFER | {"op": "transfer", "id": "3"}]}, 200),
    ("POST", "/v1/writes", {}, "", {"writes": [{"op": "account", "id": "w"}]}, 200),
    ("PUT", "/v1/objects/{id}", {}, "", PUT, 200),
    ("PUT", "/v1/objects/{id}", {}, "", {"type": "t"}, 400),
    ("PUT", "/v1/objects/{id}", {}, "", PUT | {"if_version": 9}, 409),
    ("PUT", "/v1/objects/{id}", {"id": "x" * 129}, "", PUT, 413),
    ("GET", "/v1/objects/{id}", {}, "consistency=linearizable", None, 200),
    ("GET", "/v1/objects/{id}", {"id": "none"}, "", None, 404),
    ("GET", "/v1/objects/{id}", {}, "x=1", None, 400),
    ("GET", "/v1/objects/{id}", {"id": "x" * 129}, "", None, 413),
    ("DELETE", "/v1/objects/{id}", {}, "if_version=9", None, 409),
    ("DELETE", "/v1/objects/{id}", {}, "", None, 200),
    ("DELETE", "/v1/objects/{id}", {}, "if_version=x", None, 400),
    ("DELETE", "/v1/objects/{id}", {"id": "x" * 129}, "", None, 413),
    ("DELETE", E, {}, "", None, 200),
    ("DELETE", E, {"kind": "nope"}, "", None, 404),
    ("DELETE", E, {"target": "x"}, "", None, 400),
    ("DELETE", E, {"kind": "tag", "target": "x" * 129}, "", None, 413),
    ("GET", "/v1/trending/{kind}", {}, "", None, 200),
    ("GET", "/v1/trending/{kind}", {"kind": "review"}, "window_s=60&limit=100", None, 200),
    ("GET", "/v1/trending/{kind}", {}, "window_s=0", None, 400),
    ("GET", "/v1/trending/{kind}", {"kind": "nope"}, "", None, 404),
    ("HEAD", "/v1/stream", {}, "key=like:1&key=review:1", None, 200),  # GET never ends
    ("HEAD", "/v1/pulse", {}, "key=like:1", None, 200),  # nor does this
    ("GET", "/v1/pulse", {}, "key=like", None, 400),
    ("GET", "/v1/pulse", {}, "key=nope:1", None, 404),
    ("GET", "/v1/pulse", {}, "key=tag:" + "x" * 129, None, 413),
    ("GET", "/v1/stream", {}, "", None, 400),
    ("GET", "/v1/stream", {}, "key=nope:1", None, 404),
    ("GET", "/v1/stream", {}, "key=tag:" + "x" * 129, None, 413),
    ("GET", "/v1/status", {}, "", None, 200),
    ("GET", "/v1/status", {}, "x=1", None, 400),
    ("GET", "/metrics", {}, "", None, 200),
    ("GET", "/healthz", {}, "", None, 200),
    ("GET", "/readyz", {}, "", None, 200),
]  # fmt: skip


def test_real_answers_are_as_documented(node: nodes.Node, document: dict[str, Any]) -> None:
    for method, path, parameters, query, body, status in CALLS:
        places = {"kind": "follow", "target": "31", "source": "1", "id": "openapi"} | parameters
        answer = node.request(method, path.format(**places) + ("?" + query if query else ""), body)
        assert answer.status == status, (method, path, answer)
        check(document, method, path, answer)
    answered = {
        (method.lower().replace("head", "get"), path)
        for method, path, *_, status in CALLS
        if status == 200
    }
    assert answered == {(method, path) for method, path, _ in operations(document)}


def test_a_bad_token_is_documented_wherever_one_is_taken(
    node: nodes.Node, document: dict[str, Any]
) -> None:
    taken = 0
    for method, path, parameters, query, body, status in CALLS:
        if (
            status == 200
            and method != "HEAD"
            and path not in ("/v1/status", "/metrics", "/healthz", "/readyz")
        ):
            places = {"kind": "follow", "target": "31", "source": "1", "id": "openapi"} | parameters
            url = path.format(**places) + ("?" + query if query else "")
            answer = node.request(method, url, body, tokens="garbage")
            nodes.problem(answer, 400, "bad-token")
            check(document, method, path, answer)
            taken += 1
    assert taken > 10


def test_answers_without_a_key_are_as_documented(tmp_path: Path, document: dict[str, Any]) -> None:
    toml = f'[[keys]]\nname = "x"\nsha256 = "{"0" * 64}"\nscopes = []\n'
    with nodes.running(tmp_path, toml=toml) as guarded:
        for method, path, _ in operations(document):
            answer = guarded.request(method.upper(), path.format(**PLACES))
            check(document, method, path, answer)
            assert (answer.status == 401) is (path not in ("/healthz", "/readyz"))


@settings(
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    source=st.integers(-(2**63) + 1, 2**63 - 1),
    value=st.integers(1, 5),
    data=st.none() | st.dictionaries(st.text("abc", max_size=3), st.integers(-9, 9), max_size=3),
)
def test_whatever_an_edge_carries_its_answer_is_as_documented(
    node: nodes.Node, document: dict[str, Any], source: int, value: int, data: dict[str, int] | None
) -> None:
    path = f"/v1/edges/review/31/{source}"
    put = node.request("PUT", path, {"value": value, "data": data})
    got = node.request("GET", path)
    check(document, "PUT", E, put)
    check(document, "GET", E, got)
    assert (got.json["source"], got.json["value"], got.json.get("data")) == (source, value, data)


def test_the_page_for_people_shows_every_endpoint(
    node: nodes.Node, document: dict[str, Any]
) -> None:
    answer = node.request("GET", "/docs")
    page = answer.body.decode()
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert page.startswith("<!doctype html>")
    assert "<script" not in page
    for method, path, operation in operations(document):
        assert f"<code>{method.upper()}</code></td><td><code>{path}</code>" in page
        assert operation["summary"] in page
