"""The transport on aiohttp."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Final

import aiohttp
from yarl import URL

from groundswell.errors import BadSettings, NodeUnreachable
from groundswell.transport import TIMEOUT_S, Answer
from groundswell.wire import SESSION_HEADER

CONNECTIONS_MAX: Final = 256
SILENCE_S: Final = 45.0  # of a stream: three signs of life that did not come

_UNENDING: Final = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT_S, sock_read=SILENCE_S)


class AiohttpTransport:
    """A transport on aiohttp, with connections kept open."""

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        if not url.startswith(("http://", "https://")):
            raise BadSettings(f"{url!r} is no address of a node: write http://host:port.")
        self._url = url.rstrip("/")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX),
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
        )

    async def send(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        # The path is encoded already; yarl would undo and redo it its own way.
        url = URL(self._url + path, encoded=True)
        with self._unreachable():
            async with self._session.request(method, url, headers=headers, data=body) as response:
                answer = await _answer(response)
        return answer

    async def stream(
        self, path: str, headers: Mapping[str, str]
    ) -> AsyncGenerator[bytes | Answer, None]:
        url = URL(self._url + path, encoded=True)
        with self._unreachable():
            async with self._session.get(url, headers=headers, timeout=_UNENDING) as response:
                if response.status != 200:
                    yield await _answer(response)
                    return
                async for part in response.content.iter_any():
                    yield part

    @contextlib.contextmanager
    def _unreachable(self) -> Iterator[None]:
        """Raise NodeUnreachable, and say what that means, instead of what the library raises."""
        try:
            yield
        except aiohttp.ClientConnectorError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise NodeUnreachable(
                f"Cannot connect to {self._url}: {reason}. Nothing was sent. Is the node running?"
            ) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise NodeUnreachable(
                f"No answer from {self._url}: {reason}. A write that was sent may or may not have "
                "happened; sending it again is safe (a tally or a put needs its id or if_version)."
            ) from error

    async def close(self) -> None:
        await self._session.close()


async def _answer(response: aiohttp.ClientResponse) -> Answer:
    token = response.headers.get(SESSION_HEADER)
    return Answer(response.status, await response.read(), token)
