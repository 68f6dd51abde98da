/** The token that says who chats, where the gateway wants one; kept until the tab is closed. */

import { TAB, forget, recall, remember } from "./platform.js";

const $ = (id) => document.getElementById(id);
// Where storage is switched off, it is asked for after each reload.
let token = recall("token", TAB);

/** Whom a token names; null if it is none. Whether it is genuine is the gateway's to say. */
function subjectOf(jwt) {
  try {
    const payload = atob(jwt.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"));
    const bytes = Uint8Array.from(payload, (char) => char.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes)).sub || null;
  } catch {
    return null;
  }
}

/** The user that the token names; null without one. */
export const subject = () => token && subjectOf(token);

const ROOT = new URL("../", import.meta.url);

/** `fetch` with the token, of a path below the gateway's, wherever a proxy has put that. An answer that wants another one opens the dialog. */
export async function fetchAs(path, options) {
  const sent = token;
  const headers = { ...options.headers, ...(sent && { authorization: `Bearer ${sent}` }) };
  const response = await fetch(new URL(path, ROOT), { ...options, headers });
  // Unless another was given meanwhile.
  const wanted = response.status === 401 && sent === token;
  if (wanted) ask();
  return response;
}

function ask() {
  $("sign-out").hidden = true;
  if (!$("sign-in").open) $("sign-in").showModal();
}

function keep(given) {
  token = given;
  if (given) remember("token", given, TAB);
  else forget("token", TAB);
}

/** Call `onUser` with the user of each token that is given, and `onOut` when it is given up. */
export function followToken(onUser, onOut) {
  $("sign-out").hidden = !token;
  $("sign-out").onclick = () => {
    keep(null);
    onOut();
    ask();
  };
  $("token").oninput = () => $("token").setCustomValidity("");
  $("sign-in-form").onsubmit = (event) => {
    event.preventDefault();
    const given = $("token").value.trim();
    if (!subjectOf(given)) {
      $("token").setCustomValidity("This is not a token that names a user.");
      $("token").reportValidity();
      return;
    }
    keep(given);
    $("token").value = "";
    $("sign-in").close();
    $("sign-out").hidden = false;
    onUser(subject());
  };
}
