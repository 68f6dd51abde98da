/** The chat page: what its modules do for each other, its events, and its start. */

import { askForCaller, followUser, recallEarly } from "./account.js";
import { replyIn } from "./coming.js";
import { composer } from "./composer.js";
import { doubt, go, refresh, reread, rereadAll, showAddress } from "./conversation.js";
import { loads } from "./loads.js";
import { log } from "./log.js";
import { $ } from "./markup.js";
import { tabs } from "./platform.js";
import { hideProblem } from "./problem.js";
import { send, sendAgain } from "./sending.js";
import { session, user } from "./session.js";
import { sidebar, toggleDrawer } from "./sidebar.js";
import { edit } from "./texts.js";
import { followTheme } from "./theme.js";

const REREAD_MS = 3000;
let readAt = Date.now();

log.actions = { onEdit: edit, onAgain: sendAgain };
composer.onSend = send;
composer.onStop = () => replyIn(session)?.stop();
sidebar.onOpen = go;
sidebar.onNoList = askForCaller;
tabs.onNews = (news) => {
  if (news.user !== user) return;
  if (news.gone && [session, undefined].includes(news.session)) composer.disown();
  refresh();
  if (replyIn(news.session)) doubt(news.session);
  else if (news.session === session) reread();
};

function lookAgain() {
  const isEarly = Math.abs(Date.now() - readAt) < REREAD_MS; // a clock may be set back
  if (document.hidden || $("sign-in").open || isEarly) return;
  readAt = Date.now();
  if (!loads.areRunning) rereadAll();
  refresh();
  composer.askForLimit();
}

// Safari doesn't give the focus to a button that is clicked. A click by a key (0) must not move it.
document.addEventListener("click", ({ target, detail }) => detail && target.closest("button")?.focus(), true);
$("new").onclick = () => go();
$("skip").onclick = (event) => composer.take(event);
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
followUser();
showAddress();
refresh();
composer.askForLimit();
askForCaller();
recallEarly();
for (const id of ["user", "search", "send"]) $(id).disabled = false;
$("text").placeholder = "Write a message";
composer.focus();
