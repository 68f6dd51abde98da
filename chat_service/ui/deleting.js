/** Deleting a conversation, once the user has confirmed it. */

import * as api from "./api.js";
import { replyIn } from "./coming.js";
import { $ } from "./markup.js";
import { losesFocus } from "./platform.js";

export const DELETING = "Being deleted…";
/** The conversations that are being deleted. */
const deleting = new Set();
export const isDeleting = (session) => deleting.has(session);

/** Ask the user whether to delete a conversation of this list. */
export function askToDelete(list, { session_id: session, title }) {
  const dialog = $("ask-delete");
  const { user } = list;
  $("delete-what").textContent = title;
  dialog.returnValue = "";
  dialog.onclose = () => {
    // A refresh may have replaced the button to which the browser returns the focus. This event may come late,
    // when its user already writes elsewhere.
    if (losesFocus(dialog)) list.item(session)?.querySelector(".delete").focus();
    if (dialog.returnValue === "delete") remove(list, user, session);
  };
  dialog.showModal();
}

async function remove(list, user, session) {
  if (isDeleting(session)) return;
  replyIn(session)?.stop(); // the server would wait for its end
  deleting.add(session);
  const about = () => list.item(session)?.querySelector("small") ?? {};
  const before = about().textContent;
  about().textContent = DELETING;
  try {
    await api.remove(user, session);
  } catch (error) {
    // It may have been deleted already, in another tab.
    if (!error.isNotFound) {
      about().textContent = before;
      if (user !== list.user) return;
      list.report(error, () => remove(list, user, session), `deletion ${session}`);
      list.refresh(user); // its reply was stopped
      return;
    }
  } finally {
    deleting.delete(session);
  }
  list.drop(user, session);
}
