// The five stories: tabs, a level to choose, a play button, and what happened.

import { $, announce, el, number, say } from "./dom.js";
import { LEVELS } from "./levels.js";
import { followers } from "./story-followers.js";
import { parcel } from "./story-parcel.js";
import { review } from "./story-review.js";
import { seat } from "./story-seat.js";
import { thread } from "./story-thread.js";

const LINES_MAX = 60; // of a play that are kept in sight

const nameOf = (id) => LEVELS.find((level) => level.id === id).name;

class Story {
  constructor(told) {
    this.told = told;
    this.level = told.weak;
    this.tallies = new Map(LEVELS.map(({ id }) => [id, { tried: 0, wrong: 0 }]));
    this.cells = new Map();
    this.log = el("div", { className: "log", role: "log", tabIndex: 0, "aria-label": "What happened" });
    this.verdict = el("p", { className: "verdict", role: "status" });
    this.play = el("button", { type: "button", className: "primary" }, "Play");
    this.play.addEventListener("click", () => this.run());
    this.tab = el("button", { type: "button", role: "tab", id: `tab-${told.id}`, "aria-controls": "story" }, told.title);
  }

  body() {
    const { told } = this;
    const choice = el("fieldset", { className: "choice" }, el("legend", {}, "Level of the reads"),
      ...LEVELS.map((level) => this.radio(level)));
    return [
      el("div", { className: "telling" }, el("h3", {}, told.title), el("p", {}, told.text),
        el("p", { className: "needs" }, "It takes ", el("strong", {}, nameOf(told.needs)), ". ", told.why),
        choice, el("div", { className: "row" }, this.play, this.verdict)),
      el("div", { className: "happening" }, this.log, this.table()),
    ];
  }

  radio({ id, name }) {
    const input = el("input", { type: "radio", name: `level-${this.told.id}`, value: id, checked: id === this.level });
    input.addEventListener("change", () => { this.level = id; });
    return el("label", {}, input, el("span", {}, name));
  }

  table() {
    const rows = LEVELS.map(({ id, name }) => {
      this.cells.set(id, { tried: el("td", { className: "n" }), wrong: el("td", { className: "n" }) });
      const { tried, wrong } = this.cells.get(id);
      return el("tr", {}, el("th", { scope: "row" }, name), tried, wrong);
    });
    const table = el("table", {}, el("caption", { className: "unseen" }, "So far, by level"),
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Level"),
        el("th", { scope: "col", className: "n" }, "Tried"), el("th", { scope: "col", className: "n" }, "Wrong"))),
      el("tbody", {}, ...rows));
    this.showTallies();
    return table;
  }

  showTallies() {
    for (const [id, { tried, wrong }] of this.tallies) {
      const cells = this.cells.get(id);
      say(cells.tried, tried ? number(tried) : "–");
      say(cells.wrong, tried ? number(wrong) : "–");
      cells.wrong.classList.toggle("some", wrong > 0);
    }
  }

  line(text, wrong = false) {
    this.log.append(el("p", { className: wrong ? "wrong" : "" }, text));
    while (this.log.children.length > LINES_MAX) this.log.firstChild.remove();
    this.log.scrollTop = this.log.scrollHeight;
  }

  async run() {
    const { level } = this;
    this.play.disabled = true;
    this.log.replaceChildren();
    say(this.verdict, "playing …");
    try {
      const { tried, wrong } = await this.told.play({
        level,
        say: (text) => this.line(text),
        wrong: (text) => this.line(text, true),
      });
      const tally = this.tallies.get(level);
      tally.tried += tried;
      tally.wrong += wrong;
      this.showTallies();
      this.verdict.dataset.wrong = wrong > 0;
      say(this.verdict, wrong ? `${this.told.fault}: ${wrong} of ${tried} times` : `All right, ${tried} of ${tried} times`);
      announce(`${this.told.title}, ${nameOf(level)}: ${this.verdict.textContent}`);
    } catch (error) {
      this.verdict.dataset.wrong = true;
      say(this.verdict, error.message);
    } finally {
      this.play.disabled = false;
    }
  }
}

const stories = [followers, review, parcel, thread, seat].map((told) => new Story(told));

function choose(story, { focus = false } = {}) {
  for (const one of stories) {
    one.tab.setAttribute("aria-selected", one === story);
    one.tab.tabIndex = one === story ? 0 : -1;
  }
  $("story").setAttribute("aria-labelledby", story.tab.id);
  $("story").replaceChildren(...story.body());
  if (focus) story.tab.focus();
}

function step(event) {
  const at = stories.findIndex((one) => one.tab === event.target);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: stories.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  choose(stories[(to + stories.length) % stories.length], { focus: true });
}

export function start() {
  $("story-tabs").append(...stories.map(({ tab }) => tab));
  $("story-tabs").addEventListener("keydown", step);
  for (const story of stories) story.tab.addEventListener("click", () => choose(story));
  choose(stories[0]);
}
