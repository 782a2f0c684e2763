"""Session tokens as a node reads them from calls and writes them into answers."""

from __future__ import annotations

from functools import lru_cache, reduce
from typing import Final

from groundswell.consistency import Level
from groundswell.errors import BadToken
from groundswell.revision import NOTHING, Revision, SessionToken, Wrote
from groundswell.store import Committed, Refused, Store

TOKENS_MAX: Final = 16  # in one call
EFFECTS_LISTED: Final = 16  # of one write, in a session token

_EVENTUAL: Final = Level.EVENTUAL  # see consistency


class Tokens:
    """The tokens of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # A session asks many times with the same token: until its reads show something newer, or it writes.
        # What cannot be read is not kept, so that the texts are short.
        self._decoded = lru_cache(maxsize=1024)(self._issued_here)
        self._newcomer = (NOTHING, "")  # the last token of a read without one, and its revision
        # Until a replica moves on, the reads of a session all end with the same token.
        self._seen = lru_cache(maxsize=1024)(_seen)

    def decode(self, tokens: str | None) -> SessionToken | None:
        """All tokens of a call as one; None if there were none. Raises BadToken."""
        if not tokens:
            return None
        if "," not in tokens:  # nearly always: spared what follows
            return self._decoded(tokens.strip())
        texts = tokens.split(",")
        if len(texts) > TOKENS_MAX:
            raise BadToken(f"{len(texts)} session tokens were sent; the limit is {TOKENS_MAX}.")
        return reduce(SessionToken.merge, [self._decoded(text.strip()) for text in texts])

    def _issued_here(self, text: str) -> SessionToken:
        session = SessionToken.decode(text)
        if session.store != self._store.identity:
            raise BadToken("The session token comes from another store; start a new session.")
        return session

    def after_read(
        self, level: Level, session: SessionToken | None, revision: Revision
    ) -> str | None:
        """The token after reading a state at `revision`; reads at `eventual` leave it as it is."""
        if level is _EVENTUAL:
            return self._seen(session, NOTHING) if session else None  # its own text again
        if session is not None:
            return self._seen(self._current(session, revision), revision)
        if revision != self._newcomer[0]:
            self._newcomer = (revision, _seen(self._current(None, revision), revision))
        return self._newcomer[1]

    def after_write(self, session: SessionToken | None, committed: Committed) -> str:
        """The token after a batch, and after what its outcomes reveal."""
        now = self._current(session, committed.seen)
        if committed.xid is not None:
            listed = committed.effects if len(committed.effects) <= EFFECTS_LISTED else None
            now = now.after(Wrote(committed.xid, committed.slot, listed))
        refused = unchanged = False
        for outcome in committed.outcomes:
            if isinstance(outcome, Refused):
                refused = True
            elif not outcome.changed:
                unchanged = True
        if refused:
            now = now.saw(committed.seen)
        if unchanged:
            now = now.found(committed.seen)
        return now.encode()

    def _current(self, session: SessionToken | None, revision: Revision) -> SessionToken:
        """The session's token in this epoch, after an answer of the primary at `revision`.

        What a token of another epoch says can be compared with no state. Whatever the session has read
        and written there is in that of the primary, if it is anywhere: so that counts as both.
        """
        if session is not None and session.epoch == self._store.epoch:
            return session
        current = SessionToken(store=self._store.identity, epoch=self._store.epoch)
        return current if session is None else current.found(revision)


def _seen(session: SessionToken, revision: Revision) -> str:
    """The token after reading a state at `revision`, as text."""
    return session.saw(revision).encode()
