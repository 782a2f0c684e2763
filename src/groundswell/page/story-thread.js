// The thread: no reply before its question, neither for who comes across it nor for those who are sent a link.

import { Session } from "./api.js";
import { pause } from "./dom.js";
import { Made } from "./story-objects.js";

const ROUNDS = 8;
const STEP_MS = 110;
const FRIENDS = ["Dan", "Eve"]; // two, so that their reads do not meet the same one of three replicas in every round

const made = new Made();
let round = 0; // of all plays: both messages were made together, and change in turn
const question = `${made.id}-question`;
const reply = `${made.id}-reply`;
const put = (id, round) => ({ op: "put", id, type: "message", data: { round } });

export const thread = {
  id: "thread",
  title: "The thread",
  text: "Ann asks, and Ben replies. Cat comes across the reply and looks for the question. Dan and Eve get a link from Ben, with Ben's session token in it.",
  weak: "monotonic",
  needs: "causal",
  why: "Monotonic reads are enough for Cat, who has seen the reply. Dan and Eve have seen nothing yet: they need what Ben knew of.",
  fault: "A reply without its question",

  async play({ level, say, wrong }) {
    await made.begin(put(question, 0), put(reply, 0));
    const ann = new Session();
    const ben = new Session();
    const cat = new Session();
    let bad = 0;
    for (let turn = 1; turn <= ROUNDS; turn += 1) {
      round += 1;
      await ann.write(put(question, round));
      ben.observe(ann.token);
      await ben.write(put(reply, round));
      await pause(STEP_MS);
      const seen = await made.object(cat, reply, level);
      const found = await made.object(cat, question, level);
      tell(`Cat comes across reply ${seen.data.round}, and`, found, found.data.round < seen.data.round);
      for (const friend of FRIENDS) {
        const sent = await made.object(new Session(ben.token), question, level);
        tell(`${friend} is sent reply ${round}, and`, sent, sent.data.round < round);
      }
    }
    return { tried: (1 + FRIENDS.length) * ROUNDS, wrong: bad };

    function tell(who, { data, read }, missed) {
      const text = `${who} sees question ${data.round} from ${read.served_by}`;
      if (missed) wrong(`${text}: its question is not there`);
      else say(text);
      bad += missed;
    }
  },
};
