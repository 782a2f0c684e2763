"""An endpoint that does nothing, behind the same HTTP server and event loop: what is possible here and now.

python benchmarks/bare.py PORT
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec
import uvloop
from granian.constants import Interfaces
from granian.server.embed import Server

COUNTS = {42: 17}
HEADERS = [(b"content-type", b"application/json")]


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        target = int(scope["path"].rpartition("/")[2])
        body = msgspec.json.encode({"count": COUNTS[target]})
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    uvloop.run(
        Server(app, address="127.0.0.1", port=int(sys.argv[1]), interface=Interfaces.ASGINL).serve()
    )
