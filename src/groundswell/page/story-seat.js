// The seat and the balance: deciding on a read, and what decides by itself.

import { Session } from "./api.js";
import { randomId } from "./dom.js";
import { Made } from "./story-objects.js";

const ROUNDS = 4;
const PRICE = 5;

const made = new Made();
const [bank, wallet, purse] = ["bank", "wallet", "purse"].map((name) => `${made.id}-${name}`);
const move = (debit, credit) => (
  { op: "transfer", id: `${made.id}-${randomId()}`, debit, credit, amount: PRICE });

/** Look, and pay if there is enough: the wallet may be overdrawn, so only the look protects it. */
async function pay(level) {
  const device = new Session();
  const { balance, read } = await made.account(device, wallet, level);
  if (balance < PRICE) return { paid: false, text: `sees ${balance}, says ${read.served_by}, and stops` };
  const [{ transfer }] = await device.write(move(wallet, bank));
  return { paid: true, left: transfer.debit.balance, text: `sees ${balance}, says ${read.served_by}, and pays` };
}

/** Look how often the seat was sold, and sell it if it was not. */
async function sell(show, level) {
  const device = new Session();
  const { count } = await device.count("view", show, level);
  if (count > 0) return false;
  await device.write({ op: "tally", kind: "view", target: show });
  return true;
}

export const seat = {
  id: "seat",
  title: "The seat and the balance",
  text: "Five in the wallet, one seat left. A phone and, right after it, a laptop: each looks, and buys if what it sees allows it.",
  weak: "causal",
  needs: "linearizable",
  why: "Weaker, the laptop sees what was there before. Safest of all is to let the write decide: a transfer with a floor, an exclusive claim.",
  fault: "Spent or sold twice",

  async play({ level, say, wrong }) {
    await made.begin(
      { op: "account", id: bank, floor: null }, { op: "account", id: wallet, floor: null }, { op: "account", id: purse });
    let twice = 0;
    for (let turn = 1; turn <= ROUNDS; turn += 1) {
      await fill();
      const phone = await pay(level);
      const laptop = await pay(level);
      say(`The phone ${phone.text}`);
      if (laptop.paid && laptop.left < 0) wrong(`The laptop ${laptop.text}: the balance is ${laptop.left}`);
      else say(`The laptop ${laptop.text}`);
      twice += laptop.paid && laptop.left < 0;
      twice += await sellTwice();
      await decide();
    }
    return { tried: 2 * ROUNDS, wrong: twice };

    /** Exactly one purchase in the wallet and in the purse, and every replica shows it. */
    async function fill() {
      const world = new Session();
      for (const account of [wallet, purse]) {
        let { balance } = await made.account(world, account, "linearizable");
        for (; balance < PRICE; balance += PRICE) await world.write(move(bank, account));
      }
      await made.settle();
    }

    async function sellTwice() {
      const show = randomId();
      const sold = [await sell(show, level), await sell(show, level)].filter(Boolean).length;
      if (sold > 1) wrong("The last seat is sold to the phone, and to the laptop");
      else say("The last seat is sold once");
      return sold > 1;
    }

    /** The same without any look: the write decides, at every level. */
    async function decide() {
      const ticket = `${made.id}-${turnName()}`;
      const buy = (source) => new Session().write(
        move(purse, bank), { op: "add", kind: "seat", target: ticket, source });
      await buy(1);
      const [money, claim] = await buy(2);
      const held = money.code === "insufficient-funds" && claim.code === "seat-taken";
      if (held) say("Decided by the write: the laptop gets neither the money nor the seat");
      else wrong("Decided by the write: something got through that must not");
    }

    function turnName() {
      return randomId().toString(36);
    }
  },
};
