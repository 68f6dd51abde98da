/** Messages on their way: from the message box, through the stream of the reply, until the server keeps it. */

import { chat } from "./api.js";
import { replyBegins, replyEnds, replyIn } from "./coming.js";
import { composer } from "./composer.js";
import { KEPT_MS, doubt, isDoubted, rereadAll, setBusy } from "./conversation.js";
import { count } from "./count.js";
import { fail } from "./failed.js";
import { loads } from "./loads.js";
import { log } from "./log.js";
import { $ } from "./markup.js";
import { forget, noted, recall, remember, tabs, uuid } from "./platform.js";
import { hideProblem } from "./problem.js";
import { session, user } from "./session.js";
import { sidebar } from "./sidebar.js";
import { draft, editOf, unsent } from "./texts.js";

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
    else fail(sent, error, { run, send });
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
