"""What has been acknowledged so far: the yardstick of every read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from groundswell.demo.trace import Action, Message
from groundswell.model import Id


class Truth:
    """Kept by the writers, looked at by the readers before they ask."""

    def __init__(self, actions: Sequence[Action]) -> None:
        edges = {(action.kind, action.target, action.source) for action in actions}
        #: How many distinct sources every target ends up with.
        self.expected = Counter((kind, target) for kind, target, _ in edges)
        #: The target that everybody looks at.
        self.hottest: tuple[str, Id] = self.expected.most_common(1)[0][0]
        #: Edges that the node has acknowledged as new, per target.
        self.acknowledged: Counter[tuple[str, Id]] = Counter()
        #: Replies that have been sent, in order; those before `replies_acknowledged` were answered.
        self.replies: list[Message] = []
        self.replies_acknowledged = 0
        #: Version of the parcel's status that was acknowledged last.
        self.parcel = 0
