"""The `groundswell` command: options in, errors out."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Coroutine, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer
from rich.console import Console

from groundswell.errors import GroundswellError

T = TypeVar("T")

# The module of each command: that of the one that is run is imported, and no other.
COMMANDS: Final = {
    **dict.fromkeys(("add", "remove", "count"), "data"),
    **dict.fromkeys(("serve", "migrate", "status", "key"), "serving"),
    **dict.fromkeys(("demo", "replay"), "spike"),
    **dict.fromkeys(("verify", "history"), "verify"),
    "bench": "bench",
}

app = typer.Typer(
    help="Keeps social counts right, fast and honest when something goes viral.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
out = Console()
err = Console(stderr=True)

Url = Annotated[
    str, typer.Option("--url", envvar="GROUNDSWELL_URL", help="Address of a running node.")
]
Key = Annotated[
    str | None,
    typer.Option("--key", envvar="GROUNDSWELL_KEY", help="API key, where the node needs one."),
]
File = Annotated[
    Path | None,
    typer.Option("--config", help="Settings file (default: groundswell.toml, if there is one)."),
]
StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="sqlite:///file.db, postgresql://user@host/database, or memory:// to forget at exit.",
    ),
]


def run() -> None:
    """Run the command line; an error that was raised on purpose is one line on standard error."""
    load(sys.argv[1:2])
    try:
        app()
    except GroundswellError as error:
        err.print(f"[bold red]error[/] ({error.code}): ", end="")
        err.print(error.detail, markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def load(arguments: Sequence[str]) -> None:
    """Add the command that is asked for to the app, or all where that is none of them (`--help`)."""
    asked = [COMMANDS[name] for name in arguments if name in COMMANDS]
    for module in asked or dict.fromkeys(COMMANDS.values()):
        importlib.import_module(f"groundswell.cli.{module}")


def execute(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on the fastest event loop there is."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"groundswell {version('groundswell')}", highlight=False)
        raise typer.Exit


@app.callback()
def main(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Options before the command."""
