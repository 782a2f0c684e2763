"""The endpoints: one table from which both the routing and the OpenAPI document are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from groundswell import wire
from groundswell.api import Reply
from groundswell.errors import by_code
from groundswell.kinds import parse_id
from groundswell.model import Add, Delete, Put, Remove, Tally
from groundswell.node import Node
from groundswell.server.auth import Scope
from groundswell.server.http import Request, Response, answered
from groundswell.server.problems import problem
from groundswell.store import Changed, Outcome, Refused, Stored

Handler = Callable[[Node, Request], Awaitable[Response]]

_DEFAULT: Final = wire.ReadOptions()


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One method on one path, as it is served and documented."""

    method: str
    path: str  # with {parameters}
    summary: str
    handler: Handler
    scope: Scope | None  # that a key needs; None: open to everybody
    query: Any = None  # struct of the query parameters
    body: Any = None  # struct of the request's body
    body_required: bool = True
    answer: Any = None  # struct of the answer; None: not JSON
    content_type: str = "application/json"
    errors: tuple[str, ...] = ()  # codes beyond those that every endpoint may give


def _reply(reply: Reply[Any]) -> Response:
    return answered(reply.answer, reply.token)


# --- writes ---------------------------------------------------------------------------------------


async def put_edge(node: Node, request: Request) -> Response:
    kind, target, source = request.params
    declared = node.kinds[kind]
    body = await request.body(wire.EdgeRequest, wire.EdgeRequest())
    add = Add(
        kind,
        parse_id(declared.target, target, "target"),
        parse_id(declared.source, source, "source"),
        body.value,
        body.data,
    )
    return _written(await node.write((add,), atomic=True, tokens=request.tokens))


async def delete_edge(node: Node, request: Request) -> Response:
    kind, target, source = request.params
    declared = node.kinds[kind]
    remove = Remove(
        kind,
        parse_id(declared.target, target, "target"),
        parse_id(declared.source, source, "source"),
    )
    return _written(await node.write((remove,), atomic=True, tokens=request.tokens))


async def post_tally(node: Node, request: Request) -> Response:
    kind, target = request.params
    body = await request.body(wire.TallyRequest, wire.TallyRequest())
    tally = Tally(kind, parse_id(node.kinds[kind].target, target, "target"), body.by, body.id)
    return _written(await node.write((tally,), atomic=True, tokens=request.tokens))


async def put_object(node: Node, request: Request) -> Response:
    body = await request.body(wire.ObjectRequest)
    put = Put(request.params[0], body.type, body.data, body.if_version)
    return _written(await node.write((put,), atomic=True, tokens=request.tokens))


async def delete_object(node: Node, request: Request) -> Response:
    query = request.query(wire.DeleteQuery, wire.DeleteQuery())
    delete = Delete(request.params[0], query.if_version)
    return _written(await node.write((delete,), atomic=True, tokens=request.tokens))


def _written(reply: Reply[list[Outcome]]) -> Response:
    outcome = reply.answer[0]
    if isinstance(outcome, Refused):
        return _refused(outcome, reply.token)
    if isinstance(outcome, Stored):
        return answered(wire.VersionAnswer(outcome.version, outcome.changed), reply.token)
    return answered(wire.ChangedAnswer(outcome.changed), reply.token)


def _refused(outcome: Refused, token: str | None, index: int | None = None) -> Response:
    error = by_code(outcome.code, outcome.detail, version=outcome.version)
    error.token, error.index = token, index
    return problem(error)


async def post_writes(node: Node, request: Request) -> Response:
    body = await request.body(wire.WritesRequest)
    reply = await node.write(body.writes, atomic=body.atomic, tokens=request.tokens)
    if body.atomic:
        for index, outcome in enumerate(reply.answer):
            if isinstance(outcome, Refused) and outcome.code != "not-applied":
                return _refused(outcome, reply.token, index)
    answer = wire.WritesAnswer([_outcome(outcome) for outcome in reply.answer])
    return answered(answer, reply.token)


_CHANGED: Final = wire.OutcomeItem(True)
_UNCHANGED: Final = wire.OutcomeItem(False)


def _outcome(outcome: Outcome) -> wire.OutcomeItem:
    if isinstance(outcome, Changed):
        return _CHANGED if outcome.changed else _UNCHANGED
    if isinstance(outcome, Stored):
        return wire.OutcomeItem(outcome.changed, outcome.version)
    return wire.OutcomeItem(False, outcome.version, outcome.code, outcome.detail)


# --- reads ----------------------------------------------------------------------------------------


async def get_count(node: Node, request: Request) -> Response:
    kind, target = request.params
    options = request.query(wire.ReadOptions, _DEFAULT)
    id_ = parse_id(node.kinds[kind].target, target, "target")
    return _reply(await node.count(kind, id_, options, request.tokens))


async def post_counts(node: Node, request: Request) -> Response:
    options = request.query(wire.ReadOptions, _DEFAULT)
    body = await request.body(wire.KeysRequest)
    return _reply(await node.counts(body.keys, options, request.tokens))


async def post_page(node: Node, request: Request) -> Response:
    options = request.query(wire.ReadOptions, _DEFAULT)
    body = await request.body(wire.PageRequest)
    return _reply(
        await node.page(body.keys, options, request.tokens, viewer=body.viewer, newest=body.newest)
    )


async def get_edge(node: Node, request: Request) -> Response:
    kind, target, source = request.params
    declared = node.kinds[kind]
    options = request.query(wire.ReadOptions, _DEFAULT)
    return _reply(
        await node.edge(
            kind,
            parse_id(declared.target, target, "target"),
            parse_id(declared.source, source, "source"),
            options,
            request.tokens,
        )
    )


async def get_edges(node: Node, request: Request) -> Response:
    kind, target = request.params
    query = request.query(wire.ListQuery, wire.ListQuery())
    id_ = parse_id(node.kinds[kind].target, target, "target")
    return _reply(await node.edges(kind, target=id_, query=query, tokens=request.tokens))


async def get_inverse(node: Node, request: Request) -> Response:
    kind = request.params[0]
    query = request.query(wire.InverseQuery)
    id_ = parse_id(node.kinds[kind].source, query.source, "source")
    return _reply(await node.edges(kind, source=id_, query=query, tokens=request.tokens))


async def get_object(node: Node, request: Request) -> Response:
    options = request.query(wire.ReadOptions, _DEFAULT)
    return _reply(await node.object(request.params[0], options, request.tokens))


# --- the node itself ------------------------------------------------------------------------------


async def get_status(node: Node, request: Request) -> Response:
    return answered(await node.status())


async def get_metrics(node: Node, request: Request) -> Response:
    body = await node.metrics()
    return Response(body, headers=((b"content-type", b"text/plain; version=0.0.4"),))


async def get_healthz(node: Node, request: Request) -> Response:
    return _health(node.is_alive())


async def get_readyz(node: Node, request: Request) -> Response:
    return _health(node.is_ready())


def _health(well: bool) -> Response:
    return answered(wire.HealthAnswer(well), status=200 if well else 503)


_READ: Final = ("bad-token", "unknown-kind", "too-large", "replica-late", "store-unavailable")
_PRIMARY: Final = ("bad-token", "unknown-kind", "too-large", "store-unavailable")
_WRITE: Final = ("bad-token", "unknown-kind", "overloaded", "store-unavailable", "too-large")

ENDPOINTS: Final = (
    Endpoint(
        method="GET", path="/v1/counts/{kind}/{target}", handler=get_count, scope=Scope.READ,
        summary="Read one count", query=wire.ReadOptions, answer=wire.CountAnswer, errors=_READ,
    ),
    Endpoint(
        method="POST", path="/v1/counts", handler=post_counts, scope=Scope.READ,
        summary="Read up to 1,000 counts, all at one revision", query=wire.ReadOptions,
        body=wire.KeysRequest, answer=wire.CountsAnswer, errors=_READ,
    ),
    Endpoint(
        method="POST", path="/v1/page", handler=post_page, scope=Scope.READ,
        summary="Read up to 200 counts with their newest edges and those of a viewer, at one revision",
        query=wire.ReadOptions, body=wire.PageRequest, answer=wire.PageAnswer, errors=_READ,
    ),
    Endpoint(
        method="PUT", path="/v1/edges/{kind}/{target}/{source}", handler=put_edge,
        scope=Scope.WRITE, summary="Let an edge exist, with this value and data",
        body=wire.EdgeRequest, body_required=False, answer=wire.ChangedAnswer,
        errors=(*_WRITE, "seat-taken"),
    ),
    Endpoint(
        method="DELETE", path="/v1/edges/{kind}/{target}/{source}", handler=delete_edge,
        scope=Scope.WRITE, summary="Let an edge not exist", answer=wire.ChangedAnswer, errors=_WRITE,
    ),
    Endpoint(
        method="GET", path="/v1/edges/{kind}/{target}/{source}", handler=get_edge,
        scope=Scope.READ, summary="Read one edge", query=wire.ReadOptions, answer=wire.EdgeAnswer,
        errors=(*_PRIMARY, "edge-not-found"),
    ),
    Endpoint(
        method="GET", path="/v1/edges/{kind}/{target}", handler=get_edges, scope=Scope.READ,
        summary="List who did it to a target, newest first", query=wire.ListQuery,
        answer=wire.EdgesAnswer, errors=_PRIMARY,
    ),
    Endpoint(
        method="GET", path="/v1/edges/{kind}", handler=get_inverse, scope=Scope.READ,
        summary="List what a source did, newest first", query=wire.InverseQuery,
        answer=wire.EdgesAnswer, errors=_PRIMARY,
    ),
    Endpoint(
        method="POST", path="/v1/tallies/{kind}/{target}", handler=post_tally, scope=Scope.WRITE,
        summary="Count an event without an edge; the same id counts once",
        body=wire.TallyRequest, body_required=False, answer=wire.ChangedAnswer, errors=_WRITE,
    ),
    Endpoint(
        method="POST", path="/v1/writes", handler=post_writes, scope=Scope.WRITE,
        summary="Up to 10,000 writes, each with its own outcome, or all or nothing",
        body=wire.WritesRequest, answer=wire.WritesAnswer,
        errors=(*_WRITE, "seat-taken", "version-conflict"),
    ),
    Endpoint(
        method="PUT", path="/v1/objects/{id}", handler=put_object, scope=Scope.WRITE,
        summary="Store an object", body=wire.ObjectRequest, answer=wire.VersionAnswer,
        errors=(*_WRITE, "version-conflict"),
    ),
    Endpoint(
        method="GET", path="/v1/objects/{id}", handler=get_object, scope=Scope.READ,
        summary="Read an object", query=wire.ReadOptions, answer=wire.ObjectAnswer,
        errors=(*_READ, "object-not-found"),
    ),
    Endpoint(
        method="DELETE", path="/v1/objects/{id}", handler=delete_object, scope=Scope.WRITE,
        summary="Let an object not exist", query=wire.DeleteQuery, answer=wire.ChangedAnswer,
        errors=(*_WRITE, "version-conflict"),
    ),
    Endpoint(
        method="GET", path="/v1/status", handler=get_status, scope=Scope.ADMIN,
        summary="Where the node, its store and its replicas stand", answer=wire.StatusAnswer,
        errors=("store-unavailable",),
    ),
    Endpoint(
        method="GET", path="/metrics", handler=get_metrics, scope=Scope.ADMIN,
        summary="Metrics for Prometheus", content_type="text/plain", errors=("store-unavailable",),
    ),
    Endpoint(
        method="GET", path="/healthz", handler=get_healthz, scope=None,
        summary="Whether the node works", answer=wire.HealthAnswer,
    ),
    Endpoint(
        method="GET", path="/readyz", handler=get_readyz, scope=None,
        summary="Whether the node should be sent requests", answer=wire.HealthAnswer,
    ),
)  # fmt: skip
