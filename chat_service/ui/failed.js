/** Messages that failed: their texts are kept, and Retry sends them as they are by then. */

import { failed, replyIn } from "./coming.js";
import { composer } from "./composer.js";
import { doubt, reread } from "./conversation.js";
import { asDraft } from "./edits.js";
import { log } from "./log.js";
import { $ } from "./markup.js";
import { forget, recall } from "./platform.js";
import { showProblem } from "./problem.js";
import { editOf } from "./texts.js";

/** Texts that were refused before their sender was known, by the keys under which they are stored. */
const refused = new Map();

/** Take these texts out of storage, as they are another user's. */
export function takeRefused() {
  for (const record of refused.keys()) forget(record);
  return [...refused.values()];
}

/** Show that a message failed. To retry, `run` sends it again, or `send` as a new message. */
export function fail(sent, error, { run, send }) {
  const { turn, text, regenerate, place, record, wasKept } = sent;
  const wasEditing = composer.edited === turn;
  if (error.isOurs && error.status === 401 && !$("user").readOnly) refused.set(record, text);
  turn.failed();
  // Another tab or machine has sent a later message, or deleted this one.
  const isOld = (error.isOurs && error.status === 409) || (error.isNotFound && regenerate);
  const isEdit = turn.text !== text || (isOld && regenerate && !wasKept);
  if (isEdit) asDraft(turn, text, place);
  if (sent.isShown && !turn.isKept) log.putBack(turn);
  const stored = isEdit && recall(editOf(turn.id, place));
  if (isOld) {
    doubt(place);
    forget(record);
  }
  /** Whether the text has been corrected since it failed. */
  const isBetter = () => composer.edited?.id === turn.id && !wasEditing;
  /** Whether the text still waits to be sent, and is not cancelled, or sent by another tab. */
  const waits = () => isBetter() || [editOf(turn.id, place), record].some((key) => recall(key) === text);
  const { shown } = turn;
  const isAnswered = () => {
    const there = log.turn(turn.id);
    if (there?.state !== "complete") return false;
    const isNew = isEdit || !wasKept || there.shown !== shown;
    return there.text === text ? isNew : !(wasKept || isEdit || waits());
  };
  const again = async () => {
    if (isOld) await reread();
    if (!sent.isShown || replyIn(place)) return; // the user has moved on meanwhile
    const [there, edited] = [log.turn(turn.id), recall(editOf(turn.id, place))];
    if (isAnswered()) return;
    // The server may have had an earlier text of this message.
    const edits = isEdit || (!wasKept && there?.isKept && there.text !== text);
    // Send the text as it has been corrected by now.
    if (isBetter() && (edits || !turn.isKept)) return composer.send();
    if (stored && !edited && there?.text !== text) return; // the user has cancelled it
    if (edits && edited === text) forget(editOf(turn.id, place));
    if (edits && isOld) return send(text, there ?? turn);
    if (isOld && !(there && there === log.last)) return;
    const one = there ?? log.add({ id: turn.id, text });
    run(one, edits ? text : one.text, regenerate || one.isKept);
  };
  const show = () => isAnswered() || showProblem(error, again, isAnswered);
  if (sent.isShown) show();
  else failed(place, show);
}
