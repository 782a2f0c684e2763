"""The endpoints: one table from which both the routing and the OpenAPI document are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from groundswell import sse, wire
from groundswell.node import Node
from groundswell.server import handlers
from groundswell.server.auth import Scope
from groundswell.server.http import Request, Response

Handler = Callable[[Node, Request], Awaitable[Response]]


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


_READ: Final = ("bad-token", "unknown-kind", "too-large", "replica-late", "store-unavailable")
_PRIMARY: Final = ("bad-token", "unknown-kind", "too-large", "store-unavailable")
_MONEY: Final = (
    "account-not-found", "insufficient-funds", "ceiling-exceeded", "transfer-conflict",
)  # fmt: skip
_WRITE: Final = ("bad-token", "unknown-kind", "overloaded", "store-unavailable", "too-large")

ENDPOINTS: Final = (
    Endpoint(
        method="GET", path="/v1/counts/{kind}/{target}", handler=handlers.get_count, scope=Scope.READ,
        summary="Read one count", query=wire.ReadOptions, answer=wire.CountAnswer, errors=_READ,
    ),
    Endpoint(
        method="POST", path="/v1/counts", handler=handlers.post_counts, scope=Scope.READ,
        summary="Read up to 1,000 counts, all at one revision", query=wire.ReadOptions,
        body=wire.KeysRequest, answer=wire.CountsAnswer, errors=_READ,
    ),
    Endpoint(
        method="GET", path="/v1/ratings/{kind}/{target}", handler=handlers.get_rating, scope=Scope.READ,
        summary="Read count, sum, average and histogram of the values", query=wire.ReadOptions,
        answer=wire.RatingAnswer, errors=_READ,
    ),
    Endpoint(
        method="POST", path="/v1/page", handler=handlers.post_page, scope=Scope.READ,
        summary="Read up to 200 counts with their newest edges and those of a viewer, at one revision",
        query=wire.ReadOptions, body=wire.PageRequest, answer=wire.PageAnswer, errors=_READ,
    ),
    Endpoint(
        method="PUT", path="/v1/edges/{kind}/{target}/{source}", handler=handlers.put_edge,
        scope=Scope.WRITE, summary="Let an edge exist, with this value and data",
        body=wire.EdgeRequest, body_required=False, answer=wire.ChangedAnswer,
        errors=(*_WRITE, "seat-taken"),
    ),
    Endpoint(
        method="DELETE", path="/v1/edges/{kind}/{target}/{source}", handler=handlers.delete_edge,
        scope=Scope.WRITE, summary="Let an edge not exist", answer=wire.ChangedAnswer, errors=_WRITE,
    ),
    Endpoint(
        method="GET", path="/v1/edges/{kind}/{target}/{source}", handler=handlers.get_edge,
        scope=Scope.READ, summary="Read one edge", query=wire.ReadOptions, answer=wire.EdgeAnswer,
        errors=(*_PRIMARY, "edge-not-found"),
    ),
    Endpoint(
        method="GET", path="/v1/edges/{kind}/{target}", handler=handlers.get_edges, scope=Scope.READ,
        summary="List who did it to a target, newest first", query=wire.ListQuery,
        answer=wire.EdgesAnswer, errors=_PRIMARY,
    ),
    Endpoint(
        method="GET", path="/v1/edges/{kind}", handler=handlers.get_inverse, scope=Scope.READ,
        summary="List what a source did, newest first", query=wire.InverseQuery,
        answer=wire.EdgesAnswer, errors=_PRIMARY,
    ),
    Endpoint(
        method="POST", path="/v1/tallies/{kind}/{target}", handler=handlers.post_tally, scope=Scope.WRITE,
        summary="Count an event without an edge; the same id counts once",
        body=wire.TallyRequest, body_required=False, answer=wire.ChangedAnswer, errors=_WRITE,
    ),
    Endpoint(
        method="POST", path="/v1/writes", handler=handlers.post_writes, scope=Scope.WRITE,
        summary="Up to 10,000 writes, each with its own outcome, or all or nothing",
        body=wire.WritesRequest, answer=wire.WritesAnswer,
        errors=(*_WRITE, "seat-taken", "version-conflict", *_MONEY, "transfer-not-found"),
    ),
    Endpoint(
        method="PUT", path="/v1/objects/{id}", handler=handlers.put_object, scope=Scope.WRITE,
        summary="Store an object", body=wire.ObjectRequest, answer=wire.VersionAnswer,
        errors=(*_WRITE, "version-conflict"),
    ),
    Endpoint(
        method="GET", path="/v1/objects/{id}", handler=handlers.get_object, scope=Scope.READ,
        summary="Read an object", query=wire.ReadOptions, answer=wire.ObjectAnswer,
        errors=(*_READ, "object-not-found"),
    ),
    Endpoint(
        method="DELETE", path="/v1/objects/{id}", handler=handlers.delete_object, scope=Scope.WRITE,
        summary="Let an object not exist", query=wire.DeleteQuery, answer=wire.ChangedAnswer,
        errors=(*_WRITE, "version-conflict"),
    ),
    Endpoint(
        method="PUT", path="/v1/accounts/{id}", handler=handlers.put_account, scope=Scope.WRITE,
        summary="Let an account exist, with these bounds", body=wire.AccountRequest,
        body_required=False, answer=wire.AccountChanged,
        errors=(*_WRITE, "insufficient-funds", "ceiling-exceeded"),
    ),
    Endpoint(
        method="GET", path="/v1/accounts/{id}", handler=handlers.get_account, scope=Scope.READ,
        summary="Read an account", query=wire.ReadOptions, answer=wire.AccountAnswer,
        errors=(*_READ, "account-not-found"),
    ),
    Endpoint(
        method="GET", path="/v1/accounts/{id}/transfers", handler=handlers.get_account_transfers,
        scope=Scope.READ, summary="List the transfers of an account, newest first",
        query=wire.HistoryQuery, answer=wire.MovementsAnswer, errors=_PRIMARY,
    ),
    Endpoint(
        method="POST", path="/v1/transfers", handler=handlers.post_transfer, scope=Scope.WRITE,
        summary="Move an amount between two accounts, or hold it; the same id moves once",
        body=wire.TransferRequest, answer=wire.TransferAnswer, errors=(*_WRITE, *_MONEY),
    ),
    Endpoint(
        method="GET", path="/v1/transfers/{id}", handler=handlers.get_transfer, scope=Scope.READ,
        summary="Read a transfer", answer=wire.MovementAnswer,
        errors=(*_PRIMARY, "transfer-not-found"),
    ),
    Endpoint(
        method="POST", path="/v1/transfers/{id}/post", handler=handlers.post_post, scope=Scope.WRITE,
        summary="Let a pending transfer happen, whole or in part", body=wire.PostRequest,
        body_required=False, answer=wire.TransferAnswer,
        errors=(*_WRITE, "transfer-not-found", "transfer-conflict"),
    ),
    Endpoint(
        method="POST", path="/v1/transfers/{id}/void", handler=handlers.post_void, scope=Scope.WRITE,
        summary="Let a pending transfer not happen", answer=wire.TransferAnswer,
        errors=(*_WRITE, "transfer-not-found", "transfer-conflict"),
    ),
    Endpoint(
        method="GET", path="/v1/trending/{kind}", handler=handlers.get_trending, scope=Scope.READ,
        summary="What grew most lately", query=wire.TrendingQuery, answer=wire.TrendingAnswer,
        errors=("bad-token", "unknown-kind"),
    ),
    Endpoint(
        method="GET", path="/v1/stream", handler=handlers.get_stream, scope=Scope.READ,
        summary="Up to 100 counts, told anew whenever they change", query=wire.StreamQuery,
        headers=(sse.LAST_EVENT_ID,), content_type=sse.CONTENT_TYPE,
        errors=("bad-token", "unknown-kind", "too-large", "overloaded", "store-unavailable"),
    ),
    Endpoint(
        method="GET", path="/v1/pulse", handler=handlers.get_pulse, scope=Scope.ADMIN,
        summary="What the node does, and one count as each replica shows it, ten times a second",
        query=wire.PulseQuery, content_type=sse.CONTENT_TYPE,
        errors=("unknown-kind", "too-large", "overloaded"),
    ),
    Endpoint(
        method="GET", path="/v1/status", handler=handlers.get_status, scope=Scope.ADMIN,
        summary="Where the node, its store and its replicas stand", answer=wire.StatusAnswer,
        errors=("store-unavailable",),
    ),
    Endpoint(
        method="GET", path="/metrics", handler=handlers.get_metrics, scope=Scope.ADMIN,
        summary="Metrics for Prometheus", content_type="text/plain", errors=("store-unavailable",),
    ),
    Endpoint(
        method="GET", path="/healthz", handler=handlers.get_healthz, scope=None,
        summary="Whether the node works", answer=wire.HealthAnswer,
    ),
    Endpoint(
        method="GET", path="/readyz", handler=handlers.get_readyz, scope=None,
        summary="Whether the node should be sent requests", answer=wire.HealthAnswer,
    ),
)  # fmt: skip
