"""The ASGI application: finds the endpoint, checks the key, turns errors into problems."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Sequence
from importlib.metadata import version
from typing import Final

from groundswell.errors import BadRequest, GroundswellError
from groundswell.node import Node
from groundswell.server import openapi, page
from groundswell.server.auth import Keys
from groundswell.server.http import Receive, Request, Response, Scope, Send, answered, decoded
from groundswell.server.problems import plain, problem
from groundswell.server.routes import ENDPOINTS, Endpoint

log = logging.getLogger(__name__)

_HTML: Final = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
)

# The first two segments of a path, which are fixed, and how many there are; then the last one where that
# is fixed too.
Address = tuple[str | int, ...]

# Segments of a path without parameters, the empty one before the first slash included.
FIXED: Final = 3


class App:
    """One node over HTTP. Routes by the undecoded path, so that ids may contain any character.

    The table of addresses does what a router would, in one look-up: measured, a general router's
    pattern matching cost a fifth of all reads.
    """

    def __init__(self, node: Node, keys: Keys, more: Sequence[Endpoint] = ()) -> None:
        """`more` are endpoints beside those of every node."""
        self._node = node
        self._keys = keys if keys else None  # None: anyone may do anything
        self._table: dict[Address, dict[str, Endpoint]] = {}
        endpoints = (*ENDPOINTS, *more)
        for endpoint in endpoints:
            segments = endpoint.path.split("/")
            address = _address(segments)
            if len(segments) > FIXED and not segments[-1].startswith("{"):
                address += (segments[-1],)
            self._table.setdefault(address, {})[endpoint.method] = endpoint
        api = openapi.document(endpoints, version("groundswell"), keys=bool(keys))
        self._pages = {
            b"/openapi.json": answered(api),
            b"/docs": Response(openapi.page(api), headers=_HTML),
            **page.files(),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"unsupported ASGI scope {scope['type']}")
        try:
            response = await self._respond(scope, receive)
        except GroundswellError as error:
            response = problem(error)
        except Exception:
            log.exception("%s %s", scope["method"], scope["path"])
            response = plain(500, "internal", "This is a bug; the node's log has the details.")
        if response.status != 200:
            self._node.telemetry.http.labels(str(response.status)).inc()
        await response.send(send)

    @property
    def streams_max(self) -> int:
        """How many requests may go on and on."""
        return self._node.streams_max

    def stop(self) -> None:
        """End what would go on and on, so that the server can stop."""
        self._node.end_streams()

    def _respond(self, scope: Scope, receive: Receive) -> Awaitable[Response]:
        path = scope["raw_path"].decode("latin-1")
        segments = path.split("/")
        address = _address(segments)
        methods = self._table.get(address) or self._table.get((*address, segments[-1]))
        if methods is None:
            return self._page(scope)
        method = scope["method"]
        endpoint = methods.get("GET" if method == "HEAD" else method)  # the server drops the body
        if endpoint is None:
            return _not_allowed(", ".join(methods))
        params = segments[FIXED:]
        if "%" in path or not path.isascii():
            params = decoded(params)
        request = Request(scope, receive, params)
        if self._keys is not None and endpoint.scope is not None:
            self._keys.check(request.header(b"authorization"), endpoint.scope)
        if endpoint.query is None and scope["query_string"] and endpoint.scope is not None:
            raise BadRequest("This call takes no query parameters; nothing was changed.")
        return endpoint.handler(self._node, request)

    async def _page(self, scope: Scope) -> Response:
        found = self._pages.get(scope["raw_path"])
        if found is None:
            missing = (
                page.MISSING if scope["raw_path"] == b"/" else "There is no such path; see /docs."
            )
            return plain(404, "not-found", missing)
        if scope["method"] not in ("GET", "HEAD"):
            return await _not_allowed("GET, HEAD")
        return page.unchanged(found, scope["headers"]) or found


def _address(segments: list[str]) -> Address:
    return (*segments[1:3], len(segments))


async def _not_allowed(allowed: str) -> Response:
    detail = f"This path takes {allowed}."
    return plain(405, "method-not-allowed", detail, (b"allow", allowed.encode()))
