"""API keys: who may do what."""

from __future__ import annotations

import enum
import hashlib
import hmac
from collections.abc import Collection, Sequence

from groundswell.errors import Forbidden, Unauthenticated


class Scope(enum.StrEnum):
    """What a key may be used for."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"  # status and metrics


class Keys:
    """The keys a node accepts, known only by their SHA-256; none means that anyone may do anything.

    A plain hash is enough for keys of 256 random bits: there is nothing to guess.
    """

    def __init__(self, keys: Sequence[tuple[str, Collection[str]]] = ()) -> None:
        """`keys` are pairs of a hash, as hex digits, and the scopes of that key."""
        self._keys = [(sha256.lower().encode(), frozenset(scopes)) for sha256, scopes in keys]

    def __bool__(self) -> bool:
        return bool(self._keys)

    def check(self, authorization: bytes | None, needed: Scope | None) -> None:
        """Raise Unauthenticated or Forbidden unless the header's key has the scope."""
        if needed is None or not self._keys:
            return
        scheme, _, key = (authorization or b"").partition(b" ")
        if scheme.lower() != b"bearer" or not key:
            raise Unauthenticated("This needs an API key: send `Authorization: Bearer <key>`.")
        given = hashlib.sha256(key.strip()).hexdigest().encode()
        scopes: frozenset[str] | None = None
        for known, granted in self._keys:  # all of them, so that the time tells nothing
            if hmac.compare_digest(given, known):
                scopes = granted
        if scopes is None:
            raise Unauthenticated("This API key is not known here.")
        if needed not in scopes:
            raise Forbidden(f"This API key lacks the scope {needed.value!r}.")
