"""Groundswell keeps social counts right, fast and honest when something goes viral.

import groundswell

async with groundswell.open("sqlite:///groundswell.db") as gs:
    me = gs.session()
    await me.add("like", target=42, source=7)
    likes = await me.count("like", 42)
"""

from groundswell.model import Add, Delete, Edge, Level, Put, Remove, Tally
from groundswell.session import Count, EdgePage, Groundswell, Item, Object, Session
from groundswell.store import Changed, Refused, Stored
from groundswell.wiring import connect, open

__all__ = [
    "Add",
    "Changed",
    "Count",
    "Delete",
    "Edge",
    "EdgePage",
    "Groundswell",
    "Item",
    "Level",
    "Object",
    "Put",
    "Refused",
    "Remove",
    "Session",
    "Stored",
    "Tally",
    "connect",
    "open",
]
