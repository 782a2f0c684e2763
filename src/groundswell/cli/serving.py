"""`serve`, `migrate`, `status` and `key`: what runs a node."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import secrets
import signal
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.logging import RichHandler
from rich.table import Table

from groundswell import config, wiring
from groundswell.cli import workers as workers_
from groundswell.cli.main import File, Key, StoreUrl, Url, app, err, execute, out
from groundswell.config import Settings
from groundswell.errors import BadSettings

if TYPE_CHECKING:
    from groundswell.node import Node
    from groundswell.server.app import App


@app.command()
def serve(
    store: StoreUrl = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    replicas: Annotated[int | None, typer.Option(help="Copies of the counts in this node.")] = None,
    replica_delay_ms: Annotated[
        str | None, typer.Option(help="Injected delay of each replica: 0,150,600.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes on the one port, each a node of its own.")
    ] = None,
    standby: Annotated[
        str | None, typer.Option(help="A streaming standby of the PostgreSQL store.")
    ] = None,
    file: File = None,
    demo: Annotated[
        bool | None,
        typer.Option("--demo", help="Controls for the live page: a spike, delays, stopped parts."),
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
) -> None:
    """Run one node until it is told to stop (SIGTERM, Ctrl-C)."""
    flags = {
        "store": store,
        "host": host,
        "port": port,
        "workers": workers,
        "standby": standby,
        "replicas": replicas,
        "replica_delay_ms": _delays(replica_delay_ms),
        "demo": demo,
        "log_level": log_level,
    }
    settings = config.load(file, flags=flags)
    _log(settings)
    if settings.workers == 1:
        execute(_serve_alone(settings))
    else:
        with workers_.reserved(settings.host, settings.port) as reserved:
            _announce(settings, reserved)
            workers_.run(settings, reserved, _work)
    out.print("Stopped; everything that was accepted is stored.", highlight=False)


def _log(settings: Settings) -> None:
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(name)s: %(message)s"
        if err.is_terminal
        else "%(levelname)s %(name)s: %(message)s",
        handlers=[RichHandler(console=err, show_path=False)] if err.is_terminal else None,
    )


def _delays(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


async def _serve_alone(settings: Settings) -> None:
    from groundswell.server.run import free_port, serve

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    port = free_port(settings.host, settings.port)
    async with wiring.node(settings) as node:
        _announce(settings, port)
        async with _app(node, settings) as served:
            await serve(served, settings.host, port, stop)


async def _work(settings: Settings, port: int, stop: asyncio.Event) -> None:
    """One of several workers, in a process of its own."""
    from groundswell.server.run import serve

    _log(settings)
    async with wiring.node(settings) as node, _app(node, settings) as served:
        await serve(served, settings.host, port, stop)


@contextlib.asynccontextmanager
async def _app(node: Node, settings: Settings) -> AsyncIterator[App]:
    """What is served: of a demo node with its controls, which no other node has."""
    if not settings.demo:
        yield wiring.app(node, settings)
        return
    from groundswell.demo.controls import controlling

    async with controlling(node) as endpoints:
        yield wiring.app(node, settings, endpoints)


def _announce(settings: Settings, port: int) -> None:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    workers = f", {settings.workers} workers" if settings.workers > 1 else ""
    out.print(
        f"Groundswell listens on http://{host}:{port}, store {config.redacted(settings.store)}, "
        f"{settings.replicas} replica(s){workers}.",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def migrate(
    store: StoreUrl = None,
    queue: Annotated[
        str | None, typer.Option(help="Of a new PostgreSQL store: auto, pgq or outbox.")
    ] = None,
    distributed: Annotated[
        str | None,
        typer.Option(help="citus: a new PostgreSQL store, its edges on Citus's workers."),
    ] = None,
    file: File = None,
) -> None:
    """Create the store's tables, or bring them to this version and to the declared kinds."""
    flags = {"store": store, "queue": queue, "distributed": distributed}
    settings = config.load(file, flags=flags)
    before, after = execute(wiring.migrate(settings))
    url = config.redacted(settings.store)
    done = f"was at version {before}, now at" if before != after else "is at"
    out.print(f"{url} {done} version {after}.", highlight=False, soft_wrap=True)
    if settings.distributed:
        kinds = [kind for kind in settings.declared() if kind.unique]
        spread = ", ".join(kind.name for kind in kinds if kind.by_target)
        others = ", ".join(kind.name for kind in kinds if not kind.by_target)
        out.print(
            f"Citus has objects and the edges of: {spread or 'no kind'}. On the coordinator, for their "
            f"lists by source or their seats: {others or 'none'}.",
            highlight=False,
            soft_wrap=True,
        )


@app.command()
def status(url: Url = "http://127.0.0.1:8080", key: Key = None) -> None:
    """Show where a node, its store and its replicas stand."""
    execute(_status(url, key))


async def _status(url: str, key: str | None) -> None:
    async with wiring.connect(url, key=key) as gs:
        found = await gs.status()
    out.print(
        f"{found.store}, epoch {found.epoch}, revision {found.revision}, rollup {found.rollup}, "
        f"{found.backlog} event(s) waiting; version {found.version}, up {found.uptime_s:.0f} s",
        highlight=False,
        soft_wrap=True,
    )
    table = Table("replica", "rollup", "revision", "age ms", "injected delay ms")
    for replica in found.replicas:
        age = "unknown" if replica.age_ms is None else f"{replica.age_ms:.0f}"
        table.add_row(
            replica.name, str(replica.rollup), replica.revision, age, f"{replica.delay_ms:.0f}"
        )
    out.print(table)


@app.command()
def key(
    name: Annotated[str, typer.Argument(help="For people: who will use it.")],
    scope: Annotated[list[str] | None, typer.Option(help="read, write, admin; repeatable.")] = None,
) -> None:
    """Make an API key: prints it once, and the lines for groundswell.toml."""
    scopes = scope or ["read", "write"]
    if unknown := set(scopes) - {"read", "write", "admin"}:
        raise BadSettings(f"Unknown scope {sorted(unknown)[0]!r}; there are read, write and admin.")
    made = secrets.token_urlsafe(32)
    digest = hashlib.sha256(made.encode()).hexdigest()
    err.print("The key, shown only now:", highlight=False)
    out.print(made, highlight=False, soft_wrap=True)
    err.print("For groundswell.toml:", highlight=False)
    listed, quoted = json.dumps(scopes), json.dumps(name, ensure_ascii=False)
    out.print(
        f'[[keys]]\nname = {quoted}\nsha256 = "{digest}"\nscopes = {listed}',
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
