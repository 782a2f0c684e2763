"""The endpoints: one table from which both the routing and the OpenAPI document are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from groundswell import sse, wire
from groundswell.answers import account_item, transfer_answer
from groundswell.api import Reply
from groundswell.errors import BadRequest, by_code
from groundswell.kinds import parse_id
from groundswell.model import Add, Delete, Key, Open, Post, Put, Remove, Tally, Transfer, Void
from groundswell.node import Node
from groundswell.server.auth import Scope
from groundswell.server.events import Events
from groundswell.server.http import Request, Response, answered
from groundswell.server.problems import problem
from groundswell.store import Changed, Moved, Opened, Outcome, Refused, Stored

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
    headers: tuple[str, ...] = ()  # of the request, beyond those that every endpoint takes
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
        body.expires_in_s,
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


async def put_account(node: Node, request: Request) -> Response:
    body = await request.body(wire.AccountRequest, wire.AccountRequest())
    account = Open(request.params[0], body.floor, body.ceiling)
    return _written(await node.write((account,), atomic=True, tokens=request.tokens))


async def post_transfer(node: Node, request: Request) -> Response:
    body = await request.body(wire.TransferRequest)
    transfer = Transfer(**msgspec.structs.asdict(body))
    return _written(await node.write((transfer,), atomic=True, tokens=request.tokens))


async def post_post(node: Node, request: Request) -> Response:
    body = await request.body(wire.PostRequest, wire.PostRequest())
    post = Post(request.params[0], body.amount)
    return _written(await node.write((post,), atomic=True, tokens=request.tokens))


async def post_void(node: Node, request: Request) -> Response:
    void = Void(request.params[0])
    return _written(await node.write((void,), atomic=True, tokens=request.tokens))


def _written(reply: Reply[list[Outcome]]) -> Response:
    outcome = reply.answer[0]
    if isinstance(outcome, Refused):
        return _refused(outcome, reply.token)
    if isinstance(outcome, Stored):
        return answered(wire.VersionAnswer(outcome.version, outcome.changed), reply.token)
    if isinstance(outcome, Moved):
        return answered(transfer_answer(outcome), reply.token)
    if isinstance(outcome, Opened):
        item = msgspec.structs.asdict(account_item(outcome.account))
        return answered(wire.AccountChanged(**item, changed=outcome.changed), reply.token)
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
    if isinstance(outcome, Moved):
        return wire.OutcomeItem(outcome.changed, transfer=transfer_answer(outcome))
    if isinstance(outcome, Opened):
        return wire.OutcomeItem(outcome.changed, account=account_item(outcome.account))
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


async def get_rating(node: Node, request: Request) -> Response:
    kind, target = request.params
    options = request.query(wire.ReadOptions, _DEFAULT)
    id_ = parse_id(node.kinds[kind].target, target, "target")
    return _reply(await node.rating(kind, id_, options, request.tokens))


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


async def get_account(node: Node, request: Request) -> Response:
    options = request.query(wire.ReadOptions, _DEFAULT)
    return _reply(await node.account(request.params[0], options, request.tokens))


async def get_account_transfers(node: Node, request: Request) -> Response:
    query = request.query(wire.HistoryQuery, wire.HistoryQuery())
    return _reply(await node.movements(request.params[0], query, request.tokens))


async def get_transfer(node: Node, request: Request) -> Response:
    return _reply(await node.movement(request.params[0], request.tokens))


async def get_trending(node: Node, request: Request) -> Response:
    query = request.query(wire.TrendingQuery, wire.TrendingQuery())
    return _reply(await node.trending(request.params[0], query, request.tokens))


async def get_stream(node: Node, request: Request) -> Response:
    keys = [_key(node, text) for text in request.query(wire.StreamQuery).key]
    after = request.headers.get(sse.LAST_EVENT_ID.lower().encode())
    after_id = after.decode("latin-1") if after else None
    stream = await node.open_stream(keys, after_id, request.tokens)
    events = Events(node=node, stream=stream, receive=request.receive)
    if request.scope["method"] == "HEAD":
        stream.close()
        return Response(b"", headers=events.headers)
    return events


def _key(node: Node, text: str) -> Key:
    kind, colon, target = text.partition(":")
    if not colon:
        raise BadRequest(f"A key is written kind:target, not {text!r:.60}.")
    return kind, parse_id(node.kinds[kind].target, target, "target")


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
_MONEY: Final = (
    "account-not-found", "insufficient-funds", "ceiling-exceeded", "transfer-conflict",
)  # fmt: skip
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
        method="GET", path="/v1/ratings/{kind}/{target}", handler=get_rating, scope=Scope.READ,
        summary="Read count, sum, average and histogram of the values", query=wire.ReadOptions,
        answer=wire.RatingAnswer, errors=_READ,
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
        errors=(*_WRITE, "seat-taken", "version-conflict", *_MONEY, "transfer-not-found"),
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
        method="PUT", path="/v1/accounts/{id}", handler=put_account, scope=Scope.WRITE,
        summary="Let an account exist, with these bounds", body=wire.AccountRequest,
        body_required=False, answer=wire.AccountChanged,
        errors=(*_WRITE, "insufficient-funds", "ceiling-exceeded"),
    ),
    Endpoint(
        method="GET", path="/v1/accounts/{id}", handler=get_account, scope=Scope.READ,
        summary="Read an account", query=wire.ReadOptions, answer=wire.AccountAnswer,
        errors=(*_READ, "account-not-found"),
    ),
    Endpoint(
        method="GET", path="/v1/accounts/{id}/transfers", handler=get_account_transfers,
        scope=Scope.READ, summary="List the transfers of an account, newest first",
        query=wire.HistoryQuery, answer=wire.MovementsAnswer, errors=_PRIMARY,
    ),
    Endpoint(
        method="POST", path="/v1/transfers", handler=post_transfer, scope=Scope.WRITE,
        summary="Move an amount between two accounts, or hold it; the same id moves once",
        body=wire.TransferRequest, answer=wire.TransferAnswer, errors=(*_WRITE, *_MONEY),
    ),
    Endpoint(
        method="GET", path="/v1/transfers/{id}", handler=get_transfer, scope=Scope.READ,
        summary="Read a transfer", answer=wire.MovementAnswer,
        errors=(*_PRIMARY, "transfer-not-found"),
    ),
    Endpoint(
        method="POST", path="/v1/transfers/{id}/post", handler=post_post, scope=Scope.WRITE,
        summary="Let a pending transfer happen, whole or in part", body=wire.PostRequest,
        body_required=False, answer=wire.TransferAnswer,
        errors=(*_WRITE, "transfer-not-found", "transfer-conflict"),
    ),
    Endpoint(
        method="POST", path="/v1/transfers/{id}/void", handler=post_void, scope=Scope.WRITE,
        summary="Let a pending transfer not happen", answer=wire.TransferAnswer,
        errors=(*_WRITE, "transfer-not-found", "transfer-conflict"),
    ),
    Endpoint(
        method="GET", path="/v1/trending/{kind}", handler=get_trending, scope=Scope.READ,
        summary="What grew most lately", query=wire.TrendingQuery, answer=wire.TrendingAnswer,
        errors=("bad-token", "unknown-kind"),
    ),
    Endpoint(
        method="GET", path="/v1/stream", handler=get_stream, scope=Scope.READ,
        summary="Up to 100 counts, told anew whenever they change", query=wire.StreamQuery,
        headers=(sse.LAST_EVENT_ID,), content_type=sse.CONTENT_TYPE,
        errors=("bad-token", "unknown-kind", "too-large", "overloaded", "store-unavailable"),
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
