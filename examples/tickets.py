"""A ticket: the seat goes into a cart, is paid for, and is the buyer's; or the cart is left behind."""

from __future__ import annotations

import asyncio

import msgspec

import groundswell
from groundswell import Add, Post, Put, Transfer
from groundswell.errors import CeilingExceeded, SeatTaken


def cart(number: int, buyer: str, seat: str) -> list[groundswell.Add | groundswell.Transfer]:
    """A claim on the seat, the money and the place among the buyer's tickets: for two minutes."""
    return [
        Add("seat", seat, number, expires_in_s=120),
        Transfer(f"pay-{number}", f"purse-{buyer}", "till", 2500, True, 120),
        Transfer(f"ticket-{number}", "tickets", f"tickets-{buyer}", 1, True, 120),
    ]


async def main() -> None:
    async with groundswell.open("memory://") as gs:
        shop = gs.session()
        await shop.open_account("bank", floor=None)  # where money and tickets come from
        for account in ("till", "tickets", "purse-ada"):
            await shop.open_account(account)
        await shop.open_account("tickets-ada", ceiling=2)  # two per buyer
        await shop.transfer("purse", debit="bank", credit="purse-ada", amount=10_000)
        await shop.transfer("print", debit="bank", credit="tickets", amount=500)

        # All of it or nothing, and again by the same call, however often the answer is lost.
        await shop.write(cart(1, "ada", "12A"), atomic=True)
        try:
            await shop.write(cart(2, "ada", "12A"), atomic=True)
        except SeatTaken as taken:
            print("12A:", taken.code)
        await shop.write(
            [
                Add("seat", "12A", 1),  # for good
                Post("pay-1"),
                Post("ticket-1"),
                Put("order-1", "order", msgspec.Raw(b'{"seat":"12A"}')),
            ],
            atomic=True,
        )
        print("left:", (await shop.account("tickets")).balance, "tickets")

        # A cart that is left behind holds what it holds until its time is over, and no longer.
        await shop.write(cart(3, "ada", "12B"), atomic=True)
        purse = await shop.account("purse-ada")
        print(f"purse: {purse.balance} cents, {purse.available} available")
        try:
            await shop.write(cart(4, "ada", "12C"), atomic=True)
        except CeilingExceeded as full:
            print("12C:", full.code)


if __name__ == "__main__":
    asyncio.run(main())
