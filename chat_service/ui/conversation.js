/** The conversation that is shown: it is loaded, and reconciled with what the server has by now. */

import * as api from "./api.js";
import { limit, replyIn, showFailure } from "./coming.js";
import { composer } from "./composer.js";
import { count } from "./count.js";
import { loads } from "./loads.js";
import { log } from "./log.js";
import { $ } from "./markup.js";
import { forget, keysOf, over, recall, running, touch } from "./platform.js";
import { hasProblem, hideAnswered, hideProblem, showProblem } from "./problem.js";
import { address, beginView, rememberUser, session, user, view } from "./session.js";
import { sidebar, toggleDrawer } from "./sidebar.js";
import { asDraft, draft, editOf, idIn, recallEdit, unsent } from "./texts.js";

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
/** How long the server may take to store a stopped reply. */
export const KEPT_MS = 300;
/** Most conversations are loaded before one could read that they are being loaded. */
const SLOW_MS = 300;
const WELCOME = $("empty").textContent;
const LOADING = "Loading the conversation…";
const NOT_LOADED = "This conversation could not be loaded.";
const NOT_HERE = "There is no such conversation of yours: it may be another user's, or deleted.";
/** Conversations of which the server may have more than this page, e.g. because they changed elsewhere. */
const stale = new Set();
/** Whether the conversation that is shown has been loaded since it was chosen. */
let isLoaded = false;

/** Reload a conversation once it is shown again, as the server may have more of it. */
export const doubt = (id) => stale.add(id);
export const isDoubted = (id) => stale.has(id);

/** Show whether a reply is coming. */
export function setBusy(busy) {
  $("status").textContent = busy ? "The assistant is replying…" : "";
  composer.busy = busy;
}

/** Show a conversation, or a new one. The browser's Back button returns to the one before. */
export async function go(id = "") {
  toggleDrawer(false);
  // On a touch screen this opens the keyboard, which would cover what is to be read.
  if (!id || !touch.matches) composer.focus();
  if (id === session && replyIn(id)) return;
  if (id !== address()) history.pushState(null, "", id ? `#${id}` : location.pathname);
  await show(id);
}

/** Show the conversation in the page's address, or a new one. */
export function showAddress() {
  const id = address().toLowerCase(); // as the service writes it
  if (!UUID.test(id)) return show("");
  history.replaceState(null, "", `#${id}`);
  return show(id);
}

/** Show a conversation, or a new one. */
export async function show(id) {
  const left = replyIn(session);
  if (left) {
    left.turns = log.turns;
    if (!replyIn(id)) limit(left);
    sidebar.refresh(user);
  }
  const mine = beginView(id);
  loads.end();
  const reply = replyIn(session);
  sidebar.current = session;
  log.show(reply?.turns);
  hideProblem();
  composer.keepTyped(); // another tab may have sent, and so forgotten, the draft of the same place
  composer.open(draft());
  setBusy(Boolean(reply));
  $("empty").textContent = WELCOME;
  isLoaded = !id || Boolean(reply && !stale.has(id));
  if (!id) return;
  if (reply && isLoaded) return recallEdit(isLoaded);
  stale.add(id); // until it is loaded
  $("empty").hidden = true;
  if (!reply) $("status").textContent = LOADING;
  const slow = setTimeout(() => {
    if (mine !== view || isLoaded || log.turns.length) return;
    $("empty").textContent = LOADING;
    $("empty").hidden = false;
  }, SLOW_MS);
  try {
    const messages = await load();
    if (!messages) return;
    receive(messages);
    recallAll();
  } catch (error) {
    if (!isLoaded) notLoaded(error);
  } finally {
    clearTimeout(slow);
  }
}

/** Have the list and the count show what the server has by now. */
export function refresh() {
  sidebar.refresh(user);
  count.refresh(user);
}

function notLoaded(error, isAsked = true) {
  saidLoading();
  $("empty").textContent = NOT_LOADED;
  $("empty").hidden = log.turns.length > 0;
  if (!isAsked && hasProblem()) return;
  const again = () => {
    show(session);
    rememberUser();
    refresh();
  };
  showProblem(error, again, "conversation");
}

function saidLoading() {
  if ($("status").textContent === LOADING) $("status").textContent = "";
}

/** The server's messages of this conversation; null if they are no longer wanted, or a later load came first. */
const load = () => loads.load((signal) => api.messages(user, session, signal));

/** Show the server's messages of this conversation. */
function receive(messages) {
  const { edited } = composer;
  const lost = edited?.lost;
  const reply = replyIn(session);
  const waiting = log.turns.filter((turn) => !turn.isKept);
  log.reconcile(messages, reply?.turn);
  const answered = waiting.findLast((turn) => turn.isKept && turn.state === "complete");
  if (answered && !reply) answered.readOut();
  // The server has the edit whose reply was cut off.
  if (lost && edited.isKept && edited.text === lost && composer.text === lost) composer.endEdit();
  hideAnswered();
  if (reply) log.append(reply.turn);
  // The server may still be answering a message that it hasn't stored yet.
  if (!log.turns.some((turn) => turn.isUnsure && turn !== reply?.turn)) stale.delete(session);
  for (const { message_id: id, text } of messages) {
    if (id === reply?.turn.id) continue;
    for (const key of [unsent(id), editOf(id)]) if (recall(key) === text) forget(key);
  }
}

/** Once this conversation is loaded, show those of its messages and edits that the server doesn't have. */
function recallAll() {
  isLoaded = true;
  saidLoading();
  hideProblem("conversation");
  keysOf(unsent()).forEach(recallUnsent);
  recallEdit(isLoaded);
  sayIfNotHere();
  if (showFailure(session)) sidebar.refresh(user);
}

function sayIfNotHere() {
  if (!log.turns.length) $("empty").textContent = NOT_HERE;
}

/** Show a message whose reply has not come: it is being answered in another tab, or it failed. */
async function recallUnsent(key) {
  const [mine, text, id] = [view, recall(key), idIn(key)];
  if (replyIn(session)?.turn.id === id) return;
  const turn = log.turn(id) ?? log.add({ id, text });
  turn.isUnsure = turn.isCorrected = !turn.isKept;
  if ((await running(`reply ${id}`)) && mine === view) log.append(turn);
  await over(`reply ${id}`);
  if (recall(key) && !turn.isKept) log.keepPlace(() => turn.failed());
  // After this time, the server has stored what a closed tab had received.
  await new Promise((resolve) => setTimeout(resolve, KEPT_MS));
  if (mine !== view) return;
  await reread();
  if (mine !== view || replyIn(session)) return;
  if (!turn.isKept) turn.failed();
  else if (recall(key)) asDraft(turn, text);
}

/** Reload this conversation, which other tabs or machines may have changed. Returns whether it was. */
export async function reread() {
  const isBusy = () => isLoaded && replyIn(session);
  if (isBusy() || !UUID.test(address())) return false;
  const messages = await load().catch((error) => {
    // Otherwise nothing would show that messages may be missing.
    if (!isLoaded) notLoaded(error, false);
  });
  if (!messages || isBusy()) return false;
  receive(messages);
  if (isLoaded) sayIfNotHere();
  else recallAll();
  return true;
}

/** Reload this conversation, and recall messages and edits that have not reached the server. */
export async function rereadAll() {
  if (!(await reread())) return;
  for (const key of keysOf(unsent())) {
    const turn = log.turn(idIn(key));
    // A message that was stopped before the server had it can be sent again.
    if (turn?.isKept || turn?.state === "stopped") recallUnsent(key);
  }
}
