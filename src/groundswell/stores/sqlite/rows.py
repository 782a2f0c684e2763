"""Many rows in one statement.

Each step of a statement hands the interpreter's lock over, so a commit is a few wide statements and
not many narrow ones. Lists of rows are bound as VALUES, padded with NULL rows up to the next of a few
sizes, so that each statement is compiled once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final

SIZES: Final = (1, 8, 64, 512)


@lru_cache(maxsize=512)
def _values(width: int, size: int) -> str:
    row = "(" + ", ".join("?" * width) + ")"
    return "(VALUES " + ", ".join([row] * size) + ")"


def execute(
    connection: sqlite3.Connection, sql: str, rows: Sequence[Sequence[Any]]
) -> Iterator[tuple[Any, ...]]:
    """Run `sql`, in which `{rows}` stands for a table of the rows, as often as needed; what it returns.

    The columns are column1, column2, ..; padding rows have NULL in column1 and `sql` has to skip them.
    """
    done = 0
    while done < len(rows):
        size = next((size for size in SIZES if size >= len(rows) - done), SIZES[-1])
        part = rows[done : done + size]
        done += len(part)
        width = len(part[0])
        bound = list(chain.from_iterable(part))
        bound += [None] * (width * (size - len(part)))
        yield from connection.execute(sql.format(rows=_values(width, size)), bound).fetchall()


def run(connection: sqlite3.Connection, sql: str, bound: Sequence[Sequence[Any]]) -> None:
    """Execute for the effect alone."""
    for _ in execute(connection, sql, bound):
        raise AssertionError("a writing statement returned rows")
