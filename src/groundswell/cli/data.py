"""`add`, `remove` and `count`: single calls to a running node."""

from __future__ import annotations

from typing import Annotated

import typer

from groundswell import wiring
from groundswell.cli.main import Key, Url, app, execute, out
from groundswell.model import Id

Kind = Annotated[str, typer.Argument(help="A declared kind, like follow or like.")]
Target = Annotated[str, typer.Argument(help="What it is done to.")]
Source = Annotated[str, typer.Argument(help="Who does it.")]


@app.command()
def add(
    kind: Kind,
    target: Target,
    source: Source,
    value: Annotated[int | None, typer.Option(help="For kinds that carry one.")] = None,
    url: Url = "http://127.0.0.1:8080",
    key: Key = None,
) -> None:
    """Let an edge exist, and show the count as this session sees it."""

    async def work() -> None:
        async with wiring.connect(url, key=key) as gs:
            me, of = gs.session(), _id(target)
            changed = await me.add(kind, of, _id(source), value=value)
            count = await me.count(kind, of)
        out.print(f"{'added' if changed else 'was there already'}; count {count.value}")

    execute(work())


@app.command()
def remove(
    kind: Kind,
    target: Target,
    source: Source,
    url: Url = "http://127.0.0.1:8080",
    key: Key = None,
) -> None:
    """Let an edge not exist, and show the count as this session sees it."""

    async def work() -> None:
        async with wiring.connect(url, key=key) as gs:
            me, of = gs.session(), _id(target)
            changed = await me.remove(kind, of, _id(source))
            count = await me.count(kind, of)
        out.print(f"{'removed' if changed else 'was not there'}; count {count.value}")

    execute(work())


@app.command()
def count(
    kind: Kind,
    target: Target,
    consistency: Annotated[
        str | None,
        typer.Option(help="eventual, read_your_writes, monotonic, causal or linearizable."),
    ] = None,
    max_age_ms: Annotated[int | None, typer.Option(help="How old it may be at most.")] = None,
    url: Url = "http://127.0.0.1:8080",
    key: Key = None,
) -> None:
    """Read one count."""

    async def work() -> None:
        async with wiring.connect(url, key=key) as gs:
            found = await gs.session().count(
                kind, _id(target), level=consistency, max_age_ms=max_age_ms
            )
        age = "unknown" if found.age_ms is None else f"{found.age_ms:.0f} ms"
        total = "" if found.sum is None else f", sum {found.sum}"
        out.print(
            f"{found.value}{total} ({found.level}, from {found.served_by}, age at most {age})",
            highlight=False,
        )

    execute(work())


def _id(text: str) -> Id:
    """An integer where it is spelt as one; the node knows the declared type and checks."""
    return int(text) if text.lstrip("-").isdecimal() and len(text) <= 20 else text
