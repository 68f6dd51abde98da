/** The texts that the server doesn't have: drafts, edits, and messages without a reply. They are stored. */

import { replyIn } from "./coming.js";
import { composer } from "./composer.js";
import { log } from "./log.js";
import { forget, keysOf, recall, remember } from "./platform.js";
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

/** Begin to edit a message, or go on with it. */
export function edit(turn) {
  const text = recall(editOf(turn.id)) ?? (turn.isKept ? recall(unsent(turn.id)) : null);
  composer.beginEdit(turn, text ?? turn.text);
  composer.focus();
}

/** Keep a text that could not replace this turn's text on the server, as the draft of an edit. */
export function asDraft(turn, text, place = session) {
  turn.lost = text;
  forget(unsent(turn.id, place));
  // The user has begun another edit since.
  if (place === session && composer.edited === turn && composer.isTyped) return;
  remember(editOf(turn.id, place), text);
  if (place === session) goOnEditing(turn, text);
}

/** Go on with an edit that was begun earlier. */
export function recallEdit(isLoaded) {
  const key = keysOf(`${draft()} `).at(-1);
  const turn = key && log.turn(idIn(key));
  if (!turn && !isLoaded) return; // its message may not be loaded yet
  const isOpen = turn && (turn === log.last || !turn.isKept);
  // The edit of a message that is no longer the last would cover what is being written now.
  if (!key || !(isOpen || !composer.text)) return;
  if (turn) return goOnEditing(turn, recall(key));
  composer.begin(recall(key)); // its message was deleted elsewhere
  forget(key);
}

function goOnEditing(turn, text) {
  if (!composer.isTyped) composer.beginEdit(turn, text); // else the user is writing something else
}
