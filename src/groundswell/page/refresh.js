// One large counter per level: each refresh is one real read, by a session that has this level.

import { Session, segment } from "./api.js";
import { $, announce, complain, el, milliseconds, number, randomId, say } from "./dom.js";
import { LEVELS } from "./levels.js";
import { watched } from "./watched.js";

const AUTO_MS = 500; // between two reads of a level
const TALLIES = { reads: "reads", backwards: "went back", missed: "missed own" };

class Counter {
  constructor(level) {
    this.level = level;
    this.parts = {
      value: el("p", { className: "value" }, "–"),
      from: el("p", { className: "from" }, "not read yet"),
      mark: el("p", { className: "mark" }),
      tallies: Object.fromEntries(Object.keys(TALLIES).map((name) => [name, el("dd", {}, "0")])),
    };
    this.tally = { reads: 0, backwards: 0, missed: 0 };
    this.begin();
  }

  /** For another target: a new session that has seen nothing. */
  begin() {
    this.session = new Session();
    this.undone = 0; // likes that the visitor has taken back
    this.expect();
    say(this.parts.value, "–");
    say(this.parts.from, "not read yet");
    this.marked("");
  }

  /**
   * From now on no answer may be below `seen`, the value shown last, nor below `floor`: what any state
   * counts at least that has the own like.
   */
  expect(seen = -Infinity, floor = -Infinity) {
    this.expected = { seen, floor };
  }

  card() {
    const button = el("button", { type: "button", "aria-label": `Refresh at ${this.level.name}` }, "Refresh");
    button.addEventListener("click", () => this.refresh({ aloud: true }));
    const { value, from, mark, tallies } = this.parts;
    const list = el("dl", {}, ...Object.entries(TALLIES).map(([name, title]) =>
      el("div", {}, el("dt", {}, title), tallies[name])));
    this.element = el("article", { className: "card level" },
      el("h3", {}, this.level.name), el("p", { className: "hint" }, this.level.says),
      value, from, mark, list, button);
    this.element.dataset.level = this.level.id;
    return this.element;
  }

  async refresh({ aloud = false } = {}) {
    if (this.reading) return;
    this.reading = true;
    const { session, expected } = this; // as they are now: what is written meanwhile need not be seen
    try {
      const answer = await session.count(watched.kind, watched.target, this.level.id);
      if (session === this.session) this.show(answer, expected, aloud);
      complain($("refresh-problem"), null);
    } catch (error) {
      complain($("refresh-problem"), error);
    } finally {
      this.reading = false;
    }
  }

  show({ count, pending, read }, expected, aloud) {
    const told = expected === this.expected ? expected : null; // else it may be of before or after a write
    // Without a promise of own writes, a like that was taken back may go at any time from then on.
    const fell = told?.seen - count; // not a number where nothing is known
    const back = fell > (this.level.own ? 0 : this.undone) ? fell : 0;
    // A state that has the own write has all that was there before it. Own writes that were added on
    // top (`pending`) are there too.
    const missed = pending === 0 && count < told?.floor;
    if (told) told.seen = count;
    this.tally.reads += 1;
    this.tally.backwards += back > 0;
    this.tally.missed += missed;
    say(this.parts.value, number(count));
    say(this.parts.from, `${read.served_by}, ${milliseconds(read.age_ms)} old`);
    this.marked([back && `${number(back)} backwards`, missed && "own like missing"].filter(Boolean).join(", "));
    this.showTally();
    if (aloud) announce(`${this.level.name}: ${number(count)}, ${this.parts.from.textContent}. ${this.parts.mark.textContent}`);
  }

  marked(text) {
    say(this.parts.mark, text);
    this.element?.classList.toggle("wrong", text !== "");
  }

  showTally() {
    for (const [name, cell] of Object.entries(this.parts.tallies)) {
      say(cell, number(this.tally[name]));
      cell.classList.toggle("some", name !== "reads" && this.tally[name] > 0);
    }
  }

  reset() {
    this.tally = { reads: 0, backwards: 0, missed: 0 };
    this.showTally();
  }

  /** The visitor has liked it, on top of at least `before`. */
  liked(token, before) {
    this.session.observe(token);
    // Added on top of an older state, a like and another taken back are nothing: that has no floor.
    const sure = !(this.undone && this.level.own);
    this.expect(this.expected.seen, sure ? before + 1 : undefined);
  }

  /** The visitor takes the like back: until that is done, the count may fall at any time. */
  undo() {
    this.undone += 1;
    this.expected = null;
  }

  /** The visitor has taken the like back, or could not. */
  undid(token) {
    this.session.observe(token);
    this.expect();
  }
}

const counters = LEVELS.map((level) => new Counter(level));
const visitor = randomId();
let timer = null;

const canLike = () => {
  const { unique = true, exclusive = false, source = "int" } = watched.declared;
  return unique && !exclusive && source !== "uuid";
};

async function toggle() {
  const { kind, target } = watched;
  const still = () => kind === watched.kind && target === watched.target;
  const pressed = $("like").getAttribute("aria-pressed") === "true";
  const path = `v1/edges/${segment(kind)}/${segment(target)}/${visitor}`;
  $("like").disabled = true;
  try {
    await (pressed ? unlike(path) : like(path, still));
    if (!still()) return; // something else is watched by now
    liked(!pressed);
    complain($("refresh-problem"), null);
    await all();
  } catch (error) {
    complain($("refresh-problem"), error);
  } finally {
    $("like").disabled = !canLike();
  }
}

async function like(path, still) {
  const { kind, target, declared } = watched;
  const writer = new Session();
  const { count: before } = await new Session().count(kind, target, "linearizable");
  await writer.put(path, declared.value ? { value: declared.value.max } : {});
  if (still()) for (const counter of counters) counter.liked(writer.token, before);
}

async function unlike(path) {
  const writer = new Session();
  for (const counter of counters) counter.undo();
  try {
    await writer.remove(path);
  } finally {
    for (const counter of counters) counter.undid(writer.token);
  }
}

function liked(on) {
  $("like").setAttribute("aria-pressed", on);
  say($("like"), on ? "Liked" : "Like");
}

const all = () => Promise.all(counters.map((counter) => counter.refresh()));

function auto() {
  const on = timer === null;
  $("auto").setAttribute("aria-pressed", on);
  if (on) {
    let turn = 0; // one level after the other, so that reads are spread
    timer = setInterval(() => {
      if (!document.hidden) counters[turn++ % counters.length].refresh();
    }, AUTO_MS / counters.length);
  } else {
    clearInterval(timer);
    timer = null;
  }
}

function begin() {
  for (const counter of counters) counter.begin();
  say($("refresh-target"), watched.title);
  liked(false);
  $("like").disabled = !canLike();
}

export function start() {
  $("levels").append(...counters.map((counter) => counter.card()));
  $("like").addEventListener("click", toggle);
  $("refresh-all").addEventListener("click", all);
  $("auto").addEventListener("click", auto);
  $("reset").addEventListener("click", () => counters.forEach((counter) => counter.reset()));
  watched.onChange(begin);
  begin();
}
