"""Rows read from the store, on their way into cells: the script decides which of them are valid."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from groundswell.model import Counter, Document, Key
from groundswell.replicas.redis import cells
from groundswell.replicas.redis.names import Name, Names
from groundswell.replicas.redis.scripts import Command, script
from groundswell.store import CounterRow, Item, ItemRow, Sight

CELLS_MAX: Final = 500  # in one script
NEVER: Final = 2**53  # a rollup that will not be: the largest number of Lua's


class _Cell(NamedTuple):
    """See `fill.lua`."""

    name: bytes
    plain: bytes | None  # the count beside it
    arguments: tuple[Any, ...]


class Fill:
    """What was read in one state of the store, by bucket."""

    def __init__(self, names: Names, epoch: int, rollup: int) -> None:
        self._names = names
        self._epoch = epoch
        self._rollup = rollup
        self._cells: dict[int, list[_Cell]] = {}

    def counter(self, key: Key, row: CounterRow) -> None:
        """A counter."""
        payload = cells.counter(row.counter.count, row.counter.sum)
        self._add(
            self._names.row(key),
            ("r", row.changed, row.born, payload, cells.NO_COUNT),
            self._names.count(key),
        )

    def document(self, id_: str, row: Document | None) -> None:
        """An object; None: there never was one."""
        absent = cells.document(Document(id_, "", 0, 0, None))
        test: tuple[Any, ...] = ("x", "", "", absent, absent)
        if row is not None:
            test = ("x", str(row.xid), str(int(row.version == 1)), cells.document(row), absent)
        self._add(self._names.object(id_), test)

    def edges(self, sight: Sight, row: ItemRow) -> None:
        """A list, and whether the viewer's edge exists."""
        changed = NEVER if row.waiting else row.row.changed
        born, item = row.row.born, row.item
        payload = cells.listed(item, sight.newest)
        absent = cells.listed(Item(Counter(0)), sight.newest)
        self._add(self._names.newest(sight.key), ("R", changed, born, payload, absent))
        if sight.viewer is not None and item.viewer is not None:
            payload = cells.YES if item.viewer else cells.NO
            name = self._names.edge(sight.key, sight.viewer)
            self._add(name, ("R", changed, born, payload, cells.NO))

    def _add(self, name: Name, arguments: tuple[Any, ...], plain: bytes | None = None) -> None:
        self._cells.setdefault(name.bucket, []).append(_Cell(name.key, plain, arguments))

    def commands(self) -> list[Command]:
        """The scripts that fill it in."""
        made = []
        for bucket, found in self._cells.items():
            found.sort(key=lambda cell: cell.plain is None)  # those with counts first
            for at in range(0, len(found), CELLS_MAX):
                made.append(self._script(bucket, found[at : at + CELLS_MAX]))
        return made

    def _script(self, bucket: int, part: list[_Cell]) -> Command:
        counts = [cell.plain for cell in part if cell.plain is not None]
        keys = [self._names.marks[bucket], *(cell.name for cell in part), *counts]
        arguments = [argument for cell in part for argument in cell.arguments]
        return script("fill", keys, self._epoch, self._rollup, len(part), *arguments)
