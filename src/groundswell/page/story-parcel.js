// The parcel's status: it must not travel back in time.

import { Session } from "./api.js";
import { pause } from "./dom.js";
import { Made } from "./story-objects.js";

const STOPS = ["label printed", "picked up", "sorting hub", "on the plane", "customs", "out for delivery", "delivered"];
const LOOKS = 2; // after every stop
const STEP_MS = 90;

const made = new Made();

export const parcel = {
  id: "parcel",
  title: "The parcel's status",
  text: "A courier scans a parcel at every stop. You look again and again where it is.",
  weak: "read_your_writes",
  needs: "monotonic",
  why: "Weaker, what was out for delivery is back at the hub. Reading your own writes does not help: they are the courier's.",
  fault: "It went back",

  async play({ level, say, wrong }) {
    const courier = new Session();
    const customer = new Session();
    await made.begin({ op: "put", id: made.id, type: "parcel", data: { stop: "ordered" } });
    let seen = 0;
    let backwards = 0;
    for (const stop of STOPS) {
      await courier.write({ op: "put", id: made.id, type: "parcel", data: { stop } });
      await pause(STEP_MS);
      for (let look = 0; look < LOOKS; look += 1) {
        const { version, data, read } = await made.object(customer, made.id, level);
        const text = `Scanned: ${stop}. You see: ${data.stop}, says ${read.served_by}`;
        if (version < seen) wrong(`${text}: back in time`);
        else say(text);
        backwards += version < seen;
        seen = version;
      }
    }
    return { tried: STOPS.length * LOOKS, wrong: backwards };
  },
};
