"""What carries requests to a node: the contract. Implementations are in `groundswell.transports`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Final, Protocol

import msgspec

TIMEOUT_S: Final = 30.0  # for an answer, where nobody says


class Answer(msgspec.Struct, frozen=True):
    """A response, whatever carried it."""

    status: int
    body: bytes
    token: str | None


class Transport(Protocol):
    """The few things an HTTP library has to do for the client."""

    async def send(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        """One request; raises NodeUnreachable if no answer came."""

    def stream(self, path: str, headers: Mapping[str, str]) -> AsyncGenerator[bytes | Answer, None]:
        """One answer that goes on, in parts as they come, or whole where its status is not 200.

        Raises NodeUnreachable if no answer came or nothing more comes.
        """

    async def close(self) -> None:
        """Let go of the connections."""
