"""What reports for people have in common: one HTML file that needs nothing else."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Final

from groundswell.errors import BadSettings

_STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --good: #15803d; --bad: #b91c1c; }
@media (prefers-color-scheme: dark) { :root { --good: #4ade80; --bad: #f87171; } }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
h1 { line-height: 1.2; }
.table { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { border-top: 1px solid var(--line); padding: .45rem .6rem; text-align: right; }
th:first-child, td:first-child { text-align: left; }
.kept { color: var(--good); font-weight: 600; }
.broken { color: var(--bad); font-weight: 600; }
li.kept, li.broken { font-weight: 400; }
figure { margin: 1.5rem 0; }
figcaption { opacity: .75; }
"""


def html_page(title: str, body: str) -> str:
    """A whole page; `body` is HTML. `kept` and `broken` are the classes of what was promised."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Groundswell: {html.escape(title)}</title><style>{_STYLE}</style></head><body>
<h1>{html.escape(title)}</h1>
{body}</body></html>
"""


def write_report(path: Path, page: str) -> None:
    """Write a page; BadSettings where the file cannot be written."""
    try:
        path.write_text(page, "utf-8")
    except OSError as error:
        raise BadSettings(f"The report {path} cannot be written: {error.strerror}.") from error
