"""Accounts of the reference model: every balance is added up anew from all transfers, each time."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from groundswell.model import (
    ACCOUNT,
    INT_MAX,
    Account,
    Document,
    Movement,
    Open,
    Post,
    Transfer,
    Void,
)
from groundswell.store import Moved, Opened, Outcome, Refused


class Bank:
    """Bounds of accounts, and all transfers in the order in which they were made."""

    def __init__(self) -> None:
        self.bounds: dict[str, tuple[int | None, int | None]] = {}  # floor, ceiling
        self.movements: dict[str, Movement] = {}
        self.touched: set[str] = set()  # accounts that this commit has written to

    def copy(self) -> Bank:
        """The same state, to change apart from this one."""
        other = Bank()
        other.bounds, other.movements = dict(self.bounds), dict(self.movements)
        other.touched = set(self.touched)
        return other

    def account(self, id_: str, now_ms: int) -> Account | None:
        """The account at that time, without a version."""
        if id_ not in self.bounds:
            return None
        floor, ceiling = self.bounds[id_]
        out = [m for m in self.movements.values() if m.debit == id_]
        into = [m for m in self.movements.values() if m.credit == id_]
        return Account(
            id=id_,
            balance=self._balance(id_),
            held=sum(m.amount for m in out if self.state(m, now_ms) == "pending"),
            expected=sum(m.amount for m in into if self.state(m, now_ms) == "pending"),
            floor=floor,
            ceiling=ceiling,
        )

    def document(self, id_: str, now_ms: int, before: Document | None, xid: int) -> Document | None:
        """The account as its next version where it was written to, or has changed; else `before`."""
        account = self.account(id_, now_ms)
        if account is None:
            return before
        fields = ("balance", "held", "expected", "floor", "ceiling")
        data = msgspec.Raw(msgspec.json.encode({name: getattr(account, name) for name in fields}))
        if before is not None and before.data == data and id_ not in self.touched:
            return before
        return Document(ACCOUNT + id_, "account", before.version + 1 if before else 1, xid, data)

    def state(self, movement: Movement, now_ms: int) -> str:
        """How the transfer stands at that time."""
        over = movement.expires_ms is not None and movement.expires_ms <= now_ms
        return "expired" if movement.state == "pending" and over else movement.state

    def movement(self, id_: str, now_ms: int) -> Movement | None:
        """The transfer as it is shown at that time."""
        found = self.movements.get(id_)
        return found and replace(found, state=self.state(found, now_ms))

    def write(self, write: Open | Transfer | Post | Void, now_ms: int) -> Outcome:
        """One write, applied or refused."""
        match write:
            case Open():
                return self._open(write, now_ms)
            case Transfer():
                return self._transfer(write, now_ms)
            case Post() | Void():
                return self._resolve(write, now_ms)

    def _open(self, write: Open, now_ms: int) -> Outcome:
        now = self.account(write.id, now_ms) or Account(id=write.id)
        if self.bounds.get(write.id) == (write.floor, write.ceiling):
            return Opened(now, changed=False)
        if write.floor is not None and now.balance - now.held < write.floor:
            return Refused("insufficient-funds", "below the floor")
        if write.ceiling is not None and now.balance + now.expected > write.ceiling:
            return Refused("ceiling-exceeded", "above the ceiling")
        self.bounds[write.id] = (write.floor, write.ceiling)
        self.touched.add(write.id)
        return Opened(replace(now, floor=write.floor, ceiling=write.ceiling))

    def _transfer(self, write: Transfer, now_ms: int) -> Outcome:
        lasts = None if write.expires_in_s is None else round(write.expires_in_s * 1000)
        known = self.movements.get(write.id)
        if known is not None:
            lasted = None if known.expires_ms is None else known.expires_ms - known.created_ms
            made = (known.debit, known.credit, known.amount, known.pending, lasted)
            if made != (write.debit, write.credit, write.amount, write.pending, lasts):
                return Refused("transfer-conflict", "other contents")
            return self._moved(
                replace(known, state="pending" if known.pending else "posted"), changed=False
            )
        debit, credit = self.account(write.debit, now_ms), self.account(write.credit, now_ms)
        if debit is None or credit is None:
            return Refused("account-not-found", "unknown")
        floor = -INT_MAX if debit.floor is None else debit.floor
        ceiling = INT_MAX if credit.ceiling is None else credit.ceiling
        if debit.balance - debit.held - write.amount < floor:
            return Refused("insufficient-funds", "below the floor")
        if credit.balance + credit.expected + write.amount > ceiling:
            return Refused("ceiling-exceeded", "above the ceiling")
        moved = 0 if write.pending else write.amount
        self.movements[write.id] = Movement(
            id=write.id,
            debit=write.debit,
            credit=write.credit,
            amount=write.amount,
            pending=write.pending,
            state="pending" if write.pending else "posted",
            posted=moved,
            created_ms=now_ms,
            expires_ms=None if lasts is None else now_ms + lasts,
            debit_balance=debit.balance - moved,
            credit_balance=credit.balance + moved,
            place=len(self.movements),
        )
        self.touched |= {write.debit, write.credit}
        return self._moved(self.movements[write.id])

    def _moved(self, movement: Movement, *, changed: bool = True) -> Moved:
        return Moved(
            movement.id,
            movement.state,
            movement.amount,
            movement.debit,
            movement.debit_balance,
            movement.credit,
            movement.credit_balance,
            movement.expires_ms,
            changed,
        )

    def _resolve(self, write: Post | Void, now_ms: int) -> Outcome:
        known = self.movements.get(write.id)
        if known is None:
            return Refused("transfer-not-found", "unknown")
        if self.state(known, now_ms) != "pending":
            return Refused("transfer-conflict", "resolved")
        amount = 0
        if isinstance(write, Post):
            amount = known.amount if write.amount is None else write.amount
        if amount > known.amount:
            return Refused("transfer-conflict", "more than it holds")
        state = "posted" if isinstance(write, Post) else "voided"
        self.movements[write.id] = replace(known, state=state, posted=amount)
        self.touched |= {known.debit, known.credit}
        balances = [self._balance(known.debit), self._balance(known.credit)]
        return Moved(known.id, state, amount, known.debit, balances[0], known.credit, balances[1])

    def _balance(self, id_: str) -> int:
        into = sum(m.posted for m in self.movements.values() if m.credit == id_)
        return into - sum(m.posted for m in self.movements.values() if m.debit == id_)
