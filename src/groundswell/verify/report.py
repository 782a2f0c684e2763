"""The report of a verification, as rows for a terminal and as one HTML file."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from groundswell.reports import html_page, write_report
from groundswell.verify.history import Op
from groundswell.verify.judge import Finding
from groundswell.verify.run import Report
from groundswell.verify.tally import Row

# Titles of the columns: of the report, and of a terminal of 80 columns.
COLUMNS: Final = (
    ("operations", "opera-\ntions"),
    ("reads", "reads"),
    ("refused", "re-\nfused"),
    ("from replicas", "from\nrepl."),
    ("went backwards", "went\nback"),
    ("missed own write", "missed\nown"),
    ("stale", "stale"),
    ("highest age ms", "age\nms"),
    ("wrong at most", "wrong at\nmost"),
)
# By level: the anomalies of which there may be none.
FORBIDDEN: Final = {
    "read_your_writes": ("missed own write",),
    "monotonic": ("went backwards",),
    "causal": ("went backwards", "missed own write"),
    "linearizable": ("went backwards", "missed own write", "stale"),
}


def cells(row: Row) -> Iterator[tuple[str, str]]:
    """What stands in a level's row, each with its class: "kept", "broken" or ""."""
    found = {
        "operations": f"{row.operations:,}",
        "reads": f"{row.reads:,}",
        "refused": f"{row.refused:,}",
        "from replicas": f"{row.replica_share:.0%}",
        "went backwards": f"{row.went_backwards:,}",
        "missed own write": f"{row.missed_own_write:,}",
        "stale": f"{row.stale:,}",
        "highest age ms": "-" if row.age_ms_max is None else f"{row.age_ms_max:,.0f}",
        "wrong at most": "-" if row.proves is None else f"{row.proves:.2g}",
    }
    for title, _ in COLUMNS:
        text, promised = found[title], title in FORBIDDEN.get(row.level, ())
        yield text, ("kept" if text == "0" else "broken") if promised else ""


def summary(report: Report) -> str:
    """What was done, in one line."""
    ended = report.operations
    return (
        f"{report.label}: {sum(ended.values()):,} operations in {report.seconds:.0f} s "
        f"({ended.get('ok', 0):,} ok, {ended.get('fail', 0):,} refused, "
        f"{ended.get('info', 0):,} of unknown outcome)"
    )


def faults(report: Report) -> str:
    """What went wrong on purpose, in one line."""
    if not report.faults:
        return "No faults were injected."
    counted = Counter(fault.name for fault in report.faults)
    parts = [f"{times} x {name}" for name, times in sorted(counted.items())]
    return f"{len(report.faults)} faults: {', '.join(parts)}."


def ended(report: Report) -> str:
    """How it came to rest, in one line."""
    if report.unsettled is not None:
        return f"The truth in the end could not be read: {report.unsettled}"
    if report.converged_s is None:
        return "Replicas did not come to the truth."
    return f"All replicas showed the truth {report.converged_s:.1f} s after the last write."


def meaning(report: Report) -> str:
    """The verdict, and what it says."""
    if report.verdict == "failed":
        return "FAILED: a promise was broken. Each violation is shown with the operations it takes."
    if report.verdict == "unknown":
        return (
            "UNKNOWN: nothing wrong was seen, but too little succeeded to say anything. Give it more "
            "time (--seconds)."
        )
    return (
        "PASSED: no promise was broken. 'wrong at most' is the share of a level's reads that may be "
        "wrong all the same, at 95 % (3/n)."
    )


def witness(ops: Sequence[Op]) -> list[str]:
    """Operations as lines, in the order of their beginning; times in ms from the first."""
    ops = sorted(ops, key=lambda op: op.start)
    return [
        f"{(op.start - ops[0].start) / 1e6:10.3f} ms  session {op.session}  "
        f"{op.level or ''} {op.f} {' '.join(op.keys)}"
        + (f" {op.values}" if op.values else "")
        + (f" -> {op.found or ''}{f' version {op.versions[0]}' if op.versions else ''}")
        + (f" by {op.served_by} of node {op.node}" if op.served_by else f" at node {op.node}")
        + f", {op.type}"
        + (f" after {(op.end - op.start) / 1e6:.3f} ms" if op.type == "ok" else "")
        for op in ops
    ]


def violations(report: Report) -> Iterator[tuple[Finding, list[str]]]:
    """Each violation with its witness."""
    found = (finding for finding in report.findings if finding.violation is not None)
    for finding, ops in zip(found, report.witnesses, strict=True):
        yield finding, witness(ops)


def write(path: Path, report: Report, command: str) -> None:
    """Write the report, with the command that repeats it; BadSettings where that is not possible."""
    write_report(path, html_page("What was promised, and what was seen", _body(report, command)))


def _body(report: Report, command: str) -> str:
    text = html.escape
    head = "".join(f"<th>{title}</th>" for title, _ in COLUMNS)
    rows = "".join(
        f"<tr><td>{row.level}</td>"
        + "".join(f'<td class="{kind}">{cell}</td>' for cell, kind in cells(row))
        + "</tr>"
        for row in report.levels
    )
    broken = "".join(
        f"<h3>{text(finding.level)}: {text(finding.name)}</h3>"
        f"<p class=broken>{text(finding.violation.what if finding.violation else '')}</p>"
        f"<pre>{text(chr(10).join(lines))}</pre>"
        for finding, lines in violations(report)
    )
    checks = "".join(
        f"<tr><td>{text(finding.level)}: {text(finding.name)}</td><td>{finding.checked:,}</td>"
        f'<td class="{"broken" if finding.violation else "kept"}">{_standing(finding)}</td></tr>'
        for finding in report.findings
    )
    injected = "".join(
        f"<tr><td>{text(fault.name)}: {text(fault.place)}</td><td>{fault.at_s:.1f}</td>"
        f"<td>{fault.lasted_s:.1f}</td></tr>"
        for fault in sorted(report.faults, key=lambda fault: fault.at_s)
    )
    return f"""
<p class="{"kept" if report.verdict == "passed" else "broken"}">{text(meaning(report))}</p>
<p>{text(summary(report))}. {text(faults(report))} {text(ended(report))}</p>
{broken}
<h2>What each level showed</h2>
<div class="table"><table><thead><tr><th>level</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>
<p>Green zeros are promises of that level; other figures are what it allows. Stale: the read began after a
write had been acknowledged, and did not show it.</p>
<h2>What was checked</h2>
<div class="table"><table>
<thead><tr><th>check</th><th>judged</th><th>verdict</th></tr></thead>
<tbody>{checks}</tbody></table></div>
<h2>What went wrong on purpose</h2>
<div class="table"><table><thead><tr><th>fault</th><th>at s</th><th>for s</th></tr></thead>
<tbody>{injected}</tbody></table></div>
<p>Again: <code>{text(command)}</code></p>
"""


def _standing(finding: Finding) -> str:
    if finding.violation is not None:
        return "BROKEN"
    return "held" if finding.checked else "nothing to check"
