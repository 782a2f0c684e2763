"""Groundswell keeps social counts right, fast and honest when something goes viral.

import groundswell

async with groundswell.open("sqlite:///groundswell.db") as gs:
    me = gs.session()
    await me.add("like", target=42, source=7)
    likes = await me.count("like", 42)
"""

from groundswell.model import (
    Add,
    Delete,
    Edge,
    Level,
    Open,
    Post,
    Put,
    Remove,
    Tally,
    Transfer,
    Void,
)
from groundswell.results import (
    AccountState,
    Count,
    EdgePage,
    Item,
    Object,
    Rating,
    TransferPage,
    Trend,
    Trending,
)
from groundswell.session import Groundswell, Session
from groundswell.store import Changed, Moved, Opened, Refused, Stored
from groundswell.wiring import connect, open

__all__ = [
    "AccountState",
    "Add",
    "Changed",
    "Count",
    "Delete",
    "Edge",
    "EdgePage",
    "Groundswell",
    "Item",
    "Level",
    "Moved",
    "Object",
    "Open",
    "Opened",
    "Post",
    "Put",
    "Rating",
    "Refused",
    "Remove",
    "Session",
    "Stored",
    "Tally",
    "Transfer",
    "TransferPage",
    "Trend",
    "Trending",
    "Void",
    "connect",
    "open",
]
