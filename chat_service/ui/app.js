/** The chat page: the user, the conversation that is shown, and the current turn. */

import * as api from "./api.js";
import { failed, replyBegins, replyEnds, replyIn, stopReplies } from "./coming.js";
import { composer } from "./composer.js";
import { KEPT_MS, doubt, isDoubted, reread, rereadAll, setBusy, show } from "./conversation.js";
import { count } from "./count.js";
import { toggleDrawer } from "./drawer.js";
import { asDraft, edit } from "./edits.js";
import { loads } from "./loads.js";
import { log } from "./log.js";
import { $ } from "./markup.js";
import { refresh, showUser } from "./overview.js";
import { composes, forget, losesFocus, noted, otherTabs, recall, remember, touch, uuid } from "./platform.js";
import { hideProblem, showProblem } from "./problem.js";
import { address, forgetUser, isId, session, setUser, user } from "./session.js";
import { sidebar } from "./sidebar.js";
import { draft, editOf, forgetTexts, unsent } from "./texts.js";
import { followTheme } from "./theme.js";
import { followToken, subject } from "./token.js";

const REREAD_MS = 3000;
/** Texts that were refused before their sender was known, by the keys under which they are stored. */
const refused = new Map();
let readAt = Date.now();
/** Whether the service has said whose token comes with our requests, if one does. */
let isCallerKnown = false;
log.actions = { onEdit: edit, onAgain: sendAgain };
composer.onSend = send;
composer.onStop = () => replyIn(session)?.stop();
sidebar.onOpen = (id) => go(id);
sidebar.onChange = (whose, id, gone) => {
  tell({ user: whose, session: id, gone });
  if (!gone) return;
  hideProblem(`deletion ${id}`);
  if (id === session) go(); // first, as leaving a conversation stores its draft
  forgetTexts(whose, id);
};
sidebar.onNoList = askForCaller;
const tell = otherTabs((news) => {
  if (news.user !== user) return;
  // What the other tab has deleted must not be stored again here.
  if (news.gone && [session, undefined].includes(news.session)) composer.filled = composer.text;
  refresh();
  if (replyIn(news.session)) doubt(news.session);
  else if (news.session === session) reread();
});

// Conversations

/** Show a conversation, or a new one. The browser's Back button returns to the one before. */
async function go(id = "") {
  toggleDrawer(false);
  // On a touch screen this opens the keyboard, which would cover what is to be read.
  if (!id || !touch.matches) composer.focus();
  if (id === session && replyIn(id)) return;
  if (id !== address()) history.pushState(null, "", id ? `#${id}` : location.pathname);
  await show(id);
}

function become(name) {
  // Not only if it changes: otherwise Ctrl+Z in the box would bring the earlier name back.
  $("user").value = "";
  $("user").value = name || user;
  if (!name || name === user) return;
  stopReplies();
  setUser(name);
  count.clear();
  // A link that could not be shown yet may be to this user's conversation.
  if (location.hash && !log.turns.length) showAddress();
  else go();
  showUser();
}

/** Become the user who has used the page so far, and whose name is known only now. */
function introduce(name) {
  if (name === user) return become(name);
  // Anything else in the box is a draft of the user who was here before.
  const typed = composer.isTyped ? composer.text : typedEarly;
  if (composer.isTyped) composer.begin(""); // it isn't the earlier user's draft
  const texts = [...refused.values(), typed].filter(Boolean);
  for (const record of refused.keys()) forget(record);
  become(name);
  if (texts.length) composer.begin([composer.text, ...texts].filter(Boolean).join("\n"));
}

/** Use the token's user; no other can be chosen then. What failed without a token can be retried. */
function signIn(name) {
  // What had the focus before the dialog may have been replaced in the list.
  if (losesFocus($("sign-in"))) composer.rest();
  const isFirst = !$("user").readOnly;
  $("user").readOnly = true;
  $("user").value = name;
  if (name !== user) return isFirst ? introduce(name) : become(name);
  if (!log.turns.length) showAddress();
  else rereadAll();
  showUser();
}

/** Forget the user's data, as others may use this machine. */
function signOut() {
  // Taken out of the page, if only for a moment: otherwise Ctrl+Z would bring back what was typed.
  for (const id of ["text", "search"]) $(id).replaceWith($(id));
  composer.focus(); // the dialog gives the focus back there, as its button is hidden by then
  composer.begin(""); // nothing of it is stored again
  tell({ user, gone: true });
  stopReplies();
  forgetTexts(user);
  forgetUser();
  $("user").value = "";
  history.replaceState(null, "", location.pathname);
  show("");
  sidebar.renaming.unsent().clear();
  sidebar.clear();
  count.clear();
}

// Sending

async function run(turn, text, regenerate = false) {
  hideProblem();
  // A reload then shows this conversation again.
  history.replaceState(null, "", `#${session}`);
  composer.move(draft());
  const [place, whose] = [session, user];
  const isShown = () => place === session;
  const { isKept } = turn;
  const record = unsent(turn.id);
  const other = recall(record);
  if (other && ![text, turn.text].includes(other)) remember(editOf(turn.id), other); // another tab's
  remember(record, text);
  const control = new AbortController();
  const { signal } = control;
  replyBegins(place, { turn, stop: () => control.abort() });
  const change = (work) => (isShown() ? log.keepPlace(work) : work());
  turn.begin(text);
  if (!turn.isKept) log.append(turn);
  setBusy(true);
  log.toEnd();
  let reply = null;
  try {
    const on = {
      delta: (piece) => turn.addText(piece.text),
      html: (html) => change(() => turn.update(html)),
      tool: (tool) => change(() => turn.addTool(tool.name)),
    };
    const chat = async () => {
      const ask = (anew) =>
        api.chat({ user: whose, session: place, id: turn.id, text, regenerate: anew, signal, on });
      const answer = await ask(regenerate).catch((error) => {
        if (!error.isNotFound || isKept || !regenerate) throw error;
        turn.isUnsure = turn.isCorrected = false; // the server doesn't have this message
        return ask(false);
      });
      forget(record);
      return answer;
    };
    reply = await noted(`reply ${turn.id}`, chat, { signal });
    change(() => turn.complete(reply));
    if (isShown()) turn.readOut();
  } catch (error) {
    if (isShown()) $("status").textContent = signal.aborted ? "Stopped." : "";
    if (!error.isOurs) {
      turn.isUnsure = !turn.isKept;
      doubt(place);
    }
    if (signal.aborted) turn.stopped();
    else fail(error);
  }
  replyEnds(place);
  loads.replyEnded();
  if (isShown()) composer.busy = false;
  if (!$("sign-in").open) count.refresh(user, reply && reply.message_count);
  setTimeout(
    () => {
      if ($("sign-in").open) return;
      tell({ user: whose, session: place });
      sidebar.refresh(user);
      // Show a reply that was stopped, or cut off, as it was stored. Others may have written, too.
      if (isShown() && (isDoubted(place) || !reply)) rereadAll();
    },
    reply ? 0 : KEPT_MS,
  );

  function fail(error) {
    const wasEditing = composer.edited === turn;
    if (error.isOurs && error.status === 401 && !$("user").readOnly) refused.set(record, text);
    turn.failed();
    // Another tab or machine has sent a later message, or deleted this one.
    const isOld = (error.isOurs && error.status === 409) || (error.isNotFound && regenerate);
    const isEdit = turn.text !== text || (isOld && regenerate && !isKept);
    if (isEdit) asDraft(turn, text, place);
    if (isShown() && !turn.isKept) log.putBack(turn);
    const stored = isEdit && recall(editOf(turn.id, place));
    if (isOld) {
      doubt(place);
      forget(record);
    }
    /** Whether the text still waits to be sent, and is not cancelled, or sent by another tab. */
    const waits = () => isBetter() || [editOf(turn.id, place), record].some((key) => recall(key) === text);
    /** Whether it has been corrected since it failed. */
    const isBetter = () => composer.edited?.id === turn.id && !wasEditing;
    const { shown } = turn;
    const isAnswered = () => {
      const there = log.turn(turn.id);
      if (there?.state !== "complete") return false;
      const isNew = isEdit || !isKept || there.shown !== shown;
      return there.text === text ? isNew : !(isKept || isEdit || waits());
    };
    const again = async () => {
      if (isOld) await reread();
      if (!isShown() || replyIn(place)) return; // the user has moved on meanwhile
      const [there, edited] = [log.turn(turn.id), recall(editOf(turn.id, place))];
      if (isAnswered()) return;
      // The server may have had an earlier text of this message.
      const edits = isEdit || (!isKept && there?.isKept && there.text !== text);
      // Send the text as it has been corrected by now.
      if (isBetter() && (edits || !turn.isKept)) return composer.send();
      if (stored && !edited && there?.text !== text) return; // the user has cancelled it
      if (edits && edited === text) forget(editOf(turn.id, place));
      if (edits && isOld) return send(text, there ?? turn);
      if (isOld && !(there && there === log.last)) return;
      const one = there ?? log.add({ id: turn.id, text });
      run(one, edits ? text : one.text, regenerate || one.isKept);
    };
    const showIt = () => isAnswered() || showProblem(error, again, isAnswered);
    if (isShown()) showIt();
    else failed(place, showIt);
  }
}

function send(text, edited) {
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
function sendAgain(turn) {
  if (replyIn(session)) return;
  composer.rest();
  run(turn, turn.text, turn.isKept || (turn.isUnsure && turn.isCorrected));
}

// Events

// Safari doesn't give the focus to a button that is clicked. A click by a key (0) must not move it.
document.addEventListener("click", ({ target, detail }) => detail && target.closest("button")?.focus(), true);
$("new").onclick = () => go();
const takeName = () => become($("user").value.trim());
$("user").onchange = takeName;
const toTheBox = (event) => {
  // Otherwise Enter would also insert a new line into the box, which then has the focus.
  event.preventDefault();
  composer.focus();
};
$("user").onkeydown = (event) => {
  if (event.key !== "Enter" || composes(event)) return;
  takeName(); // a program that fills in fields may cause no `change`
  toTheBox(event);
};
$("skip").onclick = toTheBox;

function showAddress() {
  const id = address().toLowerCase(); // as the service writes it
  if (!isId(id)) return show("");
  history.replaceState(null, "", `#${id}`);
  return show(id);
}

function lookAgain() {
  if (document.hidden || $("sign-in").open || Math.abs(Date.now() - readAt) < REREAD_MS) return; // a clock may be set back
  readAt = Date.now();
  if (!loads.areRunning) rereadAll();
  refresh();
  askForLimit();
}

window.addEventListener("popstate", () => {
  toggleDrawer(false);
  showAddress();
});
window.addEventListener("focus", lookAgain);
window.addEventListener("online", () => {
  readAt = 0;
  const isLoading = loads.areRunning;
  loads.end(); // they use a network that is gone, and may take long to notice
  lookAgain();
  if (isLoading) rereadAll();
});
document.addEventListener("visibilitychange", lookAgain);
window.addEventListener("pagehide", () => composer.keepTyped());
hideProblem(); // early.js may have taken a failed script of another program for ours
followTheme($("theme"));
followToken(signIn, signOut);
const typedEarly = composer.text; // while the scripts were loading
$("user").value = user;
$("user").readOnly = Boolean(subject());
showAddress();
refresh();
/** Ask how long a message may be; without an answer, again later. */
async function askForLimit() {
  if (composer.most === Infinity) composer.limit = await api.maxTextLength();
}
askForLimit();
/** Ask whose token comes with our requests, even if a proxy adds it, and become that user. */
async function askForCaller() {
  const name = isCallerKnown ? undefined : await api.caller();
  if (name === undefined || isCallerKnown) return; // without an answer, it is asked for again
  isCallerKnown = true;
  if (!name || subject()) return; // another token may have been entered meanwhile
  $("user").readOnly = true;
  introduce(name);
}
askForCaller();
if (typedEarly) composer.begin([composer.text, typedEarly].filter(Boolean).join("\n"));
for (const id of ["user", "search", "send"]) $(id).disabled = false;
$("text").placeholder = "Write a message";
composer.focus();
