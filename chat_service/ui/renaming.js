/** New titles of conversations: the field for one, and those that the server may not have yet. */

import * as api from "./api.js";
import { element } from "./markup.js";
import { composes, tabs } from "./platform.js";
import { hideProblem } from "./problem.js";

export class Renaming {
  /** Titles that are not stored yet: for each user, by conversation. */
  #titles = new Map();
  /** The conversations whose title is being sent. Until the answer comes, no other title is sent. */
  #sending = new Set();

  constructor(list) {
    this.list = list;
  }

  /** The user's titles that are not stored yet, by conversation. */
  unsent(user = this.list.user) {
    if (!this.#titles.has(user)) this.#titles.set(user, new Map());
    return this.#titles.get(user);
  }

  isSending(session) {
    return this.#sending.has(session);
  }

  /** Have the user edit a title, in its item of the list. */
  edit(item, conversation) {
    const { session_id: session, title } = conversation;
    const value = this.unsent().get(session) ?? title;
    const field = element("input", { value, dir: "auto", maxLength: 200, required: true });
    field.ariaLabel = "Title";
    const form = element("form", {}, field);
    let done = false;
    const close = async (given) => {
      if (done) return;
      done = field.readOnly = true;
      if (given === title) this.settle(session);
      else if (given) Object.assign(conversation, await this.#send(session, given));
      this.list.replace(item, conversation);
    };
    form.onsubmit = (event) => {
      event.preventDefault();
      close(field.value.trim());
    };
    field.onkeydown = (event) => {
      if (event.key !== "Escape" || composes(event)) return;
      event.preventDefault();
      close(title);
    };
    field.onblur = async () => {
      await this.list.released; // what is below moves up, and a click on it would be lost
      close(field.value === value ? "" : field.value.trim());
    };
    item.replaceChildren(form);
    field.select();
  }

  /** Send a title. Returns the renamed conversation; null if that failed, or if the user has changed. */
  async #send(session, title) {
    const { list } = this;
    const { user } = list;
    const unsent = this.unsent(user);
    unsent.set(session, title);
    this.#sending.add(session);
    const button = list.item(session)?.querySelector(".rename");
    if (button) button.disabled = true;
    try {
      const renamed = await api.rename(user, session, title);
      this.settle(session, user);
      tabs.tell({ user, session });
      return user === list.user ? renamed : null;
    } catch (error) {
      const wasDeleted = !unsent.has(session);
      if (error.isNotFound) unsent.delete(session);
      // A user who has left sees on return that the title was not saved.
      if (user === list.user && !wasDeleted) list.report(error, () => this.#sendAgain(), "title");
      return null;
    } finally {
      this.#sending.delete(session);
    }
  }

  async #sendAgain() {
    const unsent = [...this.unsent()].filter(([session]) => !this.isSending(session));
    await Promise.all(unsent.map((one) => this.#send(...one)));
    this.list.refresh(this.list.user);
  }

  /** Settle an unsent title that the server turns out to have stored: only its answer was lost. */
  settleStored({ session_id: session, title }) {
    if (!this.isSending(session) && this.unsent().get(session) === title) this.settle(session);
  }

  /** Forget an unsent title: it is stored, or not wanted any more. */
  settle(session, user) {
    this.unsent(user).delete(session);
    if (!this.unsent().size) hideProblem("title");
  }
}
