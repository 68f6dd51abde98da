/** The chat page: the user, the conversation that is shown, and the current turn. */

import * as api from "./api.js";
import { Composer } from "./composer.js";
import { Count } from "./count.js";
import { Log } from "./log.js";
import {
  TAB,
  composes,
  forget,
  keysOf,
  noted,
  otherTabs,
  over,
  recall,
  remember,
  uuid,
} from "./platform.js";
import { Sidebar } from "./sidebar.js";
import { followTheme } from "./theme.js";
import { followToken, subject } from "./token.js";

const $ = (id) => document.getElementById(id);
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const WELCOME = $("empty").textContent;
const NOT_HERE = "There is no such conversation of yours: it may be another user's, or deleted.";
/** How long the server may take to store a stopped reply. */
const KEPT_MS = 300;
const REREAD_MS = 3000;
/** A browser has only six connections to a host. */
const MOST_REPLIES = 4;
let user = subject() || recall("user", TAB) || recall("user") || "alice";
let session = "";
/**
 * The replies that are being streamed, by conversation. They go on while another one is shown. Each has
 * its `turn`, its `stop`, its conversation's `turns`, and whether that was changed elsewhere (`isStale`).
 */
const coming = new Map();
/** The number of the current view. Answers for an older one are dropped. */
let view = 0;
let readAt = Date.now();
/** Whether the problem that is shown is that the list of conversations could not be loaded. */
let isOfList = false;

const log = new Log({ onEdit: (turn) => composer.beginEdit(turn), onAgain: sendAgain });
const composer = new Composer({
  onSend: send,
  onEdit: (turn, text) => text.trim() && remember(unsent(turn.id), text),
  onCancel: (turn) => forget(unsent(turn.id)),
  onStop: () => coming.get(session)?.stop(),
});
const count = new Count();
const sidebar = new Sidebar({
  unanswered,
  onOpen: (id) => go(id),
  // Stop the reply that is being streamed, as the server would wait for its end.
  onDelete: (id) => coming.get(id)?.stop(),
  onChange: (id, gone) => {
    tell({ user, session: id });
    if (!gone) return;
    [`draft ${owner()} ${id}`, ...keysOf(`unsent ${owner()} ${id} `)].forEach((key) => forget(key));
    if (id === session) go();
  },
  onProblem: showProblem,
  onLoadProblem(error, retry) {
    // Any other problem matters more. The list is reloaded after each message.
    if (!$("problem").hidden && !isOfList) return;
    showProblem(error, retry);
    isOfList = true;
  },
  onLoad: () => isOfList && hideProblem(),
});
const tell = otherTabs((news) => {
  if (news.user !== user) return;
  sidebar.refresh(user);
  count.refresh(user);
  const reply = coming.get(news.session);
  if (reply) reply.isStale = true;
  else if (news.session === session) reread();
});

// Problems

function showProblem(error, retry) {
  isOfList = false;
  if (!(error instanceof api.Problem)) console.error(error);
  $("problem-text").textContent =
    error instanceof api.Problem ? error.message : "Something went wrong in this page.";
  log.keepPlace(() => ($("problem").hidden = false));
  $("retry").onclick = () => {
    hideProblem();
    composer.focus();
    retry();
  };
}

function hideProblem() {
  $("problem").hidden = true;
  $("problem-text").textContent = "";
}

// Conversations

// Encoded, as a user's name may begin with another's and a blank, which also ends it in a key.
const owner = () => user.replace(/[ %]/g, encodeURIComponent);
const draft = () => `draft ${owner()} ${location.hash.slice(1)}`;
const unsent = (id = "") => `unsent ${owner()} ${session} ${id}`;

/** Show a conversation, or a new one. The browser's Back button returns to the one before. */
async function go(id = "") {
  sidebar.toggle(false);
  composer.focus();
  if (id === session && coming.has(id)) return;
  if (id !== session) history.pushState(null, "", id ? `#${id}` : location.pathname);
  await show(id);
}

async function show(id) {
  const left = coming.get(session);
  if (left) {
    left.turns = log.turns;
    if (coming.size > MOST_REPLIES) left.stop();
    sidebar.refresh(user);
  }
  const mine = ++view;
  session = id || uuid();
  const reply = coming.get(session);
  sidebar.current = session;
  log.show(reply?.turns);
  hideProblem();
  composer.open(draft());
  setBusy(Boolean(reply));
  $("empty").textContent = WELCOME;
  // It may have been left before it was loaded.
  if (reply) reply.isStale = true;
  if (!id || reply) return;
  $("empty").hidden = true;
  $("status").textContent = "Loading the conversation…";
  try {
    const messages = await api.messages(user, id);
    if (mine !== view) return;
    log.reconcile(messages);
    log.toEnd();
    forgetSent(messages);
    keysOf(unsent()).forEach(recallUnsent);
    sayIfNotHere();
  } catch (error) {
    const again = () => {
      show(id);
      showUser();
    };
    if (mine === view) showProblem(error, again);
  } finally {
    if (mine === view) $("status").textContent = "";
  }
}

function sayIfNotHere() {
  if (log.turns.length) return;
  $("empty").textContent = NOT_HERE;
  $("empty").hidden = false;
}

function forgetSent(messages) {
  for (const { message_id: id, text } of messages) if (recall(unsent(id)) === text) forget(unsent(id));
}

/** Show a message whose reply has not come: it is being answered in another tab, or it failed. */
async function recallUnsent(key) {
  const [mine, text, id] = [view, recall(key), key.split(" ").at(-1)];
  if (coming.get(session)?.turn.id === id) return;
  const turn = log.turns.find((one) => one.id === id) ?? log.add({ id, text });
  const isTyped = composer.typing();
  await over(`reply ${id}`);
  if (!turn.isKept) turn.failed();
  if (mine !== view) return;
  if (turn.isKept && recall(key) === text && !isTyped()) composer.beginEdit(turn, text);
  // By then, the server has stored what a closed tab had received. An open one sends news of it.
  setTimeout(reread, KEPT_MS);
}

/** The conversations of messages that are being answered, or have failed. The server may not know them. */
function unanswered() {
  const found = new Map();
  for (const key of keysOf(`unsent ${owner()} `)) {
    const id = key.split(" ").at(-2);
    found.set(id, { session_id: id, title: recall(key).slice(0, 60), isComing: coming.has(id) });
  }
  return [...found.values()];
}

/** Reload this conversation, which other tabs or machines may have changed. */
async function reread() {
  const mine = view;
  if (coming.has(session) || !UUID.test(location.hash.slice(1))) return;
  const messages = await api.messages(user, session).catch(() => null);
  if (!messages || mine !== view || coming.has(session)) return;
  log.reconcile(messages);
  forgetSent(messages);
  sayIfNotHere();
}

function become(name) {
  $("user").value = name || user;
  if (!name || name === user) return;
  stopAll();
  user = name;
  count.clear();
  // A link that could not be shown yet may be to this user's conversation.
  if (location.hash && !log.turns.length) showAddress();
  else go();
  showUser();
}

function showUser() {
  remember("user", user);
  remember("user", user, TAB);
  sidebar.refresh(user);
  count.refresh(user);
}

/** Use the token's user; no other can be chosen then. What failed without a token can be retried. */
function signIn(name) {
  $("user").readOnly = true;
  $("user").value = name;
  if (name !== user) return become(name);
  if (!log.turns.length) showAddress();
  showUser();
}

/** Forget the user's data, as others may use this machine. */
function signOut() {
  stopAll();
  [...keysOf(`draft ${owner()} `), ...keysOf(`unsent ${owner()} `), "user"].forEach((key) => forget(key));
  forget("user", TAB);
  $("user").value = "";
  history.replaceState(null, "", location.pathname);
  show("");
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
  const record = unsent(turn.id);
  remember(record, text);
  const control = new AbortController();
  const { signal } = control;
  const mine = { turn, stop: () => control.abort(), turns: log.turns, isStale: false };
  coming.set(place, mine);
  const change = (work) => (isShown() ? log.keepPlace(work) : work());
  turn.begin(text);
  setBusy(true);
  log.toEnd();
  let before = null;
  try {
    const on = {
      delta: (piece) => turn.addText(piece.text),
      html: (html) => change(() => turn.update(html)),
      tool: (tool) => change(() => turn.addTool(tool.name)),
    };
    const chat = () => api.chat({ user: whose, session: place, id: turn.id, text, regenerate, signal, on });
    const reply = await noted(`reply ${turn.id}`, chat, { signal });
    before = reply.message_count;
    forget(record);
    change(() => turn.complete(reply));
    if (isShown()) $("status").textContent = "Reply complete.";
  } catch (error) {
    if (signal.aborted) turn.stopped();
    else turn.failed();
    if (isShown()) $("status").textContent = signal.aborted ? "Stopped." : "";
    // If another conversation is shown, the message is found when its user comes back.
    if (isShown() && !signal.aborted) {
      if (turn.text !== text) composer.beginEdit(turn, text);
      // It is no longer the last message: another tab or machine has sent one.
      if (error.status === 409) {
        mine.isStale = true;
        forget(record);
      }
      showProblem(error, () => {
        if (composer.edited === turn) composer.send();
        else if (error.status !== 409) run(turn, text, regenerate);
      });
    }
  }
  coming.delete(place);
  if (isShown()) composer.busy = false;
  if (!$("sign-in").open) count.refresh(user, before);
  setTimeout(
    () => {
      if ($("sign-in").open) return;
      sidebar.refresh(user);
      tell({ user: whose, session: place });
      // Show a stopped reply as it was stored. Others may also have written in the meantime.
      if (isShown() && (mine.isStale || turn.state === "stopped")) reread();
    },
    signal.aborted ? KEPT_MS : 0,
  );
}

function setBusy(busy) {
  $("status").textContent = busy ? "The assistant is replying…" : "";
  composer.busy = busy;
}

function stopAll() {
  for (const reply of coming.values()) reply.stop();
}

function send(text, edited) {
  const isLast = edited && edited === log.last;
  // A message that was stopped early may not be stored. Without `regenerate` it is accepted anyway.
  if (isLast && (edited.isKept || edited.state === "stopped")) return run(edited, text, edited.isKept);
  // A failed message was not stored, or was deleted elsewhere. Its edited version replaces it. One that
  // is no longer the last stays, and its edited version is a new message.
  if (edited) {
    if (!(edited.isKept && log.turns.includes(edited))) log.drop(edited);
    forget(unsent(edited.id));
  }
  const id = uuid();
  return run(log.add({ id, text }), text);
}

/** Send the last message again, with the same id, so that it counts once. */
function sendAgain(turn) {
  if (coming.has(session)) return;
  composer.endEdit();
  composer.focus();
  run(turn, turn.text, turn.isKept);
}

// Events

$("new").onclick = () => go();
$("user").onchange = () => become($("user").value.trim());
const toTheBox = (event) => {
  // Otherwise Enter would also insert a new line into the box, which then has the focus.
  event.preventDefault();
  composer.focus();
};
$("user").onkeydown = (event) => event.key === "Enter" && !composes(event) && toTheBox(event);
$("skip").onclick = toTheBox;

function showAddress() {
  const id = location.hash.slice(1);
  return show(UUID.test(id) ? id : "");
}

function lookAgain() {
  if (document.hidden || $("sign-in").open || Date.now() - readAt < REREAD_MS) return;
  readAt = Date.now();
  reread();
  sidebar.refresh(user);
}

window.addEventListener("popstate", showAddress);
window.addEventListener("focus", lookAgain);
document.addEventListener("visibilitychange", lookAgain);
followTheme($("theme"));
followToken(signIn, signOut);
$("user").value = user;
remember("user", user, TAB);
$("user").readOnly = Boolean(subject());
showAddress();
sidebar.refresh(user);
count.refresh(user);
api.maxTextLength().then((limit) => (composer.limit = limit));
composer.focus();
