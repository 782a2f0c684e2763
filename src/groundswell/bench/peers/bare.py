"""An endpoint that does nothing, behind the same server and event loop: what is possible here and now."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from groundswell.bench.peers.endpoint import HEADERS

COUNTS: Final = {"1": 17}


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """A count out of a dict."""
    count = COUNTS.get(scope["path"].rpartition("/")[2], 0)
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    body = msgspec.json.encode({"count": count})
    await send({"type": "http.response.body", "body": body})
