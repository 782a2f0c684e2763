"""A benchmark's table on a terminal: no figure is cut, however narrow it is."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as Grid

from groundswell.bench.results import FIGURES, Figure, Row, Table

_RATIO: Final = "ratio"  # beside the fields of FIGURES
_DIGITS: Final = {_RATIO: 1, **{field: digits for field, _, digits in FIGURES}}

# What a terminal shows, and its short titles; the HTML report and the JSON have all.
_TITLES: Final = {
    _RATIO: "times",
    "rate": "per s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "cpu_per_10k": "CPU s\nper 10k",
    "memory_mib": "MiB",
    "staleness_ms": "stale\nms",
}
# What gives way first where there is no room: to begin with least and most, then whole columns.
_YIELDING: Final = ("memory_mib", "p50_ms", "staleness_ms", "cpu_per_10k", "p99_ms", _RATIO)

_ENDLESS: Final = 10_000  # columns; a measurement never exceeds what it is given

LEGEND: Final = (
    "times: how many times the rate of the row the first row's is. Medians, and below them the least and "
    "the most of the runs, as far as there is room; --report and --json have all."
)


def fitted(table: Table, console: Console) -> Grid:
    """As much of the table as the console has room for: medians, and below them least and most.

    Where not all fits, the least important columns show only their medians, then they are left out;
    never labels and rates, for which 40 columns are enough.
    """
    shown = {field for field in _TITLES if any(_figure(row, field) for row in table.rows)}
    spread = set(shown)
    grid = _grid(table, shown, spread)
    for kept in (spread, shown):
        for field in _YIELDING:
            if _width(grid, console) <= console.width:
                return grid
            kept.discard(field)
            grid = _grid(table, shown, spread)
    return grid


def _grid(table: Table, shown: Collection[str], spread: Collection[str]) -> Grid:
    grid = Grid(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    grid.add_column(table.operation)  # a label may go over two lines, as the figures do
    fields = [field for field in _TITLES if field in shown]
    for field in fields:
        title = _TITLES[field]
        wide = max(map(len, title.split("\n")))
        grid.add_column(title, justify="right", no_wrap=True, min_width=wide)
    for row in table.rows:
        texts = [_text(_figure(row, field), _DIGITS[field], field in spread) for field in fields]
        grid.add_row(row.label, *texts)
    return grid


def _width(grid: Grid, console: Console) -> int:
    """The least that it needs, on a console however narrow."""
    return Measurement.get(console, console.options.update(max_width=_ENDLESS), grid).minimum


def _figure(row: Row, field: str) -> Figure | None:
    return row.ratio if field == _RATIO else row.figures.get(field)


def _text(figure: Figure | None, digits: int, spread: bool) -> str:
    if figure is None:
        return "-"
    median, low, high = (
        f"{value:,.{digits}f}" for value in (figure.median, figure.min, figure.max)
    )
    return f"{median}\n[dim]{low}..{high}[/]" if spread and low != high else median
