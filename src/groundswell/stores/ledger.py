"""What transfers do to accounts: decided in plain Python over rows that nobody else can change.

Double entry with two-phase transfers, as TigerBeetle has them (its documentation, "Two-Phase Transfers").
A hold counts against both accounts while it is open. When it has expired each account lets go of its
side by itself, the next time it is written to: no write ever waits for the other account's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from msgspec.structs import replace

from groundswell.model import (
    INT_MAX,
    Account,
    Movement,
    Open,
    Post,
    SettleAccount,
    Transfer,
    Void,
)
from groundswell.store import Moved, Opened, Outcome, Refused

Set = Callable[[dict[Any, Any], Any, Any], None]

# The columns of a stored row, in the order in which `to_account` and `to_movement` take them.
ACCOUNT_FIELDS: Final = Account.__struct_fields__
MOVEMENT_FIELDS: Final = Movement.__struct_fields__

PLACE_BITS: Final = 20  # of a transfer's place: its number in the commit; above them, the commit's

_RESOLVED: Final = {"posted": "has been posted", "voided": "was voided", "expired": "has expired"}


def shown(movement: Movement, now_ms: int) -> Movement:
    """The movement as it is to be seen: a hold that nobody has let go of yet may have expired."""
    over = movement.expires_ms is not None and movement.expires_ms <= now_ms
    state = "expired" if over and movement.state == "pending" else movement.state
    return replace(movement, state=state, debit_open=False, credit_open=False)


def to_account(row: Sequence[Any]) -> Account:
    """The account of a row of ACCOUNT_FIELDS, taken apart by hand since every transfer reads two."""
    id_, balance, held, expected, floor, ceiling, version, xid = row
    return Account(
        id=id_,
        balance=balance,
        held=held,
        expected=expected,
        floor=floor,
        ceiling=ceiling,
        version=version,
        xid=xid,
    )


def to_movement(row: Sequence[Any]) -> Movement:
    """The transfer of a row of MOVEMENT_FIELDS; flags may be numbers."""
    id_, debit, credit, amount, pending, state, posted, created_ms, expires_ms, *rest = row
    debit_balance, credit_balance, place, debit_open, credit_open = rest
    return Movement(
        id=id_,
        debit=debit,
        credit=credit,
        amount=amount,
        pending=bool(pending),
        state=state,
        posted=posted,
        created_ms=created_ms,
        expires_ms=expires_ms,
        debit_balance=debit_balance,
        credit_balance=credit_balance,
        place=place,
        debit_open=bool(debit_open),
        credit_open=bool(credit_open),
    )


def to_settle(rows: Sequence[tuple[Any, ...]]) -> list[SettleAccount]:
    """What lets go of expired holds, of which `rows` have (debit, debit_open, credit, credit_open)."""
    names = [debit for debit, is_open, _, _ in rows if is_open]
    names += [credit for _, _, credit, is_open in rows if is_open]
    return [SettleAccount(name) for name in dict.fromkeys(names)]


class Ledger:
    """Accounts and transfers within one transaction.

    `movements` are those that the writes name, `expired` the holds that are open on one of `accounts` and
    over by `now_ms`. `xid` is greater than that of every commit before, or places are given anew by the
    store. `put` changes a row so that the change can be taken back.
    """

    def __init__(
        self,
        accounts: dict[str, Account],
        movements: dict[str, Movement],
        expired: Iterable[Movement],
        *,
        xid: int,
        now_ms: int,
        put: Set,
    ) -> None:
        self._now_ms = now_ms
        self._place = xid << PLACE_BITS
        self._put = put
        self._accounts_before = accounts
        self._accounts: dict[Any, Any] = dict(accounts)
        self._movements_before = movements
        self._movements: dict[Any, Any] = dict(movements)
        for movement in expired:
            self._let_go(movement)

    def _let_go(self, hold: Movement) -> None:
        debit = hold.debit_open and hold.debit in self._accounts
        credit = hold.credit_open and hold.credit in self._accounts
        if debit:
            account = self._accounts[hold.debit]
            self._accounts[hold.debit] = replace(account, held=account.held - hold.amount)
        if credit:
            account = self._accounts[hold.credit]
            self._accounts[hold.credit] = replace(account, expected=account.expected - hold.amount)
        self._movements[hold.id] = replace(
            hold,
            state="expired",
            debit_open=hold.debit_open and not debit,
            credit_open=hold.credit_open and not credit,
        )

    # --- writes ---------------------------------------------------------------------------------

    def open(self, write: Open) -> Outcome:
        """Let the account exist, with these bounds."""
        old: Account | None = self._accounts.get(write.id)
        now = old or Account(id=write.id)
        if old and (old.floor, old.ceiling) == (write.floor, write.ceiling):
            return Opened(replace(now, version=0, xid=0), changed=False)
        if write.floor is not None and now.balance - now.held < write.floor:
            return Refused(
                "insufficient-funds",
                f"Account {write.id!r} has {now.balance - now.held} that is not held, less than that "
                f"floor of {write.floor}.",
            )
        if write.ceiling is not None and now.balance + now.expected > write.ceiling:
            return Refused(
                "ceiling-exceeded",
                f"Account {write.id!r} has {now.balance + now.expected}, what it expects included, more "
                f"than that ceiling of {write.ceiling}.",
            )
        now = replace(now, floor=write.floor, ceiling=write.ceiling)
        self._put(self._accounts, write.id, now)
        return Opened(replace(now, version=0, xid=0))

    def transfer(self, write: Transfer) -> Outcome:
        """Move the amount, or hold it."""
        known: Movement | None = self._movements.get(write.id)
        if known is not None:
            return _repeated(known, write)
        debit: Account | None = self._accounts.get(write.debit)
        credit: Account | None = self._accounts.get(write.credit)
        if debit is None or credit is None:
            missing = write.debit if debit is None else write.credit
            return Refused("account-not-found", f"There is no account {missing!r}.")
        refused = _short(debit, write.amount) or _full(credit, write.amount)
        if refused:
            return refused
        moved = 0 if write.pending else write.amount
        held = write.amount - moved
        debit = _with(debit, debit.balance - moved, debit.held + held, debit.expected)
        credit = _with(credit, credit.balance + moved, credit.held, credit.expected + held)
        lasts_s = write.expires_in_s
        made = Movement(
            id=write.id,
            debit=write.debit,
            credit=write.credit,
            amount=write.amount,
            pending=write.pending,
            state="pending" if write.pending else "posted",
            posted=moved,
            created_ms=self._now_ms,
            expires_ms=None if lasts_s is None else self._now_ms + round(lasts_s * 1000),
            debit_balance=debit.balance,
            credit_balance=credit.balance,
            place=self._place,
            debit_open=write.pending,
            credit_open=write.pending,
        )
        self._place += 1
        self._set(debit, credit, made)
        return _first(made)

    def post(self, write: Post) -> Outcome:
        """Let a hold happen."""
        hold = self._pending(write.id, "posted")
        if isinstance(hold, Refused):
            return hold
        amount = hold.amount if write.amount is None else write.amount
        if amount > hold.amount:
            return Refused(
                "transfer-conflict",
                f"Transfer {hold.id!r} holds {hold.amount}, less than {amount}.",
            )
        return self._resolve(hold, "posted", amount)

    def void(self, write: Void) -> Outcome:
        """Let a hold not happen."""
        hold = self._pending(write.id, "voided")
        return hold if isinstance(hold, Refused) else self._resolve(hold, "voided", 0)

    def _pending(self, id_: str, what: str) -> Movement | Refused:
        hold: Movement | None = self._movements.get(id_)
        if hold is None:
            return Refused("transfer-not-found", f"There is no transfer {id_!r}.")
        state = shown(hold, self._now_ms).state
        if state == "pending":
            return hold
        why = _RESOLVED[state]
        return Refused("transfer-conflict", f"Transfer {id_!r} {why} and cannot be {what}.")

    def _resolve(self, hold: Movement, state: str, amount: int) -> Outcome:
        debit, credit = self._accounts[hold.debit], self._accounts[hold.credit]
        debit = _with(debit, debit.balance - amount, debit.held - hold.amount, debit.expected)
        credit = _with(credit, credit.balance + amount, credit.held, credit.expected - hold.amount)
        done = replace(hold, state=state, posted=amount, debit_open=False, credit_open=False)
        self._set(debit, credit, done)
        return Moved(hold.id, state, amount, hold.debit, debit.balance, hold.credit, credit.balance)

    def _set(self, debit: Account, credit: Account, movement: Movement) -> None:
        self._put(self._accounts, debit.id, debit)
        self._put(self._accounts, credit.id, credit)
        self._put(self._movements, movement.id, movement)

    # --- what has to be written -----------------------------------------------------------------

    def accounts_to_store(self, xid: int) -> list[Account]:
        """The accounts that were opened or changed, by id, as the transaction `xid` leaves them."""
        return [
            replace(account, version=account.version + 1, xid=xid)
            for id_, account in sorted(self._accounts.items())
            if account is not self._accounts_before.get(id_)  # also where it is back where it was
        ]

    def movements_to_store(self) -> list[Movement]:
        """The transfers that were made or changed, by id."""
        return [
            movement
            for id_, movement in sorted(self._movements.items())
            if movement != self._movements_before.get(id_)
        ]


def _with(account: Account, balance: int, held: int, expected: int) -> Account:
    return Account(
        id=account.id,
        balance=balance,
        held=held,
        expected=expected,
        floor=account.floor,
        ceiling=account.ceiling,
        version=account.version,
        xid=account.xid,
    )


def _short(debit: Account, amount: int) -> Refused | None:
    """Why the amount cannot go out; where there is no floor, what 64 bits hold is one."""
    floor = -INT_MAX if debit.floor is None else debit.floor
    left = debit.balance - debit.held - floor
    if amount <= left:
        return None
    return Refused(
        "insufficient-funds", f"Account {debit.id!r} has {left} available, less than {amount}."
    )


def _full(credit: Account, amount: int) -> Refused | None:
    ceiling = INT_MAX if credit.ceiling is None else credit.ceiling
    room = ceiling - credit.balance - credit.expected
    if amount <= room:
        return None
    return Refused(
        "ceiling-exceeded", f"Account {credit.id!r} has room for {room}, less than {amount}."
    )


def _first(made: Movement, *, changed: bool = True) -> Moved:
    """The answer that whoever made the transfer has got, or would have."""
    return Moved(
        made.id,
        "pending" if made.pending else "posted",
        made.amount,
        made.debit,
        made.debit_balance,
        made.credit,
        made.credit_balance,
        made.expires_ms,
        changed,
    )


def _repeated(known: Movement, write: Transfer) -> Outcome:
    lasts_ms = None if known.expires_ms is None else known.expires_ms - known.created_ms
    wanted_ms = None if write.expires_in_s is None else round(write.expires_in_s * 1000)
    same = (known.debit, known.credit, known.amount, known.pending, lasts_ms) == (
        write.debit,
        write.credit,
        write.amount,
        write.pending,
        wanted_ms,
    )
    if same:
        return _first(known, changed=False)
    return Refused("transfer-conflict", f"Transfer {write.id!r} has been made with other contents.")
