/** The token that says who chats, where the gateway wants one; kept until the tab is closed. */

const $ = (id) => document.getElementById(id);
let token = null;
try {
  token = sessionStorage.getItem("token");
} catch {
  // Storage is switched off; the token is then asked for after each reload.
}

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

/** `fetch` with the token. An answer that wants another one opens the dialog. */
export async function fetchAs(path, options) {
  const sent = token;
  const headers = { ...options.headers, ...(sent && { authorization: `Bearer ${sent}` }) };
  const response = await fetch(path, { ...options, headers });
  // Unless another was given meanwhile.
  const wanted = response.status === 401 && sent === token;
  if (wanted && !$("sign-in").open) $("sign-in").showModal();
  return response;
}

/** Call `onUser` with the user of each token that is given. */
export function followToken(onUser) {
  $("token").oninput = () => $("token").setCustomValidity("");
  $("sign-in-form").onsubmit = (event) => {
    event.preventDefault();
    const given = $("token").value.trim();
    if (!subjectOf(given)) {
      $("token").setCustomValidity("This is not a token that names a user.");
      $("token").reportValidity();
      return;
    }
    token = given;
    try {
      sessionStorage.setItem("token", token);
    } catch {
      // As above.
    }
    $("token").value = "";
    $("sign-in").close();
    onUser(subject());
  };
}
