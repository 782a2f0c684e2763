"""Every error that Groundswell raises on purpose.

    GroundswellError
    ├── BadRequest
    │   ├── BadToken
    │   ├── TooLarge
    │   ├── UnknownKind
    │   └── BadSettings
    ├── Unauthenticated
    ├── Forbidden
    ├── NotFound
    │   ├── EdgeNotFound
    │   ├── ObjectNotFound
    │   ├── AccountNotFound
    │   └── TransferNotFound
    ├── Conflict
    │   ├── VersionConflict
    │   ├── SeatTaken
    │   ├── InsufficientFunds
    │   ├── CeilingExceeded
    │   └── TransferConflict
    └── Unavailable
        ├── Overloaded
        ├── ReplicaLate
        ├── ReplicaUnavailable
        ├── NodeUnreachable
        └── StoreUnavailable
            └── StoreUnusable

`code` is stable and part of the public interface; what a transport makes of it is the transport's
business. The message says what happened, what was not changed, and what to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


class GroundswellError(Exception):
    """Base of all errors raised on purpose."""

    code = "error"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail
        #: What the session has learnt although the call failed (set for conflicts), or None.
        self.token: str | None = None
        #: In a batch that was refused as a whole: the write that is at fault.
        self.index: int | None = None


class BadRequest(GroundswellError):
    """The call itself is wrong; nothing was changed, and repeating it will not help."""

    code = "bad-request"


class BadToken(BadRequest):
    """A session token that this store did not issue; start a new session without it."""

    code = "bad-token"


class TooLarge(BadRequest):
    """The input exceeds a limit; nothing was changed."""

    code = "too-large"


class UnknownKind(BadRequest):
    """The kind is not declared in the settings of this node."""

    code = "unknown-kind"


class BadSettings(BadRequest):
    """The configuration cannot be used; the program has not started."""

    code = "bad-settings"


class Unauthenticated(GroundswellError):
    """No API key, or one that is not known."""

    code = "unauthenticated"


class Forbidden(GroundswellError):
    """The API key is known but lacks the scope that the call needs."""

    code = "forbidden"


class NotFound(GroundswellError):
    """What was asked for does not exist."""

    code = "not-found"

    def __init__(self, detail: str, *, read: Mapping[str, Any] | None = None) -> None:
        super().__init__(detail)
        #: How the read that found nothing was served: the members of `wire.ReadInfo`.
        self.read = read


class EdgeNotFound(NotFound):
    """There is no such edge."""

    code = "edge-not-found"


class ObjectNotFound(NotFound):
    """There is no such object."""

    code = "object-not-found"


class AccountNotFound(NotFound):
    """There is no such account."""

    code = "account-not-found"


class TransferNotFound(NotFound):
    """There is no such transfer."""

    code = "transfer-not-found"


class Conflict(GroundswellError):
    """The write contradicts what is stored; nothing was changed."""

    code = "conflict"


class VersionConflict(Conflict):
    """The object is not at the version the write was made for."""

    code = "version-conflict"

    def __init__(self, detail: str, *, version: int) -> None:
        super().__init__(detail)
        #: The version the object stands at; 0 where it does not exist.
        self.version = version


class SeatTaken(Conflict):
    """Another source holds this target of an exclusive kind."""

    code = "seat-taken"


class InsufficientFunds(Conflict):
    """The account would fall below its floor."""

    code = "insufficient-funds"


class CeilingExceeded(Conflict):
    """The account would rise above its ceiling."""

    code = "ceiling-exceeded"


class TransferConflict(Conflict):
    """The id stands for another transfer, or for one that is beyond what was asked of it."""

    code = "transfer-conflict"


class Unavailable(GroundswellError):
    """It cannot be done right now; the same call may succeed later."""

    code = "unavailable"


class Overloaded(Unavailable):
    """The queue of waiting writes is full; nothing was changed."""

    code = "overloaded"

    def __init__(self, detail: str, *, retry_after_s: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class ReplicaLate(Unavailable):
    """No replica could meet the level in time, and the read asked not to go to the primary."""

    code = "replica-late"


class ReplicaUnavailable(Unavailable):
    """Where a replica's rows are kept cannot be reached or is behind; reads go elsewhere."""

    code = "replica-unavailable"


class NodeUnreachable(Unavailable):
    """No answer came from the node; a write that was sent may or may not have happened."""

    code = "node-unreachable"


class StoreUnavailable(Unavailable):
    """The store cannot be reached or cannot take the write; what was not acknowledged is not promised."""

    code = "store-unavailable"


class StoreUnusable(StoreUnavailable):
    """The store cannot be opened as it is: locked, read-only, not a database, of another schema."""

    code = "store-unusable"


def _tree(root: type[GroundswellError]) -> Iterator[type[GroundswellError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


def by_code(code: str, detail: str, *, version: int | None = None) -> GroundswellError:
    """The error that a stable code names, as the other end of a connection raised it."""
    found = {error.code: error for error in _tree(GroundswellError)}.get(code, GroundswellError)
    if found is VersionConflict:
        return VersionConflict(detail, version=version or 0)
    return found(detail)
