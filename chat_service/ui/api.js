/** Calls to the gateway. They throw a `Problem`, whose message can be shown to the user. */

import { Broken, events } from "./sse.js";
import { fetchAs, isOurs } from "./token.js";

export class Problem extends Error {
  constructor(message, status = 0, isOurs = false) {
    super(message);
    /** The HTTP status; 0 if there was no answer. */
    this.status = status;
    /** Whether it is the service's own answer, and not that of a proxy in front of it. */
    this.isOurs = isOurs;
  }

  /** Whether the service doesn't have what was asked for. */
  get isNotFound() {
    return this.isOurs && this.status === 404;
  }
}

const AWAY = "The service can't be reached. Check that it is running, then try again.";
const SIGN_IN = "The sign-in before this service seems to have ended. Reload the page to sign in again.";
const CUT = "The connection broke before the reply was complete.";
/** A network that is silent for this long is gone. A slow answer may take longer in all. */
const SILENCE_MS = 10_000;
/** During a reply the server sends something every 15 s. */
const REPLY_SILENCE_MS = 45_000;
/** Longer than any reply takes. */
const REPLY_MS = 90_000;
const PAGE_SIZE = 200;

/** The problem that an error response reports. FastAPI's own validation errors are lists. */
function problem(status, detail, isOurs) {
  const words = Array.isArray(detail)
    ? detail.map((one) => `${one.loc?.at(-1) ?? "request"}: ${one.msg}`).join("; ")
    : detail;
  return new Problem(words || `The service answered with an error (${status}).`, status, isOurs);
}

async function refusal(response) {
  const body = await response.json().catch(() => null);
  // A proxy that wants its users to sign in refuses, or redirects.
  if (!isOurs(response) && [0, 401].includes(response.status)) return new Problem(SIGN_IN);
  return problem(response.status, body?.detail, isOurs(response));
}

/** Its `signal` aborts if `heard` isn't called for `ms`, or if the signal `other` aborts. */
function watchdog(ms, other) {
  const silence = new AbortController();
  let timer;
  const end = () => clearTimeout(timer);
  const heard = () => {
    end();
    timer = setTimeout(() => silence.abort(), ms);
  };
  heard();
  return { signal: AbortSignal.any([silence.signal, ...(other ? [other] : [])]), heard, end };
}

async function follow(body, onData) {
  const reader = body.getReader();
  while (!(await reader.read()).done) onData();
}

async function call(path, { query = {}, silenceMs = SILENCE_MS, signal, ...options } = {}) {
  const waiting = watchdog(silenceMs, signal);
  const { heard } = waiting;
  try {
    const to = `${path}?${new URLSearchParams(query)}`;
    const response = await fetchAs(to, { ...options, signal: waiting.signal });
    heard();
    if (!response.ok) throw await refusal(response);
    if (response.status === 204) return null;
    // A copy, as Chromium reports some requests as failed if their answers are read in pieces.
    follow(response.clone().body, heard).catch(() => {});
    return await response.json();
  } catch (error) {
    throw error instanceof Problem ? error : new Problem(AWAY);
  } finally {
    waiting.end();
  }
}

const json = (body) => ({
  headers: { "content-type": "application/json" },
  body: JSON.stringify(body),
});

/** How many messages the user has sent; null if that can't be fetched. */
export async function messageCount(user) {
  const path = `users/${encodeURIComponent(user)}/analytics`;
  const answer = await call(path, { query: { default: 0 } }).catch(() => null);
  return answer && answer.message_count;
}

/** The user's messages by day, oldest first; none if they can't be fetched. */
export async function activity(user) {
  const answer = await call(`users/${encodeURIComponent(user)}/activity`).catch(() => null);
  return answer ? answer.days : [];
}

/** How many characters a message may have at most. */
export async function maxTextLength() {
  const answer = await call("ui/limits.json").catch(() => null);
  return answer ? answer.max_text_length : Infinity;
}

/** The user of our requests' token, even of one that a proxy adds; null without one, undefined without an answer. */
export async function caller() {
  const answer = await call("ui/caller.json").catch(() => null);
  return answer?.user_id;
}

/** At least `least` of the user's conversations, or all: `{conversations, next}`. */
export async function conversations(user, { filter = "", token = "", least = 1 } = {}) {
  const found = [];
  let next = token;
  do {
    const query = { user_id: user, page_token: next, ...(filter && { filter }) };
    const page = await call("conversations", { query });
    found.push(...page.conversations);
    next = page.next_page_token;
  } while (next && found.length < least);
  return { conversations: found, next };
}

export function rename(user, session, title) {
  const path = `conversations/${session}`;
  return call(path, { method: "PATCH", query: { user_id: user }, ...json({ title }) });
}

/** Delete a conversation. The server first waits for a reply in it, such as one in another tab. */
export function remove(user, session) {
  const query = { user_id: user };
  return call(`conversations/${session}`, { method: "DELETE", query, silenceMs: REPLY_MS });
}

/** All messages of one conversation, oldest first. */
export async function messages(user, session, signal) {
  const found = [];
  let token = "";
  do {
    const query = { user_id: user, page_size: PAGE_SIZE, page_token: token };
    const page = await call(`conversations/${session}`, { query, signal });
    found.push(...page.messages);
    token = page.next_page_token;
  } while (token);
  return found;
}

/**
 * Send a message, or have the last one answered again (`regenerate`). Calls `on[event](data)` for each
 * event, and returns the whole answer. Throws a `Problem`. After `signal` was aborted, any exception
 * means "stopped".
 */
export async function chat({ user, session, id, text, regenerate, signal, on }) {
  const body = { user_id: user, text, message_id: id, metadata: { session_id: session } };
  if (regenerate) body.regenerate = true;
  const waiting = watchdog(REPLY_SILENCE_MS, signal);
  let response;
  try {
    response = await fetchAs("chat/stream?rich=true", { method: "POST", ...json(body), signal: waiting.signal });
  } catch {
    throw new Problem(AWAY);
  }
  if (!response.ok) throw await refusal(response);
  let answer;
  try {
    // Read to the end, as browsers report an unread rest of a response as a failed request.
    for await (const { event, data } of events(response.body, waiting.heard)) {
      if (event === "completed") answer = JSON.parse(data);
      else if (event === "error") {
        const { status, detail } = JSON.parse(data);
        throw problem(status, detail, true);
      }
      on[event]?.(JSON.parse(data));
    }
  } catch (error) {
    if (!answer) throw error instanceof Broken ? new Problem(CUT) : error;
  } finally {
    waiting.end();
  }
  if (!answer) throw new Problem(CUT);
  return answer;
}
