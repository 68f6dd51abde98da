/** The chat page: who chats, which conversation is shown, and the turn that is under way. */

import * as api from "./api.js";
import { Composer } from "./composer.js";
import { Count } from "./count.js";
import { Log } from "./log.js";
import { TAB, composes, forget, keysOf, otherTabs, recall, remember, uuid } from "./platform.js";
import { Sidebar } from "./sidebar.js";
import { followTheme } from "./theme.js";
import { followToken, subject } from "./token.js";

const $ = (id) => document.getElementById(id);
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const WELCOME = $("empty").textContent;
const NOT_HERE = "There is no such conversation of yours: it may be another user's, or deleted.";
/** How long the server may take to keep a reply that was stopped. */
const KEPT_MS = 300;
const REREAD_MS = 3000;
let user = subject() || recall("user", TAB) || recall("user") || "alice";
let session = "";
/** The AbortController of the reply that is coming. */
let coming = null;
/** Answers to an older view of the page are dropped. */
let view = 0;
let readAt = Date.now();
/** Whether this conversation was changed elsewhere while a reply was coming. */
let isStale = false;

const log = new Log({ onEdit: (turn) => composer.beginEdit(turn), onAgain: sendAgain });
const composer = new Composer({
  onSend: send,
  onCancel: (turn) => forget(unsent(turn.id)),
  onStop: () => coming?.abort(),
});
const count = new Count();
const sidebar = new Sidebar({
  onOpen: (id) => go(id),
  // The server waits for a reply that is on its way.
  onDelete: (id) => id === session && coming?.abort(),
  onChange: (id, gone) => {
    tell({ user, session: id });
    if (!gone) return;
    [`draft ${user} ${id}`, ...keysOf(`unsent ${user} ${id} `)].forEach((key) => forget(key));
    if (id === session) go();
  },
  onProblem(error, retry) {
    // A message that was not answered matters more; the list is loaded again after each.
    if ($("problem").hidden) showProblem(error, retry);
  },
});
const tell = otherTabs((news) => {
  if (news.user !== user) return;
  sidebar.refresh(user);
  count.refresh(user);
  if (news.session !== session) return;
  if (coming) isStale = true;
  else reread();
});

// Problems

function showProblem(error, retry) {
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

const draft = () => `draft ${user} ${location.hash.slice(1)}`;
const unsent = (id = "") => `unsent ${user} ${session} ${id}`;

/** Show a conversation, or a new one, and let the browser's Back return from it. */
async function go(id = "") {
  history.pushState(null, "", id ? `#${id}` : location.pathname);
  sidebar.toggle(false);
  composer.focus();
  await show(id);
}

async function show(id) {
  coming?.abort();
  const mine = ++view;
  session = id || uuid();
  sidebar.current = session;
  log.clear();
  hideProblem();
  composer.open(draft());
  $("empty").textContent = WELCOME;
  if (!id) return;
  $("empty").hidden = true;
  $("status").textContent = "Loading the conversation…";
  try {
    const messages = await api.messages(user, id);
    if (mine !== view) return;
    log.reconcile(messages);
    log.toEnd();
    forgetSent(messages);
    for (const key of keysOf(unsent())) recallUnsent(key.split(" ").at(-1), recall(key));
    sayIfNotHere();
  } catch (error) {
    if (mine === view) showProblem(error, () => show(id));
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

/** Show what was sent before a reload, but has not arrived. */
function recallUnsent(id, text) {
  const turn = log.turns.find((one) => one.id === id);
  if (!turn) log.add({ id, text }).failed();
  else if (turn.isKept && turn === log.last) composer.beginEdit(turn, text);
}

/** See what other tabs and machines have done to this conversation. */
async function reread() {
  const mine = view;
  if (coming || !location.hash) return;
  const messages = await api.messages(user, session).catch(() => null);
  if (!messages || mine !== view || coming) return;
  isStale = false;
  log.reconcile(messages);
  forgetSent(messages);
  sayIfNotHere();
}

function become(name) {
  $("user").value = name || user;
  if (!name || name === user) return;
  user = name;
  remember("user", user);
  remember("user", user, TAB);
  count.clear();
  go();
  sidebar.refresh(user);
  count.refresh(user);
}

/** With a token nobody else can be chosen. What failed without it can be tried again. */
function signIn(name) {
  $("user").readOnly = true;
  $("user").value = name;
  if (name !== user) return become(name);
  if (!log.turns.length) showAddress();
  sidebar.refresh(user);
  count.refresh(user);
}

/** Nothing of a user's stays on a machine that others may use. */
function signOut() {
  [...keysOf(`draft ${user} `), ...keysOf(`unsent ${user} `), "user"].forEach((key) => forget(key));
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
  // So that a reload comes back to this conversation.
  history.replaceState(null, "", `#${session}`);
  composer.move(draft());
  const place = session;
  const record = unsent(turn.id);
  remember(record, text);
  const control = (coming = new AbortController());
  turn.begin(text);
  setBusy(true);
  log.toEnd();
  let before = null;
  try {
    const reply = await api.chat({
      user,
      session,
      id: turn.id,
      text,
      regenerate,
      signal: control.signal,
      on: {
        delta: (piece) => turn.addText(piece.text),
        html: (html) => log.keepPlace(() => turn.update(html)),
        tool: (tool) => log.keepPlace(() => turn.addTool(tool.name)),
      },
    });
    before = reply.message_count;
    forget(record);
    log.keepPlace(() => turn.complete(reply));
    $("status").textContent = "Reply complete.";
  } catch (error) {
    if (control.signal.aborted) {
      turn.stopped();
      $("status").textContent = "Stopped.";
    } else {
      turn.failed();
      $("status").textContent = "";
      if (turn.text !== text) composer.beginEdit(turn, text);
      // Not the last one any more, as another tab will have seen.
      if (error.status === 409) isStale = true;
      showProblem(error, () => {
        composer.endEdit();
        run(turn, text, regenerate);
      });
    }
  }
  if (coming === control) {
    coming = null;
    setBusy(false);
  }
  count.refresh(user, before);
  setTimeout(() => afterwards(turn, place), control.signal.aborted ? KEPT_MS : 0);
}

function afterwards(turn, place) {
  if ($("sign-in").open) return;
  sidebar.refresh(user);
  tell({ user, session: place });
  // What was stopped is shown as it was kept; and others may have written meanwhile.
  if (place === session && (isStale || turn.state === "stopped")) reread();
}

function setBusy(busy) {
  if (busy) $("status").textContent = "The assistant is replying…";
  composer.busy = busy;
}

function send(text, edited) {
  const isShown = log.turns.includes(edited);
  // One that was stopped early may not be kept: without `regenerate` the server takes it either way.
  if (isShown && (edited.isKept || edited.state === "stopped")) return run(edited, text, edited.isKept);
  // What failed was not kept, or was deleted elsewhere; its edited version takes its place.
  if (edited) {
    log.drop(edited);
    forget(unsent(edited.id));
  }
  const id = uuid();
  return run(log.add({ id, text }), text);
}

/** The last message again, with the same id: it counts once. */
function sendAgain(turn) {
  if (coming) return;
  composer.endEdit();
  composer.focus();
  run(turn, turn.text, turn.isKept);
}

// Events

$("new").onclick = () => go();
$("user").onchange = () => become($("user").value.trim());
const toTheBox = (event) => {
  // Or Enter would also make a new line in the box, which has the focus then.
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
