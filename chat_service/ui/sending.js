/** Messages on their way: from the message box, through the stream of the reply, until the server keeps it. */

import { chat } from "./api.js";
import { failed, replyBegins, replyEnds, replyIn } from "./coming.js";
import { composer } from "./composer.js";
import { KEPT_MS, doubt, isDoubted, reread, rereadAll, setBusy } from "./conversation.js";
import { count } from "./count.js";
import { loads } from "./loads.js";
import { log } from "./log.js";
import { $ } from "./markup.js";
import { forget, noted, recall, remember, tabs, uuid } from "./platform.js";
import { hideProblem, showProblem } from "./problem.js";
import { session, user } from "./session.js";
import { sidebar } from "./sidebar.js";
import { asDraft, draft, editOf, unsent } from "./texts.js";

/** Texts that were sent, and not answered, before their sender was known; by the keys under which they are stored. */
const nameless = new Map();

/** A message that is sent, with what held then: another user or conversation may be shown before its reply. */
class Sent {
  control = new AbortController();
  user = user;
  place = session;

  constructor(turn, text, regenerate) {
    Object.assign(this, { turn, text, regenerate, wasKept: turn.isKept, record: unsent(turn.id) });
  }

  get isShown() {
    return this.place === session;
  }

  /** Call `work`, which changes the turn. */
  change(work) {
    return this.isShown ? log.keepPlace(work) : work();
  }
}

/** Send a text: as a new message or, if `edited` is given, in the place of that one. */
export function send(text, edited) {
  const isLast = edited && edited === log.last;
  if (isLast) {
    edited.isCorrected ||= edited.isUnsure;
    return run(edited, text, edited.isKept || edited.isUnsure);
  }
  // An older message that was not stored, or was deleted elsewhere, is replaced by a new one. One that
  // was stored stays.
  if (edited) {
    if (!(edited.isKept && log.turns.includes(edited))) log.drop(edited);
    forget(unsent(edited.id));
  }
  const id = uuid();
  return run(log.add({ id, text }), text);
}

/** Send the last message again, with the same id, so that it counts once. */
export function sendAgain(turn) {
  if (replyIn(session)) return;
  composer.rest();
  run(turn, turn.text, turn.isKept || (turn.isUnsure && turn.isCorrected));
}

/** Send the message of a turn, and show its reply while it comes. */
async function run(turn, text, regenerate = false) {
  const sent = begin(turn, text, regenerate);
  const { signal } = sent.control;
  let reply = null;
  try {
    reply = await noted(`reply ${turn.id}`, () => ask(sent), { signal });
    sent.change(() => turn.complete(reply));
    if (sent.isShown) turn.readOut();
  } catch (error) {
    if (sent.isShown) $("status").textContent = signal.aborted ? "Stopped." : "";
    if (!error.isOurs) {
      turn.isUnsure = !turn.isKept;
      doubt(sent.place);
    }
    if (signal.aborted) turn.stopped();
    else fail(sent, error);
  }
  end(sent, reply);
}

/** Store the text until the server has it, and show that its reply is awaited. */
function begin(turn, text, regenerate) {
  hideProblem();
  history.replaceState(null, "", `#${session}`); // a reload then shows this conversation again
  composer.move(draft());
  const sent = new Sent(turn, text, regenerate);
  const other = recall(sent.record);
  if (other && ![text, turn.text].includes(other)) remember(editOf(turn.id), other); // another tab's
  remember(sent.record, text);
  if (!$("user").readOnly) nameless.set(sent.record, text);
  replyBegins(session, { turn, stop: () => sent.control.abort() });
  turn.begin(text);
  if (!turn.isKept) log.append(turn);
  setBusy(true);
  log.toEnd();
  return sent;
}

/** Have the service answer, and show the pieces of the reply. Returns the whole reply, which is kept by then. */
async function ask(sent) {
  const { turn, text, wasKept, regenerate } = sent;
  const on = {
    delta: (piece) => turn.addText(piece.text),
    html: (html) => sent.change(() => turn.update(html)),
    tool: (tool) => sent.change(() => turn.addTool(tool.name)),
  };
  const { user: whose, place, control } = sent;
  const message = { user: whose, session: place, id: turn.id, text, signal: control.signal, on };
  const reply = await chat({ ...message, regenerate }).catch((error) => {
    if (!error.isNotFound || wasKept || !regenerate) throw error;
    turn.isUnsure = turn.isCorrected = false; // the server doesn't have this message
    return chat({ ...message, regenerate: false });
  });
  forget(sent.record);
  nameless.delete(sent.record);
  return reply;
}

/** Free the box for the next message, and have all else catch up, here and in other tabs. */
function end(sent, reply) {
  replyEnds(sent.place);
  loads.replyEnded();
  if (sent.isShown) composer.busy = false;
  if (!$("sign-in").open) count.refresh(user, reply && reply.message_count);
  const catchUp = () => {
    if ($("sign-in").open) return;
    tabs.tell({ user: sent.user, session: sent.place });
    sidebar.refresh(user);
    // Show a reply that was stopped, or cut off, as it was stored. Others may have written, too.
    if (sent.isShown && (isDoubted(sent.place) || !reply)) rereadAll();
  };
  setTimeout(catchUp, reply ? 0 : KEPT_MS);
}

/** Keep the text of a message that failed, and show that it did. Retry sends it as it is by then. */
function fail(sent, error) {
  const { turn, text, regenerate, place, record, wasKept } = sent;
  const wasEditing = composer.edited === turn;
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

/** Take the texts whose sender wasn't known out of storage, as they are another user's. */
export function takeNameless() {
  for (const record of nameless.keys()) forget(record);
  return [...nameless.values()];
}
