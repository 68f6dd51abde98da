/** The replies of all conversations: those that are being streamed, and those that failed out of sight. */

import { running } from "./platform.js";

/** A browser has only six connections to a host, for all tabs. */
const MOST_REPLIES = 4;
/**
 * The replies that are being streamed, by conversation. They go on while another conversation is shown. Each has
 * its `turn`, its `stop`, and its conversation's `turns` while that isn't shown.
 */
const coming = new Map();
/** Failures in conversations that were not shown: functions that show them, by conversation. */
const failures = new Map();

export const replyIn = (session) => coming.get(session);
export const replyBegins = (session, reply) => coming.set(session, reply);
export const replyEnds = (session) => coming.delete(session);

/** Stop this reply if there are too many, in all tabs. */
export async function limit(reply) {
  const all = await running("reply ");
  if (Math.max(all, coming.size) > MOST_REPLIES) reply.stop();
}

export function stopReplies() {
  failures.clear();
  for (const reply of coming.values()) reply.stop();
}

/** Call `show`, which shows a failure, once its conversation is shown. */
export const failed = (session, show) => failures.set(session, show);
export const hasFailed = (session) => failures.has(session);

/** Show the failure in a conversation. Returns whether there was one. */
export function showFailure(session) {
  failures.get(session)?.();
  return failures.delete(session);
}
