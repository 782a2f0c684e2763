// The node's pulse: ten beats a second while the page can be seen, and nothing while it cannot.

import { events } from "./api.js";
import { watched } from "./watched.js";

const listeners = new Set();
let going = null;

export const pulse = {
  latest: null, // the newest beat
  problem: null, // why there is none
  connected: false,

  /** Call back with every beat, and when the connection changes. */
  onChange: (listener) => listeners.add(listener),

  /** Begin, unless it has begun. */
  start() {
    if (!going) this.begin();
  },

  /** Begin anew, for another target. */
  begin() {
    going?.abort();
    going = null;
    this.latest = null; // of another target, or old
    if (document.hidden) return;
    going = new AbortController();
    const { signal } = going;
    events(`v1/pulse?key=${encodeURIComponent(`${watched.kind}:${watched.target}`)}`, signal, {
      told: (beat) => this.set(signal, { latest: beat }),
      connected: () => this.set(signal, { connected: true, problem: null }),
      lost: (problem) => this.set(signal, { connected: false, problem }),
    });
  },

  set(signal, news) {
    if (signal.aborted) return;
    Object.assign(this, news);
    for (const listener of listeners) listener("latest" in news);
  },

  /** How long until every replica that follows has what is acknowledged now, at most; a guess without a pulse. */
  get settled_ms() {
    const ages = (this.latest?.replicas ?? []).filter((one) => one.following).map((one) => one.age_ms ?? 0);
    return Math.min(ages.length ? Math.max(...ages) + 300 : 1000, 4000);
  },
};

document.addEventListener("visibilitychange", () => pulse.begin());
watched.onChange(() => pulse.begin());
