"""A small, deterministic set of discussions, for where no real ones are given."""

from __future__ import annotations

import random
from typing import Final

from groundswell.demo.trace import Message

MESSAGES: Final = 6_000
OPENING_SHARE: Final = 0.15
RECENT: Final = 60  # replies go to one of the newest messages


def draw(*, seed: int, messages: int = MESSAGES) -> list[Message]:
    """Messages of which most reply to a recent one, a second apart; the same for the same seed."""
    rng = random.Random(seed)
    drawn: list[Message] = []
    for number in range(1, messages + 1):
        opens = not drawn or rng.random() < OPENING_SHARE
        answered = None if opens else drawn[-rng.randint(1, min(RECENT, len(drawn)))]
        parent = answered.id if answered else 0
        discussion = answered.discussion if answered else number
        drawn.append(Message(float(number), number, parent, discussion))
    return drawn
