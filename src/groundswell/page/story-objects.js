// Objects that every reader can find: made once, and read from replicas that are known to have them.

import { Session, segment } from "./api.js";
import { pause, randomId } from "./dom.js";
import { pulse } from "./pulse.js";

/** Objects and accounts of one story, under ids of its own. */
export class Made {
  constructor() {
    this.id = `story-${randomId().toString(36)}`;
    this.at_ms = null; // when the last of them was acknowledged
  }

  /** Make them by these writes, once; then wait until replicas can show them. */
  async begin(...writes) {
    if (this.at_ms !== null) return;
    await new Session().write(...writes);
    this.at_ms = performance.now();
    await this.settle();
  }

  /** Until replicas that follow have what was acknowledged before this call. */
  settle = () => pause(pulse.settled_ms);

  /** How a read has to be asked: by a replica fresh enough to know what was made. */
  options(level) {
    return { consistency: level, max_age_ms: Math.floor(performance.now() - this.at_ms) };
  }

  object = (session, name, level) => session.get(`v1/objects/${segment(name)}`, this.options(level));
  account = (session, name, level) => session.get(`v1/accounts/${segment(name)}`, this.options(level));
}
