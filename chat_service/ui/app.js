/** The chat page: who chats, which conversation is shown, and the turn that is under way. */

import * as api from "./api.js";
import { drawActivity } from "./chart.js";
import { recall, remember, uuid } from "./platform.js";
import { Sidebar } from "./sidebar.js";
import { followTheme } from "./theme.js";
import { followToken, subject } from "./token.js";
import { TurnView } from "./turns.js";

const $ = (id) => document.getElementById(id);
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

let user = subject() || recall("user") || "alice";
let session = "";
let turns = [];
/** The AbortController of the reply that is coming. */
let coming = null;
/** Answers to an older view of the page are dropped. */
let view = 0;

const sidebar = new Sidebar({
  onOpen: (id) => go(id),
  onProblem(error, retry) {
    // A message that was not answered matters more; the list is loaded again after each.
    if ($("problem").hidden) showProblem(error, retry);
  },
});

// Problems

function showProblem(error, retry) {
  if (!(error instanceof api.Problem)) console.error(error);
  $("problem-text").textContent =
    error instanceof api.Problem ? error.message : "Something went wrong in this page.";
  const follow = atBottom();
  $("problem").hidden = false;
  if (follow) scrollToEnd();
  $("retry").onclick = () => {
    hideProblem();
    $("text").focus();
    retry();
  };
}

function hideProblem() {
  $("problem").hidden = true;
  $("problem-text").textContent = "";
}

// The log

function atBottom() {
  return $("log").scrollHeight - $("log").scrollTop - $("log").clientHeight < 80;
}

function scrollToEnd() {
  $("log").scrollTop = $("log").scrollHeight;
}

function addTurn(message) {
  const turn = new TurnView($("log"), message, { onEdit: beginEdit, onRetry: sendAgain });
  turns.push(turn);
  markLast();
  return turn;
}

function markLast() {
  for (const turn of turns) turn.isLast = turn === turns.at(-1);
  $("empty").hidden = turns.length > 0;
}

// Conversations

/** Show a conversation, or a new one, and let the browser's Back return from it. */
async function go(id = "") {
  history.pushState(null, "", id ? `#${id}` : location.pathname);
  sidebar.toggle(false);
  await show(id);
  $("text").focus();
}

async function show(id) {
  coming?.abort();
  const mine = ++view;
  session = id || uuid();
  sidebar.current = session;
  turns = [];
  $("log").replaceChildren();
  hideProblem();
  endEdit();
  markLast();
  if (!id) return;
  let past;
  $("empty").hidden = true;
  $("status").textContent = "Loading the conversation…";
  try {
    past = await api.messages(user, id);
  } catch (error) {
    if (mine === view) showProblem(error, () => show(id));
    return;
  } finally {
    if (mine === view) $("status").textContent = "";
  }
  // What was sent before they came goes after them.
  if (mine !== view) return;
  const newer = turns.map((turn) => turn.element);
  const old = past.map((message) => {
    const turn = addTurn({ id: message.message_id, text: message.text });
    turn.complete(message.reply, message.reply_html);
    if (message.stopped) turn.stopped();
    return turn;
  });
  turns = [...old, ...turns.filter((turn) => !old.includes(turn))];
  $("log").append(...newer);
  markLast();
  scrollToEnd();
}

async function refreshCount(before = null) {
  const asked = user;
  // The count follows a moment after the reply.
  for (const wait_ms of [0, 300, 1000]) {
    await new Promise((resolve) => setTimeout(resolve, wait_ms));
    const count = await api.messageCount(asked);
    if (asked !== user) return;
    $("count").textContent = `Messages sent: ${count ?? "unknown"}`;
    const days = await api.activity(asked);
    if (asked !== user) return;
    drawActivity($("activity"), days);
    if (before === null || count === null || count > before) return;
  }
}

function become(name) {
  $("user").value = name || user;
  if (!name || name === user) return;
  user = name;
  remember("user", user);
  $("count").textContent = "";
  go();
  sidebar.refresh(user);
  refreshCount();
}

/** With a token nobody else can be chosen. What failed without it can be tried again. */
function signIn(name) {
  $("user").readOnly = true;
  if (name !== user) return become(name);
  if (!turns.length) showAddress();
  sidebar.refresh(user);
  refreshCount();
}

// Sending

async function run(turn) {
  hideProblem();
  // So that a reload comes back to this conversation.
  history.replaceState(null, "", `#${session}`);
  const control = (coming = new AbortController());
  setBusy(true);
  scrollToEnd();
  let before = null;
  try {
    const reply = await api.chat({
      user,
      session,
      id: turn.id,
      text: turn.text,
      signal: control.signal,
      onDelta: (text) => {
        const follow = atBottom();
        turn.add(text);
        if (follow) scrollToEnd();
      },
    });
    before = reply.message_count;
    const follow = atBottom();
    turn.complete(reply.reply, reply.reply_html);
    if (follow) scrollToEnd();
    $("status").textContent = "Reply complete.";
  } catch (error) {
    if (control.signal.aborted) {
      turn.stopped();
      $("status").textContent = "Stopped.";
    } else {
      turn.failed();
      $("status").textContent = "";
      showProblem(error, () => sendAgain(turn));
    }
  }
  if (coming === control) {
    coming = null;
    setBusy(false);
  }
  refreshCount(before);
  // A stopped reply is stored a moment after we have left it.
  setTimeout(() => sidebar.refresh(user), control.signal.aborted ? 300 : 0);
}

function setBusy(busy) {
  if (busy) $("status").textContent = "The assistant is replying…";
  if (!busy && document.activeElement === $("stop")) $("text").focus();
  $("send").hidden = busy;
  $("stop").hidden = !busy;
}

function send(text) {
  if (coming || !text.trim()) return;
  // What failed was not kept; its edited version takes its place.
  const replaced = $("editing").hidden ? null : turns.at(-1);
  if (replaced?.hasFailed) turns.pop().element.remove();
  endEdit();
  $("text").value = "";
  fit();
  run(addTurn({ id: uuid(), text }));
}

/** The same message again, with the same id: it counts once. */
function sendAgain(turn) {
  if (coming) return;
  $("text").focus();
  // A stopped reply stays in the history, and here; a failed one does not.
  if (turn.mayRetry) return run(addTurn({ id: turn.id, text: turn.text }));
  turn.begin();
  return run(turn);
}

function beginEdit(turn) {
  $("editing").hidden = false;
  $("text").value = turn.text;
  fit();
  $("text").focus();
}

function endEdit() {
  if (!$("editing").hidden) $("text").value = "";
  $("editing").hidden = true;
  fit();
}

/** As high as its text, up to the limit in the style sheet. */
function fit() {
  const rows = $("text").value.split("\n").length;
  $("text").rows = Math.min(rows, 8);
}

// Events

$("composer").onsubmit = (event) => {
  event.preventDefault();
  send($("text").value);
};
$("text").oninput = fit;
$("text").onkeydown = (event) => {
  // While a word is being composed (Japanese, say), Enter ends the word.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send($("text").value);
};
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.isComposing) return;
  if (coming) coming.abort();
  else if (document.activeElement === $("text")) endEdit();
});
$("stop").onclick = () => coming?.abort();
$("cancel-edit").onclick = () => {
  endEdit();
  $("text").focus();
};
$("new").onclick = () => go();
$("user").onchange = () => become($("user").value.trim());
$("user").onkeydown = (event) => {
  if (event.key === "Enter") $("text").focus();
};
$("skip").onclick = (event) => {
  event.preventDefault();
  $("text").focus();
};

function showAddress() {
  const id = location.hash.slice(1);
  return show(UUID.test(id) ? id : "");
}

window.addEventListener("popstate", showAddress);
followTheme($("theme"));
followToken(signIn);
$("user").value = user;
$("user").readOnly = Boolean(subject());
showAddress();
sidebar.refresh(user);
refreshCount();
$("text").focus();
