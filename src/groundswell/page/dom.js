// Small helpers over the DOM. Data becomes text, never markup.

/** The element with this id. */
export const $ = (id) => document.getElementById(id);

/** A new element: properties (and attributes, where a name has a dash), then children and texts. */
export function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role" || name === "scope") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

/** Set a text where it differs: layout and screen readers hear of changes only. */
export function say(element, text) {
  const wanted = String(text);
  if (element.textContent !== wanted) element.textContent = wanted;
}

/** Tell screen readers, once. */
export const announce = (text) => say($("announcer"), text);

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const seconds = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const number = (n) => (n === null || n === undefined ? "–" : whole.format(n));
export const compact = (n) => short.format(n);
export const milliseconds = (ms) =>
  ms === null ? "unknown" : ms < 2000 ? `${whole.format(ms)} ms` : `${seconds.format(ms / 1000)} s`;

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Show an error where it belongs; an empty one takes it away. */
export function complain(element, error) {
  say(element, error ? error.message : "");
}

/** Whole numbers that nobody else draws, small enough to be exact in JavaScript. */
export function randomId() {
  const [high, low] = crypto.getRandomValues(new Uint32Array(2));
  return (high % 2 ** 18) * 2 ** 32 + low + 2 ** 32;
}
