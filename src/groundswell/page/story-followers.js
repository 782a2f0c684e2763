// The follower count: a goalkeeper gains followers while a fan refreshes his profile.

import { Session } from "./api.js";
import { number, pause, randomId } from "./dom.js";

const REFRESHES = 12;
const FANS = 25; // more between two refreshes
const STEP_MS = 60;

export const followers = {
  id: "followers",
  title: "The follower count",
  text: "A goalkeeper gains followers by the second. A fan refreshes his profile, and each refresh meets another replica.",
  weak: "eventual",
  needs: "monotonic",
  why: "Weaker, the count wobbles up and down. For a follower count most products live with that: it costs nothing.",
  fault: "The count fell",

  async play({ level, say, wrong }) {
    const goalkeeper = randomId();
    const world = new Session();
    const fan = new Session();
    let seen = 0;
    let falls = 0;
    for (let turn = 1; turn <= REFRESHES; turn += 1) {
      await world.write(...Array.from({ length: FANS }, () => (
        { op: "add", kind: "follow", target: goalkeeper, source: randomId() })));
      await pause(STEP_MS);
      const { count, read } = await fan.count("follow", goalkeeper, level);
      const text = `${number(count)} followers, says ${read.served_by}`;
      if (count < seen) wrong(`${text}: ${number(seen - count)} fewer than a moment ago`);
      else say(text);
      falls += count < seen;
      seen = count;
    }
    return { tried: REFRESHES, wrong: falls };
  },
};
