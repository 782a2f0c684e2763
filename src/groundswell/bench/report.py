"""The report of a benchmark, as one HTML file."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from groundswell.bench.results import FIGURES, Chart, Figure, Report, Row, Table
from groundswell.reports import html_page, write_report

_CHART: Final = {"responsive": True, "displayModeBar": False}
_COLOURS: Final = (
    "#3b82f6",
    "#f59e0b",
    "#ef4444",
    "#10b981",
    "#8b5cf6",
    "#ec4899",
    "#14b8a6",
    "#a16207",
)
_LAYOUT: Final = {
    "template": "none",
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"color": "#808080", "family": "system-ui, sans-serif", "size": 14},
    "margin": {"l": 90, "r": 20, "t": 20, "b": 60},
}
_GRID: Final = {"gridcolor": "rgba(128,128,128,.25)"}


def columns(table: Table) -> list[tuple[str, str, int]]:
    """Field, title and digits of what was measured of this workload."""
    return [one for one in FIGURES if any(one[0] in row.figures for row in table.rows)]


def text_of(figure: Figure | None, digits: int) -> str:
    """The median, and where runs differ the least and the most."""
    if figure is None:
        return "-"
    median, low, high = (
        f"{value:,.{digits}f}" for value in (figure.median, figure.min, figure.max)
    )
    return median if low == high else f"{median}\n{low} .. {high}"


def cells(table: Table, row: Row) -> Iterator[str]:
    """What stands in a row, after its label and its ratio."""
    for field, _, digits in columns(table):
        yield text_of(row.figures.get(field), digits)


def summary(report: Report) -> str:
    """Where and when, in one paragraph."""
    machine, pace = report.machine, report.yardstick
    return (
        f"{machine.cores} cores ({machine.cpu}), {machine.memory_gib:g} GiB, Linux {machine.kernel}, "
        f"Python {machine.python}, PostgreSQL {machine.postgres} ({machine.queue}, fsync and "
        f"synchronous_commit on; fdatasync {machine.sync_ms:.2f} ms), all on this machine, the client "
        f"too; its load before was {machine.load_before:.1f}. {report.began}, "
        f"{report.seconds / 60:.1f} minutes, {report.runs} runs each, in turns. An endpoint that does "
        f"nothing gave {pace.median:,.0f} requests/s in between ({pace.min:,.0f} to {pace.max:,.0f})."
    )


def write(path: Path, report: Report) -> None:
    """Write the HTML; BadSettings where the file cannot be written."""
    write_report(path, _page(report))


def _page(report: Report) -> str:
    parts = [f"<p>{html.escape(summary(report))}</p>"]
    parts.append(
        "<p>Medians, with the least and the most of the runs below. Every system was checked before it was "
        "timed, and its counts were compared with what it had stored afterwards. <em>Times</em>: how many "
        "times the rate of the row the first row's is, run by run. CPU is that of the system and its "
        "database; the client's share of the machine stands beside.</p>"
    )
    drawn = False
    for table in report.tables:
        parts.append(f"<h2>{html.escape(table.title)}</h2>")
        if table.skipped:
            parts.append(f"<p>Skipped: {html.escape(table.skipped)}</p>")
            continue
        parts.append(f"<p>{html.escape(table.note)}</p>")
        parts.append(f'<div class="table">{_table(table)}</div>')
        parts.append(f"<figure>{_bars(table, with_library=not drawn)}</figure>{_notes(table)}")
        drawn = True
    for chart in report.charts:
        parts.append(f"<h2>{html.escape(chart.title)}</h2>")
        parts.append(f"<figure>{_lines(chart, with_library=not drawn)}</figure>")
        drawn = True
    parts.append(f"<p>Again: <code>{html.escape(report.command)}</code></p>")
    return html_page("Benchmarks", "\n".join(parts))


def _table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(title)}</th>" for _, title, _ in columns(table))
    lines = []
    for row in table.rows:
        found = [text_of(row.ratio, 1), *cells(table, row)]
        texts = "".join(f"<td>{_small(text)}</td>" for text in found)
        lines.append(f"<tr><td>{html.escape(row.label)}</td>{texts}</tr>")
    head = f"<tr><th>{html.escape(table.operation)}</th><th>times</th>{head}</tr>"
    return f"<table><thead>{head}</thead><tbody>{''.join(lines)}</tbody></table>"


def _small(text: str) -> str:
    median, _, spread = text.partition("\n")
    return f"{median}<br><small>{spread}</small>" if spread else median


def _notes(table: Table) -> str:
    notes = {row.system: row.note for row in table.rows}
    listed = (f"<li>{html.escape(f'{name}: {note}')}</li>" for name, note in notes.items())
    return f"<ul>{''.join(listed)}</ul>"


def _bars(table: Table, *, with_library: bool) -> str:
    from plotly import graph_objects

    rates = [row.figures["rate"] for row in table.rows]
    bars = graph_objects.Bar(
        y=[row.label for row in table.rows],
        x=[rate.median for rate in rates],
        orientation="h",
        marker={"color": _COLOURS[0]},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [rate.max - rate.median for rate in rates],
            "arrayminus": [rate.median - rate.min for rate in rates],
        },
    )
    figure = graph_objects.Figure(bars)
    figure.update_layout(
        **_LAYOUT,
        xaxis={"title": {"text": f"{table.operation} per second"}, **_GRID},
        yaxis={"autorange": "reversed", "automargin": True},
        height=120 + 40 * len(rates),
    )
    return _html(figure, with_library)


def _lines(chart: Chart, *, with_library: bool) -> str:
    from plotly import graph_objects

    figure = graph_objects.Figure()
    for line, colour in zip(chart.lines, _coloured(len(chart.lines)), strict=True):
        figure.add_trace(
            graph_objects.Scatter(
                x=list(line.x),
                y=list(line.y),
                name=line.label,
                mode="lines+markers",
                line={"color": colour, "width": 2},
            )
        )
    figure.update_layout(
        **_LAYOUT,
        xaxis={
            "title": {"text": chart.x},
            "type": "log" if chart.logarithmic else "linear",
            **_GRID,
        },
        yaxis={"title": {"text": chart.y}, "rangemode": "tozero", **_GRID},
        legend={"orientation": "h", "y": 1.2},
        showlegend=True,
        height=420,
    )
    return _html(figure, with_library)


def _coloured(lines: int) -> Sequence[str]:
    return [_COLOURS[n % len(_COLOURS)] for n in range(lines)]


def _html(figure: Any, with_library: bool) -> str:
    return str(figure.to_html(full_html=False, include_plotlyjs=with_library, config=_CHART))
