// A count as each replica shows it, what the node does, and what is hot.

import { Lines, styleOf } from "./chart.js";
import { $, complain, el, milliseconds, number, say } from "./dom.js";
import { pulse } from "./pulse.js";
import { hottest, watched } from "./watched.js";

const HOT_MS = 2000;
const HOT_LIMIT = 8;
const RATE_S = 2; // over which rates are taken

const count = new Lines($("count-chart"));
const behind = new Lines($("behind-chart"), { behind: true });
let beats = []; // of the last seconds, for rates
let rows = []; // of the table, one per replica
let drawing = false;

/** Take a beat in; it is drawn with the next frame. */
function beat(isBeat) {
  const { latest, connected, problem } = pulse;
  $("connection").dataset.state = connected ? "live" : "lost";
  say($("connected"), connected ? "live" : problem ? "no connection" : "connecting");
  complain($("spike-problem"), problem?.status ? problem : null);
  if (!isBeat) return;
  const names = latest.replicas.map((one) => one.name);
  if (names.join() !== count.names.join()) begin(names);
  const counts = latest.replicas.map((one) => one.count);
  count.add(latest.uptime_ms / 1000, counts);
  behind.add(latest.uptime_ms / 1000, counts);
  if (beats.length && beats.at(-1).uptime_ms >= latest.uptime_ms) beats = [];
  beats.push(latest);
  while (latest.uptime_ms - beats[0].uptime_ms > RATE_S * 1000) beats.shift();
  if (!drawing) {
    drawing = true;
    requestAnimationFrame(draw);
  }
}

function begin(names) {
  for (const lines of [count, behind]) lines.begin(names);
  rows = names.map((name, place) => {
    const cells = Array.from({ length: 3 }, () => el("td", { className: "n" }));
    const state = el("span", { className: "chip", hidden: true }, "stopped");
    const swatch = el("span", { className: `swatch ${styleOf(place).name} dash-${place % 3}` });
    const head = el("th", { scope: "row" }, swatch, el("span", {}, name), " ", state);
    return { cells, state, row: el("tr", {}, head, ...cells) };
  });
  $("replicas").replaceChildren(...rows.map(({ row }) => row));
}

function draw() {
  drawing = false;
  const { latest } = pulse;
  if (latest === null) return; // another target is watched by now
  count.draw();
  behind.draw();
  const counts = latest.replicas.map((one) => one.count).filter((one) => one !== null);
  const furthest = counts.length ? Math.max(...counts) : null;
  latest.replicas.forEach((one, place) => {
    const { cells, state, row } = rows[place];
    say(cells[0], number(one.count));
    say(cells[1], one.count === null ? "–" : number(furthest - one.count));
    say(cells[2], milliseconds(one.age_ms));
    state.hidden = one.following;
    row.classList.toggle("stopped", !one.following);
  });
  if (beats.length) drawRates(latest);
}

function drawRates(latest) {
  const first = beats[0];
  const passed_s = (latest.uptime_ms - first.uptime_ms) / 1000;
  const rollups = latest.rollups - first.rollups;
  const rate = (name) => (passed_s ? (latest[name] - first[name]) / passed_s : null);
  say($("writes-per-s"), number(rate("writes")));
  say($("rollups-per-s"), number(rate("rollups")));
  say($("rollup-size"), rollups ? number((latest.events - first.events) / rollups) : "–");
  say($("backlog"), number(latest.backlog));
}

/** For those who cannot see the lines: what they show, now and then. */
function describe() {
  const shown = (pulse.latest?.replicas ?? []).map(
    (one) => `${one.name} ${number(one.count)}${one.following ? "" : ", stopped"}`);
  if (!shown.length) return;
  $("count-chart").setAttribute("aria-label", `Count of ${watched.title} over 30 seconds. Now: ${shown.join("; ")}`);
  $("behind-chart").setAttribute("aria-label", "How far each replica is behind, over 30 seconds. The table below has the figures.");
}

async function heat() {
  if (document.hidden) return;
  const { kind } = watched;
  let found;
  try {
    found = (await hottest(kind, HOT_LIMIT)).trending;
  } catch {
    return; // the pulse tells what is wrong
  }
  if (kind !== watched.kind) return;
  $("hot-empty").hidden = found.length > 0;
  showHot(found);
  if (found.length && !watched.picked) watched.watch(kind, found[0].target, { picked: false });
}

/** Update in place: a button that is focused stays where it is. */
function showHot(found) {
  const list = $("hot");
  const most = found[0]?.growth ?? 1;
  while (list.children.length > found.length) list.lastChild.remove();
  found.forEach((one, place) => {
    const item = list.children[place] ?? list.appendChild(hotItem());
    const [button] = item.children;
    const [name, growth, bar] = button.children;
    button.dataset.target = one.target;
    button.setAttribute("aria-current", String(one.target) === watched.target);
    say(name, `${watched.kind} ${one.target}`);
    say(growth, `+${number(one.growth)}`);
    bar.value = one.growth / most;
  });
}

function hotItem() {
  const button = el("button", { type: "button" },
    el("span", { className: "name" }), el("span", { className: "n" }),
    el("meter", { min: 0, max: 1, "aria-hidden": "true" }));
  button.addEventListener("click", () => watched.watch(watched.kind, button.dataset.target));
  return el("li", {}, button);
}

function pick(event) {
  event.preventDefault();
  watched.watch($("pick-kind").value, $("pick-target").value.trim());
}

/** What the node declares, to choose from. */
export function showKinds() {
  $("pick-kind").replaceChildren(...watched.kinds.map(({ name }) => el("option", { value: name }, name)));
  show();
}

function show() {
  beats = [];
  say($("watched-title"), `Count of ${watched.title}`);
  $("pick-kind").value = watched.kind;
  $("pick-target").value = watched.target;
  if (count.names.length) begin(count.names);
  for (const { firstChild: button } of $("hot").children) {
    button.setAttribute("aria-current", button.dataset.target === watched.target);
  }
}

export async function start() {
  showKinds();
  pulse.onChange(beat);
  watched.onChange(show);
  $("pick").addEventListener("submit", pick);
  $("pick-kind").addEventListener("change", () => {
    $("hot").replaceChildren();
    $("pick-target").value = "";
  });
  setInterval(describe, 3000);
  setInterval(heat, HOT_MS);
  await heat();
}
