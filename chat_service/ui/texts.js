/** The texts that the server doesn't have, in storage: drafts, edits, and messages without a reply. */

import { replyIn } from "./coming.js";
import { forget, keysOf, recall } from "./platform.js";
import { address, session, user } from "./session.js";

// Encoded, as a space ends the name in a key. Otherwise the keys of `bob` would include those of `bob x`.
const owner = (whose) => whose.replace(/[ %]/g, encodeURIComponent);
export const draft = (place = address(), whose = user) => `draft ${owner(whose)} ${place}`;
/** The key under which `composer` stores the edit of a message. */
export const editOf = (id, place) => `${draft(place)} ${id}`;
/** The key of a message that was sent, but not answered yet. */
export const unsent = (id = "", place = session) => `unsent ${owner(user)} ${place} ${id}`;

/** The message id at the end of such a key. */
export const idIn = (key) => key.split(" ").at(-1);

/** Forget the user's texts in a conversation, or in all. */
export function forgetTexts(whose, place = "") {
  for (const kind of ["draft", "unsent"]) {
    keysOf(`${kind} ${owner(whose)} ${place}`).forEach((key) => forget(key));
  }
}

/** The conversations of messages that are being answered, or have failed, by id. The server may not know them. */
export function unanswered() {
  const found = new Map();
  for (const key of keysOf(`unsent ${owner(user)} `)) {
    const [, , id, , more] = key.split(" ");
    if (more) continue; // of version 1.0.0, in which another user's name may have a blank
    found.set(id, { session_id: id, title: recall(key).slice(0, 60), isComing: Boolean(replyIn(id)) });
  }
  return found;
}
