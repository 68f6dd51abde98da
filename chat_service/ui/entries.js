/** The conversations in the list: how each looks, how it gets another title, and how it is deleted. */

import * as api from "./api.js";
import { replyIn } from "./coming.js";
import { $, element } from "./markup.js";
import { composes, losesFocus, tabs } from "./platform.js";
import { hideProblem } from "./problem.js";
import { forgetTexts } from "./texts.js";

const DELETING = "Being deleted…";
const WHEN = { month: "short", day: "numeric", hour: "numeric", minute: "2-digit" };

const sameYear = (time) => new Date(time).getFullYear() === new Date().getFullYear();

/** What is said of a conversation. One with `isComing`, even if it is false, has a message without a reply. */
function said(conversation) {
  const { update_time: time, turn_count: turns, isComing } = conversation;
  if ("isComing" in conversation) return isComing ? "Being answered…" : "Not answered";
  const when = new Date(time).toLocaleString([], sameYear(time) ? WHEN : { ...WHEN, year: "numeric" });
  return `\u2068${when}\u2069 · ${turns} ${turns === 1 ? "message" : "messages"}`;
}

function tool(className, textContent, ariaLabel, onclick) {
  const properties = { type: "button", textContent, ariaLabel, title: ariaLabel, onclick };
  return element("button", { ...properties, className: `${className} tool` });
}

export class Entries {
  /** Titles that are not stored yet: for each user, by conversation. */
  #titles = new Map();
  /** The conversations whose title is being sent. Until the answer comes, no other title is sent. */
  #sending = new Set();
  /** The conversations that are being deleted. */
  #deleting = new Set();

  constructor(list) {
    this.list = list;
  }

  /** The item of a conversation in the list. */
  make(conversation) {
    const { list } = this;
    const { session_id: session, title, update_time: time } = conversation;
    let about = said(conversation);
    if (this.#deleting.has(session)) about = DELETING;
    else if (this.unsent().has(session)) about = "New title not saved";
    const open = element("button", { type: "button", className: "open", onclick: () => list.onOpen(session) });
    open.append(
      element("span", { className: "title", dir: "auto", textContent: title }),
      element("small", { textContent: about }),
    );
    const rename = tool("rename", "✎", `Rename: ${title}`, () => this.#rename(item, conversation));
    const remove = tool("delete", "✕", `Delete: ${title}`, () => this.#ask(conversation));
    rename.hidden = !time;
    rename.disabled = this.#sending.has(session);
    const item = element("li", {}, open, rename, remove);
    item.dataset.session = session;
    return item;
  }

  /** The user's titles that are not stored yet, by conversation. */
  unsent(user = this.list.user) {
    if (!this.#titles.has(user)) this.#titles.set(user, new Map());
    return this.#titles.get(user);
  }

  /** Have the user edit a title, in its item of the list. */
  #rename(item, conversation) {
    const { session_id: session, title } = conversation;
    const value = this.unsent().get(session) ?? title;
    const field = element("input", { value, dir: "auto", maxLength: 200, required: true });
    field.ariaLabel = "Title";
    const form = element("form", {}, field);
    let done = false;
    const close = async (given) => {
      if (done) return;
      done = field.readOnly = true;
      if (given === title) this.#settle(session);
      else if (given) Object.assign(conversation, await this.#send(session, given));
      const fresh = this.make(conversation);
      const had = item.contains(document.activeElement);
      item.replaceWith(fresh);
      this.list.current = this.list.session;
      if (had) fresh.querySelector(".rename").focus();
      this.list.refresh(this.list.user);
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
      this.#settle(session, user);
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
    const unsent = [...this.unsent()].filter(([session]) => !this.#sending.has(session));
    await Promise.all(unsent.map((one) => this.#send(...one)));
    this.list.refresh(this.list.user);
  }

  /** Settle an unsent title that the server turns out to have stored: only its answer was lost. */
  settleStored({ session_id: session, title }) {
    if (!this.#sending.has(session) && this.unsent().get(session) === title) this.#settle(session);
  }

  /** Forget an unsent title: it is stored, or not wanted any more. */
  #settle(session, user) {
    this.unsent(user).delete(session);
    if (!this.unsent().size) hideProblem("title");
  }

  /** Ask the user whether to delete a conversation. */
  #ask({ session_id: session, title }) {
    const { list } = this;
    const dialog = $("ask-delete");
    const { user } = list;
    $("delete-what").textContent = title;
    dialog.returnValue = "";
    dialog.onclose = () => {
      // A refresh may have replaced the button to which the browser returns the focus. This event may come late,
      // when its user already writes elsewhere.
      if (losesFocus(dialog)) list.item(session)?.querySelector(".delete").focus();
      if (dialog.returnValue === "delete") this.#delete(user, session);
    };
    dialog.showModal();
  }

  async #delete(user, session) {
    const { list } = this;
    if (this.#deleting.has(session)) return;
    replyIn(session)?.stop(); // the server would wait for its end
    this.#deleting.add(session);
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
      this.#deleting.delete(session);
    }
    this.#settle(session, user);
    const item = list.item(session);
    const near = item?.nextElementSibling ?? item?.previousElementSibling;
    const had = item?.contains(document.activeElement);
    item?.remove();
    // The user may have begun to write meanwhile.
    if (had) (near?.querySelector(".open") ?? $("new")).focus();
    tabs.tell({ user, session, gone: true });
    hideProblem(`deletion ${session}`);
    if (session === list.session) list.onOpen(); // first, as leaving a conversation stores its draft
    forgetTexts(user, session);
    list.refresh(list.user);
  }
}
