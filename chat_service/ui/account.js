/** Who the user is: by name, or by a token that signs them in. */

import { caller } from "./api.js";
import { stopReplies } from "./coming.js";
import { composer } from "./composer.js";
import { go, refresh, rereadAll, show, showAddress } from "./conversation.js";
import { count } from "./count.js";
import { log } from "./log.js";
import { $ } from "./markup.js";
import { composes, losesFocus, tabs } from "./platform.js";
import { takeNameless } from "./sending.js";
import { forgetUser, rememberUser, setUser, user } from "./session.js";
import { sidebar } from "./sidebar.js";
import { forgetTexts } from "./texts.js";
import { followToken, subject } from "./token.js";

/** What was typed while the scripts were loading. */
const typedEarly = composer.text;
/** Whether the service has said whose token comes with our requests, if one does. */
let isCallerKnown = false;

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

function showUser() {
  rememberUser();
  refresh();
}

/** Become the user who has used the page so far, and whose name is known only now. */
function introduce(name) {
  if (name === user) return become(name);
  const { isTyped, text } = composer;
  // Anything before what was typed early is a draft of the user who was here before.
  const early = text.endsWith(typedEarly) ? typedEarly : "";
  const typed = isTyped ? text : early;
  if (typed) composer.begin(text.slice(0, -typed.length).replace(/\n$/, "")); // the rest isn't that user's
  const texts = [...takeNameless(), typed].filter(Boolean);
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
  sidebar.forget();
  count.clear();
}

/** Ask whose token comes with our requests, even if a proxy adds it, and become that user. */
export async function askForCaller() {
  const name = isCallerKnown ? undefined : await caller();
  if (name === undefined || isCallerKnown) return; // without an answer, it is asked for again
  isCallerKnown = true;
  if (!name || subject()) return; // another token may have been entered meanwhile
  $("user").readOnly = true;
  introduce(name);
}

/** Let the user sign in and out and, without a token, choose a name. */
export function followUser() {
  followToken(signIn, signOut);
  $("user").value = user;
  $("user").readOnly = Boolean(subject());
  const takeName = () => become($("user").value.trim());
  $("user").onchange = takeName;
  $("user").onkeydown = (event) => {
    if (event.key !== "Enter" || composes(event)) return;
    takeName(); // a program that fills in fields may cause no `change`
    composer.take(event);
  };
}

/** Put what was typed early into the box, after its draft. */
export function recallEarly() {
  if (typedEarly) composer.begin([composer.text, typedEarly].filter(Boolean).join("\n"));
}
