// The node's public HTTP API: calls, sessions, and its event streams read with fetch, so that a key
// can be sent as a header.

const KEY = "groundswell-key";
const SESSION = "Groundswell-Session";
const RETRY_MS = 1000;

/** An error that the node answered with, or that there was no answer. */
export class Problem extends Error {
  constructor(code, detail, status = 0) {
    super(detail);
    this.code = code;
    this.status = status;
  }
}

let key = sessionStorage.getItem(KEY);
const askedFor = new Set(); // who wants to hear that a key is needed

/** Call back when the node refuses for want of a key. */
export const onKeyNeeded = (listener) => askedFor.add(listener);
export const hasKey = () => key !== null;

/** Use this key from now on, as long as the tab lives; null forgets it. */
export function useKey(given) {
  key = given;
  if (given === null) sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, given);
}

async function send(path, options = {}) {
  const headers = { ...options.headers };
  if (key !== null) headers.Authorization = `Bearer ${key}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers, credentials: "omit", cache: "no-store", redirect: "error" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("node-unreachable", "The node does not answer.");
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  const problem = new Problem(told.code ?? "internal", told.detail ?? response.statusText, response.status);
  if (response.status === 401) for (const listener of askedFor) listener(problem);
  throw problem;
}

/** JSON; whole numbers too large for JavaScript stay texts, where the browser tells them. */
function parse(text) {
  return JSON.parse(text, (name, value, context) =>
    typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value)
      ? (context?.source ?? value)
      : value);
}

/** One segment of a path. */
export const segment = (id) => encodeURIComponent(String(id));

/** A session: what it has written and seen, as a token that it carries. */
export class Session {
  constructor(token = null) {
    this.token = token;
  }

  /** Cover another token as well, such as one that was handed over. */
  observe(token) {
    if (token) this.token = this.token ? `${this.token},${token}` : token;
  }

  async call(method, path, body) {
    const sent = this.token;
    const headers = sent ? { [SESSION]: sent } : {};
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const response = await send(path, { method, headers, body: body && JSON.stringify(body) });
    const token = response.headers.get(SESSION);
    // It covers what was sent. What the session has observed meanwhile is kept beside it.
    if (token) this.token = this.token === sent ? token : `${token},${this.token}`;
    return parse(await response.text());
  }

  get = (path, query = {}) => {
    const text = new URLSearchParams(query).toString();
    return this.call("GET", text ? `${path}?${text}` : path);
  };
  put = (path, body = {}) => this.call("PUT", path, body);
  post = (path, body = {}) => this.call("POST", path, body);
  remove = (path) => this.call("DELETE", path);

  count = (kind, target, level) =>
    this.get(`v1/counts/${segment(kind)}/${segment(target)}`, { consistency: level });

  /** Writes, each with its own outcome: a refusal is an outcome, not an error. */
  write = async (...writes) => (await this.post("v1/writes", { writes })).outcomes;
}

/** A call without a session. */
export const get = (path, query) => new Session().get(path, query);
export const post = (path, body) => new Session().post(path, body);

/** Read an event stream until the signal ends it; begins again when it breaks off. */
export async function events(path, signal, { told, connected, lost }) {
  while (!signal.aborted) {
    try {
      const response = await send(path, { signal });
      connected();
      for await (const text of blocks(response.body)) {
        const data = text.split("\n").find((line) => line.startsWith("data:"));
        if (data) told(parse(data.slice(5)));
      }
      lost(new Problem("node-unreachable", "The node has ended the stream."));
    } catch (error) {
      if (signal.aborted) return;
      lost(error instanceof Problem ? error : new Problem("node-unreachable", "The stream broke off."));
      if ([400, 401, 403, 404].includes(error.status)) return;
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

/** What stands between the blank lines of a body. */
async function* blocks(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    yield* parts;
  }
}
