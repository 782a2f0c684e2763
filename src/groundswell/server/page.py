"""The live page: static files of the package, and the chart library of the extra `page`."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable, Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from groundswell.server.http import Headers, Response

MISSING: Final = (
    "The live page needs its chart library, which is not installed: pip install 'groundswell[page]'. "
    "The API is described at /docs."
)

# Nothing from elsewhere, nothing inline, nothing made of text; the page may not be framed, nor send forms.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_INDEX: Final = "index.html"

# The wheel that carries uPlot, unchanged; its code is never imported, only these files are read.
_CARRIER: Final = "youplot"
_LIBRARY: Final = {"uplot.js": "uplot.iife.min.js", "uplot.css": "uplot.min.css"}


def files() -> dict[bytes, Response]:
    """The files by their paths; none at all where the chart library is not installed."""
    return {
        b"/" if name == _INDEX else f"/page/{name}".encode(): _response(name, file)
        for name, file in _found()
    }


def _found() -> Iterator[tuple[str, Traversable]]:
    library = _library()
    if library is None:
        return
    yield from library
    for file in (resources.files("groundswell") / "page").iterdir():
        if Path(file.name).suffix in _TYPES:
            yield file.name, file


def _library() -> list[tuple[str, Traversable]] | None:
    spec = importlib.util.find_spec(_CARRIER)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "vendor"
    found: list[tuple[str, Traversable]] = [
        (name, folder / there) for name, there in _LIBRARY.items()
    ]
    return found if all(file.is_file() for _, file in found) else None


def _response(name: str, file: Traversable) -> Response:
    body = file.read_bytes()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    return Response(
        body,
        headers=(
            (b"content-type", _TYPES[Path(name).suffix].encode()),
            (b"etag", etag.encode()),
            (b"cache-control", b"no-cache"),  # asked for each time, and sent when it has changed
            (b"content-security-policy", _POLICY.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
        ),
    )


def unchanged(file: Response, headers: Iterable[tuple[bytes, bytes]]) -> Response | None:
    """That the client has this file already; None where it has not, or it has no tag."""
    etag = dict(file.headers).get(b"etag")
    if etag is None:
        return None
    for name, value in headers:
        if name == b"if-none-match" and etag in (tag.strip() for tag in value.split(b",")):
            kept: Headers = tuple(one for one in file.headers if one[0] != b"content-type")
            return Response(b"", 304, kept)
    return None
