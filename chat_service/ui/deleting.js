/** Deleting a conversation, once the user has confirmed it. */

import * as api from "./api.js";
import { replyIn } from "./coming.js";
import { $ } from "./markup.js";
import { losesFocus } from "./platform.js";

export const DELETING = "Being deleted…";

export class Deleting {
  /** The conversations that are being deleted. */
  #running = new Set();

  constructor(list) {
    this.list = list;
  }

  isRunning(session) {
    return this.#running.has(session);
  }

  /** Ask the user whether to delete a conversation. */
  ask({ session_id: session, title }) {
    const dialog = $("ask-delete");
    const { user } = this.list;
    $("delete-what").textContent = title;
    dialog.returnValue = "";
    dialog.onclose = () => {
      // A refresh may have replaced the button to which the browser returns the focus. This event may come late,
      // when its user already writes elsewhere.
      if (losesFocus(dialog)) this.list.item(session)?.querySelector(".delete").focus();
      if (dialog.returnValue === "delete") this.#delete(user, session);
    };
    dialog.showModal();
  }

  async #delete(user, session) {
    const { list } = this;
    if (this.isRunning(session)) return;
    replyIn(session)?.stop(); // the server would wait for its end
    this.#running.add(session);
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
        list.report(error, () => this.#delete(user, session), `deletion ${session}`);
        list.refresh(user); // its reply was stopped
        return;
      }
    } finally {
      this.#running.delete(session);
    }
    list.drop(user, session);
  }
}
