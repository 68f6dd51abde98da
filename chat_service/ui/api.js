/** The calls to the gateway. A failure is a `Problem`, whose message is for the reader. */

import { fetchAs } from "./token.js";

export class Problem extends Error {}

const AWAY = "The service can't be reached. Check that it is running, then try again.";
const CUT = "The connection broke before the reply was complete.";
const TIMEOUT_MS = 10_000;

/** What an answer says went wrong; FastAPI's own refusals are lists. */
function describe(status, detail) {
  if (Array.isArray(detail)) {
    return detail.map((one) => `${one.loc?.at(-1) ?? "request"}: ${one.msg}`).join("; ");
  }
  return detail || `The service answered with an error (${status}).`;
}

async function refusal(response) {
  const body = await response.json().catch(() => null);
  return new Problem(describe(response.status, body?.detail));
}

async function get(path, query = {}) {
  let response;
  try {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    response = await fetchAs(`${path}?${new URLSearchParams(query)}`, { signal });
    if (response.ok) return await response.json();
  } catch {
    throw new Problem(AWAY);
  }
  throw await refusal(response);
}

/** How many messages the user has sent; null when that can't be known. */
export async function messageCount(user) {
  try {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const response = await fetchAs(`/users/${encodeURIComponent(user)}/analytics`, { signal });
    const body = await response.json();
    if (response.ok) return body.message_count;
    // Another 404 (a proxy's, say) tells nothing about the user.
    return response.status === 404 && body.detail === "User not found" ? 0 : null;
  } catch {
    return null;
  }
}

/** The user's messages by day, the oldest first; none where that can't be known. */
export async function activity(user) {
  try {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const response = await fetchAs(`/users/${encodeURIComponent(user)}/activity`, { signal });
    return response.ok ? (await response.json()).days : [];
  } catch {
    return [];
  }
}

export function conversations(user, pageToken = "") {
  return get("/conversations", { user_id: user, page_token: pageToken });
}

/** All messages of one conversation, the oldest first. */
export async function messages(user, session) {
  const found = [];
  let token = "";
  do {
    const query = { user_id: user, page_size: 200, page_token: token };
    const page = await get(`/conversations/${session}`, query);
    found.push(...page.messages);
    token = page.next_page_token;
  } while (token);
  return found;
}

/**
 * Send a message; call `onDelta` with each piece of the reply, and return the whole answer.
 * Throws a `Problem`; when `signal` was aborted, whatever it throws means "stopped".
 */
export async function chat({ user, session, id, text, signal, onDelta }) {
  const body = { user_id: user, text, message_id: id, metadata: { session_id: session } };
  let response;
  try {
    response = await fetchAs("/chat/stream", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
      signal,
    });
  } catch {
    throw new Problem(AWAY);
  }
  if (!response.ok) throw await refusal(response);
  for await (const { event, data } of events(response.body)) {
    if (event === "delta") onDelta(data.text);
    else if (event === "completed") return data;
    else if (event === "error") throw new Problem(describe(data.status, data.detail));
  }
  throw new Problem(CUT);
}

/** The server-sent events of a body. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = "message";
  let data = [];
  try {
    for (;;) {
      const { done, value } = await reader.read().catch(() => {
        throw new Problem(CUT);
      });
      if (done) return;
      const lines = (rest + value).split(/\r?\n/);
      rest = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (data.length) yield { event, data: JSON.parse(data.join("\n")) };
          event = "message";
          data = [];
        } else if (!line.startsWith(":")) {
          const [, name, content] = /^([^:]*):? ?(.*)$/.exec(line);
          if (name === "event") event = content;
          if (name === "data") data.push(content);
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
