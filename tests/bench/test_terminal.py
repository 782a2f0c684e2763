"""The benchmark's tables on terminals of many widths."""

from __future__ import annotations

import io
from typing import Final

import pytest
from rich.console import Console

from groundswell.bench.results import Figure, Row, Table
from groundswell.bench.terminal import fitted

# Field and digits of a column, from the left, and what stands there.
RATIO: Final = ("ratio", 1)
COLUMNS: Final = (("rate", 0), ("p50_ms", 1), ("p99_ms", 1), ("cpu_per_10k", 2), ("memory_mib", 0))
STALENESS: Final = ("staleness_ms", 0)
READS: Final = {
    "groundswell, eventual": (48_612, 1.2, 3.4, 0.41, 151),
    "groundswell, read_your_writes": (46_120, 1.3, 3.9, 0.43, 151),
    "groundswell, causal": (47_003, 1.3, 3.6, 0.42, 152),
    "groundswell, linearizable": (9_841, 6.1, 14.2, 1.72, 158),
    "scan": (212, 290.4, 1_431.7, 88.1, 64),
    "inline-sqlalchemy": (1_912, 33.0, 71.2, 9.93, 402),
    "outbox-per-like": (5_512, 11.2, 31.9, 3.12, 88),
    "redis": (6_120, 10.1, 22.0, 2.71, 141),
}


def figure(median: float, spread: float) -> Figure:
    return Figure(median, median * (1 - spread), median * (1 + spread))


def measured(*, factor: int = 1, spread: float = 0.08, stale: bool = False) -> Table:
    """Eight rows; `factor` makes the figures longer."""
    rows: list[Row] = []
    for label, found in READS.items():
        figures = {
            field: figure(value * factor, spread)
            for (field, _), value in zip(COLUMNS, found, strict=True)
        }
        if stale:
            figures["staleness_ms"] = figure(820 * factor, spread)
        ratio = figure(48_612 / found[0], spread) if rows else None
        rows.append(Row(label, label, "", figures, ratio, []))
    return Table(name="reads", title="Reads", operation="reads", rows=rows)


def printed(table: Table, width: int) -> list[str]:
    file = io.StringIO()
    console = Console(width=width, file=file)
    console.print(fitted(table, console))
    return file.getvalue().splitlines()


def medians_and_spreads(row: Row, *columns: tuple[str, int]) -> tuple[list[str], list[str]]:
    """What whole figures look like, from the left; a row without a ratio has a dash."""
    medians, spreads = [], []
    for field, digits in columns:
        one = row.ratio if field == "ratio" else row.figures[field]
        medians.append("-" if one is None else f"{one.median:,.{digits}f}")
        if one is not None:
            spreads.append(f"{one.min:,.{digits}f}..{one.max:,.{digits}f}")
    return medians, spreads


@pytest.mark.parametrize("stale", [False, True])
def test_at_80_columns_every_median_is_there_and_how_far_rates_differ(stale: bool) -> None:
    table = measured(stale=stale)
    text = [line.split() for line in printed(table, 80)]
    for row in table.rows:
        columns = (RATIO, *COLUMNS, *[STALENESS] * stale)
        medians, _ = medians_and_spreads(row, *columns)
        assert [line for line in text if line[-len(medians) :] == medians], row.label
        _, spreads = medians_and_spreads(row, COLUMNS[0])
        assert [line for line in text if line[-1:] == spreads], row.label


def test_where_there_is_room_every_column_says_how_far_runs_differ() -> None:
    table = measured(stale=True)
    text = [line.split() for line in printed(table, 130)]
    for row in table.rows:
        medians, spreads = medians_and_spreads(row, RATIO, *COLUMNS, STALENESS)
        assert [*row.label.split(), *medians] in text
        assert spreads in text


@pytest.mark.parametrize("factor", [1, 10, 100])
@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 160])
def test_no_figure_and_no_label_is_cut(width: int, factor: int) -> None:
    table = measured(factor=factor, stale=True)
    whole = {"-"}
    for row in table.rows:
        medians, spreads = medians_and_spreads(row, RATIO, *COLUMNS, STALENESS)
        whole.update(medians, spreads, row.label.split())
    lines = printed(table, width)
    assert max(map(len, lines)) <= width
    [rule] = [n for n, line in enumerate(lines) if line.startswith("─")]
    assert {word for line in lines[rule + 1 :] for word in line.split()} <= whole
    for row in table.rows:
        assert medians_and_spreads(row, COLUMNS[0])[0][0] in " ".join(lines).split()


def test_one_run_takes_one_line_of_80_columns() -> None:
    table = measured(spread=0.0)
    text = [line.split() for line in printed(table, 80)]
    assert text[-len(READS) :] == [
        [*row.label.split(), *medians_and_spreads(row, RATIO, *COLUMNS)[0]] for row in table.rows
    ]
