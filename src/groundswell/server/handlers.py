"""What each endpoint does: reads the request, asks the node, and writes its answer."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from groundswell import sse, wire
from groundswell.answers import account_item, transfer_answer
from groundswell.api import Reply
from groundswell.errors import BadRequest, by_code
from groundswell.kinds import parse_id
from groundswell.model import (
    Add,
    Delete,
    Id,
    Key,
    Open,
    Post,
    Put,
    Remove,
    Tally,
    Transfer,
    Void,
    Write,
)
from groundswell.node import Node
from groundswell.server.events import Beats, Counts, Events, Feed
from groundswell.server.http import Request, Response, answered
from groundswell.server.problems import problem
from groundswell.store import Changed, Moved, Opened, Outcome, Refused, Stored

_DEFAULT: Final = wire.ReadOptions()
_PLAIN: Final = wire.EdgeRequest()


def _key(node: Node, kind: str, target: str) -> Key:
    """The key that these two parts of a path spell."""
    return kind, parse_id(node.kinds[kind].target, target, "target")


def _edge(node: Node, kind: str, target: str, source: str) -> tuple[str, Id, Id]:
    """The edge that these three spell: its kind, target and source."""
    declared = node.kinds[kind]
    return (
        kind,
        parse_id(declared.target, target, "target"),
        parse_id(declared.source, source, "source"),
    )


def _reply(reply: Reply[Any]) -> Response:
    return answered(reply.answer, reply.token)


# --- writes ---------------------------------------------------------------------------------------


async def put_edge(node: Node, request: Request) -> Response:
    edge = _edge(node, *request.params)
    body = await request.body(wire.EdgeRequest, _PLAIN)
    return await _write(node, request, Add(*edge, body.value, body.data, body.expires_in_s))


async def delete_edge(node: Node, request: Request) -> Response:
    return await _write(node, request, Remove(*_edge(node, *request.params)))


async def post_tally(node: Node, request: Request) -> Response:
    body = await request.body(wire.TallyRequest, wire.TallyRequest())
    key = _key(node, *request.params)
    return await _write(node, request, Tally(*key, body.by, body.id))


async def put_object(node: Node, request: Request) -> Response:
    body = await request.body(wire.ObjectRequest)
    return await _write(
        node, request, Put(request.params[0], body.type, body.data, body.if_version)
    )


async def delete_object(node: Node, request: Request) -> Response:
    query = request.query(wire.DeleteQuery, wire.DeleteQuery())
    return await _write(node, request, Delete(request.params[0], query.if_version))


async def put_account(node: Node, request: Request) -> Response:
    body = await request.body(wire.AccountRequest, wire.AccountRequest())
    return await _write(node, request, Open(request.params[0], body.floor, body.ceiling))


async def post_transfer(node: Node, request: Request) -> Response:
    body = await request.body(wire.TransferRequest)
    return await _write(node, request, Transfer(**msgspec.structs.asdict(body)))


async def post_post(node: Node, request: Request) -> Response:
    body = await request.body(wire.PostRequest, wire.PostRequest())
    return await _write(node, request, Post(request.params[0], body.amount))


async def post_void(node: Node, request: Request) -> Response:
    return await _write(node, request, Void(request.params[0]))


async def _write(node: Node, request: Request, write: Write) -> Response:
    reply = await node.write((write,), atomic=True, tokens=request.tokens)
    outcome = reply.answer[0]
    if isinstance(outcome, Changed):
        return answered(wire.ChangedAnswer(outcome.changed), reply.token)
    if isinstance(outcome, Refused):
        return _refused(outcome, reply.token)
    if isinstance(outcome, Stored):
        return answered(wire.VersionAnswer(outcome.version, outcome.changed), reply.token)
    if isinstance(outcome, Moved):
        return answered(transfer_answer(outcome), reply.token)
    item = msgspec.structs.asdict(account_item(outcome.account))
    return answered(wire.AccountChanged(**item, changed=outcome.changed), reply.token)


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
    options = request.query(wire.ReadOptions, _DEFAULT)
    kind, target = _key(node, *request.params)
    return _reply(await node.count(kind, target, options, request.tokens))


async def post_counts(node: Node, request: Request) -> Response:
    options = request.query(wire.ReadOptions, _DEFAULT)
    body = await request.body(wire.KeysRequest)
    return _reply(await node.counts(body.keys, options, request.tokens))


async def get_rating(node: Node, request: Request) -> Response:
    options = request.query(wire.ReadOptions, _DEFAULT)
    kind, target = _key(node, *request.params)
    return _reply(await node.rating(kind, target, options, request.tokens))


async def post_page(node: Node, request: Request) -> Response:
    options = request.query(wire.ReadOptions, _DEFAULT)
    body = await request.body(wire.PageRequest)
    return _reply(
        await node.page(body.keys, options, request.tokens, viewer=body.viewer, newest=body.newest)
    )


async def get_edge(node: Node, request: Request) -> Response:
    options = request.query(wire.ReadOptions, _DEFAULT)
    kind, target, source = _edge(node, *request.params)
    return _reply(await node.edge(kind, target, source, options, request.tokens))


async def get_edges(node: Node, request: Request) -> Response:
    query = request.query(wire.ListQuery, wire.ListQuery())
    kind, target = _key(node, *request.params)
    return _reply(await node.edges(kind, target=target, query=query, tokens=request.tokens))


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
    keys = [_spelt(node, text) for text in request.query(wire.StreamQuery).key]
    after = request.header(sse.LAST_EVENT_ID.lower().encode())
    after_id = after.decode("latin-1") if after else None
    return _events(request, Counts(node, await node.open_stream(keys, after_id, request.tokens)))


async def get_pulse(node: Node, request: Request) -> Response:
    key = _spelt(node, request.query(wire.PulseQuery).key)
    return _events(request, Beats(node.open_pulse(key)))


def _events(request: Request, feed: Feed) -> Response:
    events = Events(feed=feed, receive=request.receive)
    if request.scope["method"] == "HEAD":
        feed.close()
        return Response(b"", headers=events.headers)
    return events


def _spelt(node: Node, text: str) -> Key:
    kind, colon, target = text.partition(":")
    if not colon:
        raise BadRequest(f"A key is written kind:target, not {text!r:.60}.")
    return _key(node, kind, target)


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
