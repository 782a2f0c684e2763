// The review after a refresh: what I have just saved has to be there.

import { Session, segment } from "./api.js";
import { pause, randomId } from "./dom.js";

const REVIEWS = 8;
const STEP_MS = 120;

export const review = {
  id: "review",
  title: "The review after a refresh",
  text: "You save a review of a film nobody has reviewed, and the page reloads. Is your review counted?",
  weak: "eventual",
  needs: "read_your_writes",
  why: "Weaker, the film still has no reviews: you think it was lost, and post it again.",
  fault: "The review was missing",

  async play({ level, say, wrong }) {
    const me = randomId();
    const session = new Session();
    let missing = 0;
    for (let turn = 1; turn <= REVIEWS; turn += 1) {
      const film = randomId();
      const stars = 1 + (turn % 5);
      await session.put(`v1/edges/review/${film}/${me}`, { value: stars });
      const found = await session.get(`v1/ratings/review/${segment(film)}`, { consistency: level });
      const by = `says ${found.read.served_by}`;
      if (found.count === 0) wrong(`Saved ${stars} stars. After the refresh: no reviews yet, ${by}`);
      else say(`Saved ${stars} stars. After the refresh: ${found.average.toFixed(1)} from ${found.count} review, ${by}`);
      missing += found.count === 0;
      await pause(STEP_MS);
    }
    return { tried: REVIEWS, wrong: missing };
  },
};
