/** The chat page: the user, the conversation that is shown, and the current turn. */

import * as api from "./api.js";
import { replyIn, stopReplies } from "./coming.js";
import { composer } from "./composer.js";
import { doubt, reread, rereadAll, show } from "./conversation.js";
import { count } from "./count.js";
import { toggleDrawer } from "./drawer.js";
import { edit } from "./edits.js";
import { takeRefused } from "./failed.js";
import { loads } from "./loads.js";
import { log } from "./log.js";
import { $ } from "./markup.js";
import { refresh, showUser } from "./overview.js";
import { composes, losesFocus, tabs, touch } from "./platform.js";
import { hideProblem } from "./problem.js";
import { send, sendAgain } from "./sending.js";
import { address, forgetUser, isId, session, setUser, user } from "./session.js";
import { sidebar } from "./sidebar.js";
import { forgetTexts } from "./texts.js";
import { followTheme } from "./theme.js";
import { followToken, subject } from "./token.js";

const REREAD_MS = 3000;
let readAt = Date.now();
/** Whether the service has said whose token comes with our requests, if one does. */
let isCallerKnown = false;
log.actions = { onEdit: edit, onAgain: sendAgain };
composer.onSend = send;
composer.onStop = () => replyIn(session)?.stop();
sidebar.onOpen = (id) => go(id);
sidebar.onChange = (whose, id, gone) => {
  tabs.tell({ user: whose, session: id, gone });
  if (!gone) return;
  hideProblem(`deletion ${id}`);
  if (id === session) go(); // first, as leaving a conversation stores its draft
  forgetTexts(whose, id);
};
sidebar.onNoList = askForCaller;
tabs.onNews = (news) => {
  if (news.user !== user) return;
  // What the other tab has deleted must not be stored again here.
  if (news.gone && [session, undefined].includes(news.session)) composer.filled = composer.text;
  refresh();
  if (replyIn(news.session)) doubt(news.session);
  else if (news.session === session) reread();
};

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
  const texts = [...takeRefused(), typed].filter(Boolean);
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
  tabs.tell({ user, gone: true });
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
