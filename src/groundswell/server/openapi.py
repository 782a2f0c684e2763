"""The OpenAPI document and the page that shows it, made from the table of endpoints."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from groundswell import errors, wire
from groundswell.server.problems import TITLES, status_of
from groundswell.server.routes import Endpoint

_ALWAYS = ("bad-request", "unauthenticated", "forbidden")


def document(endpoints: Sequence[Endpoint], version: str, *, keys: bool) -> dict[str, Any]:
    """The API as an OpenAPI 3.1 document; `keys` says whether the node needs any."""
    shapes = {wire.Problem} | {
        shape for e in endpoints for shape in (e.body, e.answer) if shape is not None
    }
    ordered = sorted(shapes, key=lambda shape: str(shape.__name__))
    schemas, components = msgspec.json.schema_components(
        ordered, ref_template="#/components/schemas/{name}"
    )
    refs = dict(zip(ordered, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        operation = _operation(endpoint, refs)
        if endpoint.scope is not None:
            operation["security"] = [{"key": []}] if keys else [{"key": []}, {}]
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Groundswell",
            "version": version,
            "description": "Social counts that stay right, fast and honest.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(endpoint: Endpoint, refs: dict[Any, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.handler.__name__,
        "summary": endpoint.summary,
        "parameters": _parameters(endpoint),
        "responses": _responses(endpoint, refs),
    }
    if endpoint.body is not None:
        operation["requestBody"] = {
            "required": endpoint.body_required,
            "content": {"application/json": {"schema": refs[endpoint.body]}},
        }
    return operation


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    found = [
        _parameter(name, "path", {"type": "string", "minLength": 1}, required=True)
        for name in re.findall(r"{(\w+)}", endpoint.path)
    ]
    if endpoint.query is not None:
        found += [
            _parameter(field.encode_name, "query", _inlined(field.type), required=field.required)
            for field in msgspec.structs.fields(endpoint.query)
        ]
    found += [_parameter(name, "header", {"type": "string"}) for name in endpoint.headers]
    if endpoint.scope is not None:
        tokens = _parameter(wire.SESSION_HEADER, "header", {"type": "string"})
        tokens["description"] = "One session token, or several separated by commas."
        found.append(tokens)
    return found


def _parameter(
    name: str, place: str, schema: dict[str, Any], *, required: bool = False
) -> dict[str, Any]:
    return {"name": name, "in": place, "required": required, "schema": schema}


def _inlined(shape: Any) -> dict[str, Any]:
    """The schema of a query parameter, without null, and with what it refers to in its place.

    References inside a parameter would need the components.
    """
    schema = msgspec.json.schema(shape)
    defs = schema.pop("$defs", {})

    def resolved(one: dict[str, Any]) -> dict[str, Any]:
        return defs[one["$ref"].rsplit("/", 1)[1]] if "$ref" in one else one

    if "anyOf" not in schema:
        return resolved(schema)
    return {"anyOf": [resolved(one) for one in schema["anyOf"] if one != {"type": "null"}]}


def _responses(endpoint: Endpoint, refs: dict[Any, Any]) -> dict[str, Any]:
    schema = {"type": "string"} if endpoint.answer is None else refs[endpoint.answer]
    responses: dict[str, Any] = {
        "200": {
            "description": "Done",
            "headers": {
                wire.SESSION_HEADER: {
                    "description": "The session's token after this call.",
                    "schema": {"type": "string"},
                }
            },
            "content": {endpoint.content_type: {"schema": schema}},
        }
    }
    codes = (*_ALWAYS, *endpoint.errors) if endpoint.scope is not None else ()
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(status_of(type(errors.by_code(code, ""))), []).append(code)
    for status, listed in sorted(by_status.items()):
        responses[str(status)] = {
            "description": f"{TITLES[status]}: {', '.join(listed)}",
            "content": {"application/problem+json": {"schema": refs[wire.Problem]}},
        }
    if endpoint.answer is wire.HealthAnswer:
        responses["503"] = {
            "description": "Not well",
            "content": {"application/json": {"schema": refs[wire.HealthAnswer]}},
        }
    return responses


def page(api: dict[str, Any]) -> bytes:
    """The document for people: one HTML page without scripts."""
    rows = []
    for path, operations in api["paths"].items():
        for method, operation in operations.items():
            parameters = ", ".join(p["name"] for p in operation["parameters"] if p["in"] == "query")
            answers = "<br>".join(
                f"{status} {html.escape(response['description'])}"
                for status, response in operation["responses"].items()
            )
            rows.append(
                f"<tr><td><code>{method.upper()}</code></td><td><code>{html.escape(path)}</code>"
                f"<br>{html.escape(operation['summary'])}</td>"
                f"<td>{html.escape(parameters)}</td><td>{answers}</td></tr>"
            )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Groundswell API</title>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        "<style>body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;"
        "padding:0 1rem;color-scheme:light dark}table{border-collapse:collapse;width:100%}"
        "td,th{border-top:1px solid #8886;padding:.4rem;text-align:left;vertical-align:top}</style>"
        f"<h1>Groundswell API, {html.escape(api['info']['version'])}</h1>"
        "<p>The machine-readable form is <a href=/openapi.json>/openapi.json</a>.</p>"
        "<table><tr><th>Method<th>Path<th>Query<th>Answers</tr>" + "".join(rows) + "</table></html>"
    ).encode()
