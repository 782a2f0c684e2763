"""What a state includes: revisions of transaction ids, and the token that carries them. Pure.

A revision has the meaning of PostgreSQL's `pg_snapshot` (documentation, "Transaction ID and Snapshot
Information Functions"): every transaction below `xmin` is included, none from `xmax` on, and between
them all but those listed in `xip`. A store with one writer uses the degenerate case `n+1:n+1:`.
"""

from __future__ import annotations

import binascii
from typing import Annotated, Self

import msgspec
from msgspec.structs import replace

from groundswell.errors import BadToken
from groundswell.model import Effect, Key

XID_MAX = 2**63 - 1
TOKEN_CHARS_MAX = 1024
WRITES_LISTED = 16
NO_EPOCH = 0  # that of no state: what a token of it says only the primary can tell

Xid = Annotated[int, msgspec.Meta(ge=0, le=XID_MAX)]


class Revision(msgspec.Struct, frozen=True, array_like=True, cache_hash=True):
    """A set of transaction ids, as a snapshot sees them.

    Always in canonical form: `xip` strictly ascending within [xmin, xmax), `xmin` the first of them
    (or equal to `xmax`), `xmax - 1` not among them; so that equal sets are equal values.
    """

    xmin: Xid
    xmax: Xid
    xip: tuple[Xid, ...] = ()

    @classmethod
    def of(cls, xmax: int, xip: tuple[int, ...] = ()) -> Self:
        """All ids below `xmax` but those in `xip` (in any order)."""
        running = sorted({xid for xid in xip if 0 <= xid < xmax})
        while running and running[-1] == xmax - 1:
            xmax -= 1
            running.pop()
        return cls(running[0] if running else xmax, xmax, tuple(running))

    @classmethod
    def upto(cls, xid: int) -> Self:
        """All ids up to and including `xid`: the revision of a store with one writer."""
        return cls(xid + 1, xid + 1)

    def sees(self, xid: int) -> bool:
        """Whether transaction `xid` is included."""
        if xid < self.xmin:
            return True
        return xid < self.xmax and xid not in self.xip

    def includes(self, other: Revision) -> bool:
        """Whether every transaction that `other` sees is seen here too."""
        if other.xmax <= self.xmin:
            return True
        beyond = other.xmax - self.xmax
        if beyond > len(other.xip):
            return False
        return not any(other.sees(xid) for xid in self.xip) and not any(
            other.sees(xid) for xid in range(self.xmax, other.xmax)
        )

    def merge(self, other: Revision) -> Revision:
        """The smallest revision that includes both."""
        if self.includes(other):
            return self
        if other.includes(self):
            return other
        running = [xid for xid in self.xip if not other.sees(xid)]
        running += [xid for xid in other.xip if not self.sees(xid)]
        return Revision.of(max(self.xmax, other.xmax), tuple(running))

    def __str__(self) -> str:
        """As PostgreSQL writes a `pg_snapshot`: xmin:xmax:xip_list."""
        return f"{self.xmin}:{self.xmax}:{','.join(map(str, self.xip))}"

    @property
    def is_canonical(self) -> bool:
        """Whether the fields are in the form that `of` builds; anything decoded must be."""
        if not self.xip:
            return self.xmin == self.xmax
        return self == Revision.of(self.xmax, self.xip) and len(set(self.xip)) == len(self.xip)


NOTHING = Revision(0, 0)


class Wrote(msgspec.Struct, frozen=True, array_like=True):
    """One acknowledged write: the transaction that holds it, and its place in that group commit.

    The place tells apart the writes of two sessions that shared a transaction.
    """

    xid: Annotated[int, msgspec.Meta(ge=0, lt=XID_MAX)]  # so that a revision can end after it
    slot: Annotated[int, msgspec.Meta(ge=0, le=2**31)]
    effects: tuple[Effect, ...] | None = ()  # None: not kept, so only a state that sees xid will do


class SessionToken(msgspec.Struct, frozen=True, array_like=True, kw_only=True, cache_hash=True):
    """What a session has seen and written; immutable, merged rather than updated."""

    store: str  # identity of the store that issued it
    epoch: Xid  # timeline of that store
    read: Revision = NOTHING  # the largest revision the session has read
    wrote: Revision = NOTHING  # a revision that sees the own writes not listed one by one
    writes: tuple[Wrote, ...] = ()  # own writes, ascending by (xid, slot)

    def saw(self, revision: Revision) -> SessionToken:
        """This token after reading a state at `revision`."""
        if self.read.includes(revision):
            return self
        return replace(self, read=self.read.merge(revision))

    def after(self, write: Wrote) -> SessionToken:
        """This token after the acknowledged `write`.

        Of many writes, those that the session has read back are no longer listed one by one.
        """
        if len(self.writes) < WRITES_LISTED:
            return replace(self, writes=(*self.writes, write))
        unread = tuple(w for w in self.writes if not self.read.sees(w.xid))
        return replace(self, wrote=self.wrote.merge(self.read), writes=(*unread, write))

    def found(self, revision: Revision) -> SessionToken:
        """This token after a write that changed nothing: somebody, perhaps this session, did it before.

        Its effect is within `revision`, which therefore counts as written and as read.
        """
        if self.read.includes(revision) and self.wrote.includes(revision):
            return self
        return replace(self, read=self.read.merge(revision), wrote=self.wrote.merge(revision))

    def merge(self, other: SessionToken) -> SessionToken:
        """A token that covers both; of two epochs one that no replica can prove, since neither says all."""
        if self.store != other.store:
            raise BadToken(
                "The session tokens come from different stores; send those of one store."
            )
        if self.epoch != other.epoch:
            return SessionToken(store=self.store, epoch=NO_EPOCH)
        both = {(w.xid, w.slot): w for w in other.writes}
        for w in self.writes:
            if w.effects is not None or (w.xid, w.slot) not in both:
                both[w.xid, w.slot] = w
        return replace(
            self,
            read=self.read.merge(other.read),
            wrote=self.wrote.merge(other.wrote),
            writes=tuple(both[key] for key in sorted(both)),
        )

    def sees_writes(self, revision: Revision) -> bool:
        """Whether a state at `revision` shows every own write."""
        if not revision.includes(self.wrote):
            return False
        for write in self.writes:  # noqa: SIM110 - `all` takes thrice as long for the usual one or two
            if not revision.sees(write.xid):
                return False
        return True

    def claims_beyond(self, head: Revision) -> bool:
        """Whether it speaks of transactions that had not begun at `head`: no store issued that."""
        last = max((w.xid + 1 for w in self.writes), default=0)
        return max(self.read.xmax, self.wrote.xmax, last) > head.xmax

    def pending(self, revision: Revision) -> dict[Key, tuple[int, int]]:
        """Per (kind, target), the (count, sum) of own writes that a state at `revision` lacks."""
        total: dict[Key, tuple[int, int]] = {}
        for write in self.writes:
            if not revision.sees(write.xid):
                for effect in write.effects or ():
                    count, sum_ = total.get((effect.kind, effect.target), (0, 0))
                    total[effect.kind, effect.target] = count + effect.count, sum_ + effect.sum
        return total

    def overlays(self, revision: Revision) -> bool:
        """Whether `pending(revision)` is all that a state at `revision` lacks of the own writes."""
        return revision.includes(self.wrote) and all(
            write.effects is not None or revision.sees(write.xid) for write in self.writes
        )

    def encode(self) -> str:
        """As base64url text of at most 1,024 characters.

        Where the own writes do not fit, their effects are dropped first, then the writes, in favour of
        a revision that sees them. That one may ask for a little more than was written, never for less.
        """
        text = _encode(self)
        if len(text) <= TOKEN_CHARS_MAX:
            return text
        bare = replace(self, writes=tuple(Wrote(w.xid, w.slot, None) for w in self.writes))
        text = _encode(bare)
        if len(text) <= TOKEN_CHARS_MAX:
            return text
        last = max((w.xid for w in self.writes), default=-1)
        folded = replace(self, wrote=self.wrote.merge(Revision.upto(last)), writes=())
        text = _encode(folded)
        if len(text) <= TOKEN_CHARS_MAX:
            return text
        # Only lists of running transactions are left to drop: ask for all of them.
        return _encode(
            replace(
                folded,
                read=Revision(self.read.xmax, self.read.xmax),
                wrote=Revision(folded.wrote.xmax, folded.wrote.xmax),
            )
        )

    @classmethod
    def decode(cls, text: str) -> SessionToken:
        """The token that `encode` wrote; raises BadToken for anything else."""
        if len(text) > TOKEN_CHARS_MAX:
            raise BadToken(
                f"The session token has {len(text)} characters; the limit is {TOKEN_CHARS_MAX}."
            )
        try:
            padded = text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4)
            raw = binascii.a2b_base64(padded, strict_mode=True)
            if raw[:1] != _VERSION:
                raise BadToken("The session token is of another version; start a new session.")
            token = _DECODER.decode(raw[1:])
        except (binascii.Error, ValueError, RecursionError, msgspec.DecodeError) as error:
            raise BadToken("The session token cannot be read; start a new session.") from error
        if not (token.read.is_canonical and token.wrote.is_canonical):
            raise BadToken("The session token holds an impossible revision; start a new session.")
        return token


_VERSION = b"\x01"
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(SessionToken)


def _encode(token: SessionToken) -> str:
    padded = binascii.b2a_base64(_VERSION + _ENCODER.encode(token), newline=False).decode("ascii")
    return padded.rstrip("=").replace("+", "-").replace("/", "_")
