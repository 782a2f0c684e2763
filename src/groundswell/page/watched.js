// The one target that is watched, and who wants to know.

import { get } from "./api.js";

const BUILT_IN = ["follow", "like", "view", "review", "reply", "seat"].map((name) => ({ name }));
const listeners = new Set();

export const watched = {
  kind: "like",
  target: "1",
  picked: false, // by the visitor; until then the hottest is watched
  kinds: BUILT_IN, // as the node declares them, once it has said so

  /** Watch this one from now on. */
  watch(kind, target, { picked = true } = {}) {
    const same = kind === this.kind && String(target) === this.target;
    this.picked ||= picked;
    if (same) return;
    this.kind = kind;
    this.target = String(target);
    for (const listener of listeners) listener();
  },

  /** Call back after every change. */
  onChange: (listener) => listeners.add(listener),

  /** The declaration of the watched kind, as far as it is known. */
  get declared() {
    return this.kinds.find((kind) => kind.name === this.kind) ?? { name: this.kind };
  },

  get title() {
    return `${this.kind} ${this.target}`;
  },
};

/** What grew most in the last half minute. */
export const hottest = (kind, limit) => get(`v1/trending/${kind}`, { window_s: 30, limit });
