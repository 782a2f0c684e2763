"""What may be done to a demo node over HTTP, and to no other: its endpoints exist only there."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Annotated

import msgspec

from groundswell.demo.surge import PER_S_MAX, Surge
from groundswell.errors import BadRequest
from groundswell.follower import Follower
from groundswell.node import Node
from groundswell.server.auth import Scope
from groundswell.server.http import Request, Response, answered
from groundswell.server.routes import Endpoint
from groundswell.session import Groundswell


class SpikeState(msgspec.Struct, frozen=True):
    """The spike."""

    running: bool
    per_s: int  # likes a second, as far as the node takes them
    sent: int  # since the node began


class ReplicaState(msgspec.Struct, frozen=True):
    """One replica."""

    name: str
    delay_ms: float  # injected
    following: bool  # false: it stands still, and goes on serving


class RollupState(msgspec.Struct, frozen=True):
    """The rollup worker of this node."""

    working: bool


class DemoAnswer(msgspec.Struct, frozen=True):
    """How everything stands that can be controlled."""

    spike: SpikeState
    replicas: list[ReplicaState]
    rollup: RollupState


class SpikeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Start or stop it, or change its speed."""

    running: bool | None = None
    per_s: Annotated[int, msgspec.Meta(ge=1, le=PER_S_MAX)] | None = None


class ReplicaRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Delay it, let it stand still, or let it go on."""

    delay_ms: Annotated[int, msgspec.Meta(ge=0, le=10_000)] | None = None
    following: bool | None = None


class RollupRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Let it stand still, or go on."""

    working: bool | None = None


class DemoRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to change; all that is not named stays as it is."""

    spike: SpikeRequest = SpikeRequest()
    replicas: dict[str, ReplicaRequest] = {}  # by name
    rollup: RollupRequest = RollupRequest()


class Controls:
    """The controls of one node."""

    def __init__(self, node: Node, surge: Surge) -> None:
        self._node = node
        self._surge = surge
        self._followers = {follower.replica.name: follower for follower in node.followers}

    def state(self) -> DemoAnswer:
        """How everything stands."""
        return DemoAnswer(
            SpikeState(self._surge.running, self._surge.per_s, self._surge.sent),
            [
                ReplicaState(name, follower.delay_s * 1000, follower.following)
                for name, follower in self._followers.items()
            ],
            RollupState(self._node.worker.working),
        )

    async def change(self, wanted: DemoRequest) -> None:
        """Change what is named; nothing at all where a replica is named that there is not."""
        if unknown := wanted.replicas.keys() - self._followers.keys():
            raise BadRequest(
                f"There is no replica {min(unknown)!r:.60}; there are {', '.join(self._followers)}. "
                "Nothing was changed."
            )
        for name, replica in wanted.replicas.items():
            _change_replica(self._followers[name], replica)
        worker = self._node.worker
        if wanted.rollup.working is not None:
            (worker.resume if wanted.rollup.working else worker.halt)()
        if wanted.spike.per_s is not None:
            self._surge.per_s = wanted.spike.per_s
        if wanted.spike.running:
            self._surge.start()
        elif wanted.spike.running is not None:
            await self._surge.stop()

    async def get_demo(self, node: Node, request: Request) -> Response:
        """`GET /v1/demo`."""
        return answered(self.state())

    async def post_demo(self, node: Node, request: Request) -> Response:
        """`POST /v1/demo`."""
        await self.change(await request.body(DemoRequest))
        return answered(self.state())

    def endpoints(self) -> Sequence[Endpoint]:
        """What the application serves beside the endpoints of every node."""
        return (
            Endpoint(
                method="GET", path="/v1/demo", handler=self.get_demo, scope=Scope.ADMIN,
                summary="How the spike, the replicas and the rollup worker of a demo node stand",
                answer=DemoAnswer,
            ),
            Endpoint(
                method="POST", path="/v1/demo", handler=self.post_demo, scope=Scope.ADMIN,
                summary="Start or stop the spike, delay or stop replicas, stop the rollup worker",
                body=DemoRequest, answer=DemoAnswer,
            ),
        )  # fmt: skip


def _change_replica(follower: Follower, wanted: ReplicaRequest) -> None:
    if wanted.delay_ms is not None:
        follower.delay_s = wanted.delay_ms / 1000
    if wanted.following is not None:
        (follower.resume if wanted.following else follower.halt)()


@contextlib.asynccontextmanager
async def controlling(node: Node) -> AsyncIterator[Sequence[Endpoint]]:
    """The endpoints that control this node; the spike ends with the block."""
    surge = Surge(Groundswell(node))
    try:
        yield Controls(node, surge).endpoints()
    finally:
        await surge.stop()
