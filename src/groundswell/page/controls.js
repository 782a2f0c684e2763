// The controls of a demo node: other nodes do not have them, so the page does not show them.

import { get, post } from "./api.js";
import { $, complain, el, number, say } from "./dom.js";

const POLL_MS = 3000; // somebody else may be at the controls too
const SPEEDS = [50, 20_000]; // likes a second, from one end of the slider to the other
const DELAYS = [0, 50, 150, 300, 600, 1000, 2000, 5000];

let state = null;
let rows = new Map();

const perSecond = (place) => {
  const exact = SPEEDS[0] * (SPEEDS[1] / SPEEDS[0]) ** (place / 100);
  return Number(exact.toPrecision(2));
};
const placeOf = (per_s) => Math.round((100 * Math.log(per_s / SPEEDS[0])) / Math.log(SPEEDS[1] / SPEEDS[0]));

async function change(wanted) {
  try {
    state = await post("v1/demo", wanted);
    complain($("controls-problem"), null);
  } catch (error) {
    complain($("controls-problem"), error);
  }
  show();
}

async function poll() {
  if (document.hidden) return;
  try {
    state = await get("v1/demo");
  } catch (error) {
    return complain($("controls-problem"), error.status ? error : null);
  }
  show();
}

function show() {
  if (!state) return;
  const { spike, replicas, rollup } = state;
  say($("surge"), spike.running ? "Stop the spike" : "Start the spike");
  $("surge").classList.toggle("primary", !spike.running);
  if (document.activeElement !== $("speed")) $("speed").value = placeOf(spike.per_s);
  showSpeed();
  say($("rollup"), rollup.working ? "Stop" : "Go on");
  $("rollup").setAttribute("aria-label", rollup.working ? "Stop the rollup worker" : "Let the rollup worker go on");
  say($("rollup-state"), rollup.working ? "folds what is queued" : "stands still: the backlog grows");
  for (const replica of replicas) showReplica(replica);
}

function showSpeed() {
  const per_s = perSecond($("speed").value);
  say($("speed-value"), `${number(per_s)} likes/s`);
  $("speed").setAttribute("aria-valuetext", `${number(per_s)} likes a second`);
}

function showReplica({ name, delay_ms, following }) {
  if (!rows.has(name)) rows.set(name, replicaRow(name));
  const { button, select } = rows.get(name);
  say(button, following ? "Stop" : "Go on");
  button.setAttribute("aria-label", following ? `Stop ${name}` : `Let ${name} go on`);
  button.dataset.following = following;
  if (!DELAYS.includes(delay_ms) && ![...select.options].some((one) => Number(one.value) === delay_ms)) {
    select.append(el("option", { value: delay_ms }, `${number(delay_ms)} ms`));
  }
  if (document.activeElement !== select) select.value = delay_ms;
}

function replicaRow(name) {
  const select = el("select", {}, ...DELAYS.map((ms) => el("option", { value: ms }, `${number(ms)} ms`)));
  const button = el("button", { type: "button" });
  select.addEventListener("change", () => change({ replicas: { [name]: { delay_ms: Number(select.value) } } }));
  button.addEventListener("click", () =>
    change({ replicas: { [name]: { following: button.dataset.following !== "true" } } }));
  $("replica-controls").append(
    el("li", { className: "control" }, el("span", { className: "label" }, name),
      el("label", {}, "Delay ", select), button));
  return { button, select };
}

export async function start() {
  await poll();
  $("controls").hidden = false;
  setInterval(poll, POLL_MS);
  $("surge").addEventListener("click", () => change({ spike: { running: !state?.spike.running } }));
  $("rollup").addEventListener("click", () => change({ rollup: { working: !state?.rollup.working } }));
  $("speed").addEventListener("input", showSpeed);
  $("speed").addEventListener("change", () => change({ spike: { per_s: perSecond($("speed").value) } }));
}
