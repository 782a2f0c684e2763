"""The demonstration's report: one HTML file that needs nothing else."""

from __future__ import annotations

import html
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from groundswell.demo.run import Outcome, Row, Sample, verdicts
from groundswell.errors import BadSettings
from groundswell.reports import html_page, write_report

# Field of a row, its title in the report, and in a terminal of 80 columns.
COLUMNS: Final = (
    ("reads", "reads", "reads"),
    ("went_backwards", "went backwards", "went\nback"),
    ("missed_own_write", "missed own write", "missed\nown"),
    ("reply_before_question", "reply before question", "reply\nfirst"),
    ("stale_reads", "stale", "stale"),
    ("double_spent", "double spent", "2x\nspent"),
    ("oversold", "oversold", "over\nsold"),
    ("p50_ms", "p50 ms", "p50\nms"),
    ("p99_ms", "p99 ms", "p99\nms"),
    ("replica_share", "from replicas", "from\nrepl."),
    ("age_ms_max", "highest age ms", "age\nms"),
)

# What each level promises never happens: shown as kept or broken, the rest as allowed.
FORBIDDEN: Final = {
    "eventual": (),
    "read_your_writes": ("missed_own_write",),
    "monotonic": ("went_backwards",),
    "causal": ("went_backwards", "missed_own_write", "reply_before_question"),
    "linearizable": (
        "went_backwards",
        "missed_own_write",
        "reply_before_question",
        "stale_reads",
        "double_spent",
        "oversold",
    ),
}

_COLOURS: Final = ("#3b82f6", "#f59e0b", "#ef4444", "#10b981", "#8b5cf6", "#ec4899")

_CHART: Final = {"responsive": True, "displayModeBar": False}


def text_of(row: Row, column: str) -> str:
    """A cell of the table, for the terminal and for the report."""
    value = getattr(row, column)
    if column == "replica_share":
        return f"{value:.0%}" if value > 0.999 else f"{value:.1%}"
    if column in ("p50_ms", "p99_ms"):
        return f"{value:.1f}"
    return f"{value:,.0f}"


def standing(level: str, column: str, row: Row) -> str:
    """Whether a level's promise about this column was kept: "kept", "broken", or "" for none."""
    if column not in FORBIDDEN[level]:
        return ""
    return "broken" if getattr(row, column) else "kept"


def check_installed() -> None:
    """Raise BadSettings, before anything is started, where the chart cannot be drawn."""
    if importlib.util.find_spec("plotly") is None:
        raise BadSettings(
            "The report's chart needs plotly: pip install 'groundswell[demo]'. Nothing was started."
        )


def write(path: Path, outcome: Outcome) -> None:
    """Write the report; BadSettings where the file cannot be written."""
    write_report(path, _page(outcome))


def _page(outcome: Outcome) -> str:
    kind, target = outcome.hottest
    check = outcome.result.trace
    exact = "exact" if check.counts_exact else "NOT exact"
    checks = "".join(
        f'<li class="{"kept" if held else "broken"}">'
        f"{html.escape(name)}: {'yes' if held else 'NO'}</li>"
        for name, held in verdicts(outcome).items()
    )
    body = f"""
<p>{check.actions:,} actions in {outcome.seconds:.0f} seconds, {outcome.repeated:,} of them sent twice, and
{outcome.replies:,} replies, written and read over HTTP. The node has three replicas whose delays of 0,
150 and 600 ms are injected. {check.edges:,} edges are stored; every count compared with the trace:
<strong>{exact}</strong>.</p>
<figure>{_chart(outcome)}<figcaption>The hottest count ({html.escape(kind)} of {html.escape(str(target))})
as each replica showed it to eventual reads. Whoever is served by another replica at each refresh jumps
between these lines.</figcaption></figure>
<h2>What each level saw</h2><div class="table">{_table(outcome)}</div>
<p>Green zeros are promises of that level; other figures are what it allows. A read is stale if it began
after a write had been acknowledged and did not show it. Double spent and oversold: decided on a read at
that level, then written unconditionally, in turns. Where others act between the look and the act no level
of a read is enough; a transfer with a floor, and an exclusive claim, let nothing through at any level.</p>
<h2>Checks</h2><ul>{checks}</ul>
"""
    return html_page("One spike, five consistency levels", body)


def _table(outcome: Outcome) -> str:
    head = "".join(f"<th>{title}</th>" for _, title, _ in COLUMNS)
    rows = "".join(
        f"<tr><td>{level}</td>"
        + "".join(
            f'<td class="{standing(level, column, row)}">{text_of(row, column)}</td>'
            for column, _, _ in COLUMNS
        )
        + "</tr>"
        for level, row in outcome.result.levels.items()
    )
    return f"<table><thead><tr><th>level</th>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _chart(outcome: Outcome) -> str:
    # Imported here: only the report needs it, and it is an extra.
    from plotly import graph_objects

    figure = graph_objects.Figure()
    _line(figure, "acknowledged", outcome.acknowledged, colour="#6b7280", dash="dot")
    names = sorted({sample.served_by for sample in outcome.samples})
    for name, colour in zip(names, _COLOURS, strict=False):
        shown = [sample for sample in outcome.samples if sample.served_by == name]
        _line(figure, name, shown, colour=colour, dash="solid")
    figure.update_layout(
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": "#808080", "family": "system-ui, sans-serif", "size": 14},
        xaxis={"title": {"text": "seconds"}, "gridcolor": "rgba(128,128,128,.25)"},
        yaxis={"title": {"text": "count"}, "gridcolor": "rgba(128,128,128,.25)"},
        legend={"orientation": "h", "y": 1.12},
        hovermode="x unified",
        margin={"l": 70, "r": 20, "t": 30, "b": 50},
        height=480,
    )
    return str(figure.to_html(full_html=False, include_plotlyjs=True, config=_CHART))


def _line(figure: object, name: str, samples: Sequence[Sample], *, colour: str, dash: str) -> None:
    from plotly import graph_objects

    figure.add_trace(  # type: ignore[attr-defined]
        graph_objects.Scatter(
            x=[round(sample.at_s, 3) for sample in samples],
            y=[sample.count for sample in samples],
            name=name,
            mode="lines",
            line={"shape": "hv", "color": colour, "dash": dash, "width": 2},
        )
    )
