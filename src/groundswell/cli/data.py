"""`add`, `remove` and `count`: single calls to a running node."""

from __future__ import annotations

import itertools
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated

import typer

from groundswell import wiring
from groundswell.cli.main import Key, Url, app, execute, out
from groundswell.errors import BadRequest
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
            me = gs.session()
            changed = await _with_ids(partial(me.add, kind, value=value), target, source)
            count = await me.count(kind, target)
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
            me = gs.session()
            changed = await _with_ids(partial(me.remove, kind), target, source)
            count = await me.count(kind, target)
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
            found = await gs.session().count(kind, target, level=consistency, max_age_ms=max_age_ms)
        age = "unknown" if found.age_ms is None else f"{found.age_ms:.0f} ms"
        total = "" if found.sum is None else f", sum {found.sum}"
        out.print(
            f"{found.value}{total} ({found.level}, from {found.served_by}, age at most {age})",
            highlight=False,
        )

    execute(work())


async def _with_ids(write: Callable[[Id, Id], Awaitable[bool]], target: str, source: str) -> bool:
    """What `write` returns for these ids: digits may be a number or text, which the kind decides.

    The node checks before it changes anything, so that the other spelling can be tried.
    """
    refused: BadRequest | None = None
    for of, by in itertools.product(_spellings(target), _spellings(source)):
        try:
            return await write(of, by)
        except BadRequest as error:
            refused = refused or error
    raise refused or BadRequest("There is no way to spell these ids.")


def _spellings(text: str) -> tuple[Id, ...]:
    return (int(text), text) if re.fullmatch(r"-?[1-9][0-9]{0,18}|0", text) else (text,)
