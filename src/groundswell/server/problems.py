"""What each error means in HTTP."""

from __future__ import annotations

from typing import Final

from groundswell import errors
from groundswell.server.http import Headers, Response, answered
from groundswell.wire import Problem

STATUS: Final[dict[type[errors.GroundswellError], int]] = {
    errors.BadRequest: 400,
    errors.BadToken: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.UnknownKind: 404,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.TooLarge: 413,
    errors.Unavailable: 503,
    errors.GroundswellError: 500,
}

TITLES: Final = {
    400: "Bad request",
    401: "Unauthenticated",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    408: "Request timeout",
    409: "Conflict",
    413: "Too large",
    431: "Request header fields too large",
    500: "Internal error",
    503: "Unavailable",
}

_HEADERS: Final[Headers] = ((b"content-type", b"application/problem+json"),)


def status_of(error: type[errors.GroundswellError]) -> int:
    """The status of an error class: its own, or that of the nearest class above it."""
    return next(STATUS[cls] for cls in error.__mro__ if cls in STATUS)


def problem(error: errors.GroundswellError) -> Response:
    """The response that tells of an error."""
    status = status_of(type(error))
    headers: Headers = _HEADERS
    if isinstance(error, errors.Overloaded):
        headers = (*headers, (b"retry-after", str(error.retry_after_s).encode()))
    if isinstance(error, errors.Unauthenticated):
        headers = (*headers, (b"www-authenticate", b"Bearer"))
    return answered(
        Problem(
            title=TITLES[status],
            status=status,
            code=error.code,
            detail=error.detail,
            version=error.version if isinstance(error, errors.VersionConflict) else None,
            index=error.index,
            read=dict(error.read) if isinstance(error, errors.NotFound) and error.read else None,
        ),
        token=error.token,
        status=status,
        headers=headers,
    )


def plain(status: int, code: str, detail: str, *headers: tuple[bytes, bytes]) -> Response:
    """A problem that is none of the node's errors."""
    return answered(
        Problem(title=TITLES[status], status=status, code=code, detail=detail),
        status=status,
        headers=(*_HEADERS, *headers),
    )
