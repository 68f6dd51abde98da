/** Edits of messages that were sent before. Their texts are stored until they are sent. */

import { composer } from "./composer.js";
import { log } from "./log.js";
import { forget, keysOf, recall, remember } from "./platform.js";
import { session } from "./session.js";
import { draft, editOf, idIn, unsent } from "./texts.js";

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
