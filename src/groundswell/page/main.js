// Begins the page: what the node offers, whether it wants a key, and then all the parts.

import { get, hasKey, onKeyNeeded, Session, useKey } from "./api.js";
import * as controls from "./controls.js";
import { $, complain, say } from "./dom.js";
import { pulse } from "./pulse.js";
import * as refresh from "./refresh.js";
import * as spike from "./spike.js";
import * as stories from "./stories.js";
import { watched } from "./watched.js";

function askForKey(problem = null) {
  $("key").hidden = false;
  complain($("key-error"), problem);
  $("key-input").focus();
}

async function keyGiven(event) {
  event.preventDefault();
  useKey($("key-input").value.trim());
  try {
    await new Session().write(); // asks for nothing but whether the key is known
  } catch (error) {
    if (error.status !== 403) {
      useKey(null);
      return complain($("key-error"), error.status ? error : new Error("This cannot be a key."));
    }
  }
  location.reload();
}

/** The kinds and the store, for who may see them. */
async function introduce() {
  try {
    const status = await get("v1/status");
    watched.kinds = status.kinds;
    say($("node"), `Groundswell ${status.version} on ${status.store}`);
    spike.showKinds();
  } catch (error) {
    if (error.status === 403) say($("node"), "This key lacks the scope admin, which shows what the node does.");
  }
}

async function begin() {
  $("key-form").addEventListener("submit", keyGiven);
  onKeyNeeded((problem) => askForKey(hasKey() ? problem : null));
  const { paths } = await get("openapi.json");
  const free = paths["/v1/status"].get.security.some((way) => Object.keys(way).length === 0);
  if (!free && !hasKey()) return askForKey();
  stories.start();
  refresh.start();
  await spike.start(); // which looks for what is hot, to be watched from the start
  pulse.start();
  await introduce();
  if ("/v1/demo" in paths) await controls.start();
}

begin().catch((error) => {
  $("connection").dataset.state = "lost";
  say($("connected"), error.message);
});
