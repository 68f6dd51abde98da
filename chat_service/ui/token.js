/** The token that identifies the user, if the gateway requires one; kept until the tab is closed. */

import { $ } from "./markup.js";
import { TAB, forget, recall, remember } from "./platform.js";

const WANTED = $("sign-in-why").textContent;
const REFUSED = "The service does not accept this token, or no longer does. It may have expired: enter another one.";
// If storage is disabled, the user must enter it after each reload.
let token = recall("token", TAB);

/** The user that a token names; null if it isn't a token. The gateway verifies it, not the page. */
function subjectOf(jwt) {
  try {
    const payload = atob(jwt.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"));
    const bytes = Uint8Array.from(payload, (char) => char.charCodeAt(0));
    const { sub } = JSON.parse(new TextDecoder().decode(bytes));
    const fits = /^[!-~]+$/.test(jwt); // a header can hold it
    return (fits && typeof sub === "string" && sub) || null;
  } catch {
    return null;
  }
}

/** The user that the current token names; null without one. */
export const subject = () => token && subjectOf(token);

const ROOT = new URL("../", import.meta.url);

/** Whether it is the service's own answer, and not that of a proxy in front of it. */
export const isOurs = (response) => Boolean(response.headers.get("content-type")?.startsWith("application/problem+json"));

/**
 * `fetch` a path below the gateway's root, wherever a proxy has put that, with the token. If the service answers
 * 401, open the dialog. A redirect, which the service never makes, is not followed, and has status 0.
 */
export async function fetchAs(path, options) {
  const sent = token;
  const headers = { ...options.headers, ...(sent && { authorization: `Bearer ${sent}` }) };
  const response = await fetch(new URL(path, ROOT), { ...options, headers, redirect: "manual" });
  // Unless another token was entered in the meantime.
  const wanted = response.status === 401 && isOurs(response) && sent === token;
  if (wanted) ask(sent);
  return response;
}

function ask(refused) {
  $("sign-in-why").textContent = refused ? REFUSED : WANTED;
  $("sign-out").hidden = true;
  if (!$("sign-in").open) $("sign-in").showModal();
}

function keep(given) {
  token = given;
  if (given) remember("token", given, TAB);
  else forget("token", TAB);
}

/** Call `onUser` with the user of each new token, and `onOut` on signing out. */
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
