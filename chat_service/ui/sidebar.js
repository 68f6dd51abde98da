/** The list of past conversations; on narrow screens, a drawer. */

import * as api from "./api.js";
import { element } from "./markup.js";
import { composes, losesFocus } from "./platform.js";

const $ = (id) => document.getElementById(id);
const narrow = matchMedia("(max-width: 45rem)");
const TYPING_MS = 250;
/** A click takes less time. If the button is released elsewhere, that may never be reported. */
const HELD_MS = 1000;
const DELETING = "Being deleted…";
const WHEN = { month: "short", day: "numeric", hour: "numeric", minute: "2-digit" };

const sameYear = (time) => new Date(time).getFullYear() === new Date().getFullYear();

export class Sidebar {
  constructor({ unanswered, hasFailed, onOpen, onDelete, onChange, onProblem, onTitles, onLoadProblem, onLoad }) {
    this.unanswered = unanswered;
    this.hasFailed = hasFailed;
    this.onOpen = onOpen;
    this.onDelete = onDelete;
    this.onChange = onChange;
    this.onProblem = onProblem;
    this.onTitles = onTitles;
    this.onLoadProblem = onLoadProblem;
    this.onLoad = onLoad;
    this.user = "";
    this.next = "";
    this.filter = "";
    this.loads = 0;
    /** The latest load that the user has asked for, as a promise. */
    this.asked = undefined;
    /** Titles that are not stored yet: for each user, by conversation. */
    this.titles = new Map();
    /** The conversations whose title is being sent. Until the answer comes, no other title is sent. */
    this.sending = new Set();
    /** The conversations that are being deleted. */
    this.deleting = new Set();
    /** How many of the shown conversations the server has listed. */
    this.count = 0;
    /** Settled once no button of the mouse is held down in the sidebar. */
    this.released = Promise.resolve();
    $("sidebar").onpointerdown = () => {
      this.released = new Promise((resolve) => {
        document.addEventListener("pointerup", () => setTimeout(resolve), { once: true });
        setTimeout(resolve, HELD_MS);
      });
    };
    $("more").onclick = () => this.#more();
    $("drawer-button").onclick = () => this.toggle(!this.#isOpen);
    $("backdrop").onclick = () => this.toggle(false);
    document.body.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || composes(event) || event.defaultPrevented) return;
      if (document.querySelector("dialog[open]")) return;
      // Here Escape closes the drawer or clears the search. It must not stop a reply, too.
      if (this.#isOpen || event.target === $("search")) event.stopPropagation();
      if (this.#isOpen) this.toggle(false);
    });
    let typing;
    $("search").oninput = () => {
      clearTimeout(typing);
      typing = setTimeout(() => this.#search(), TYPING_MS);
    };
    narrow.onchange = () => this.toggle(false);
  }

  /** Whether the drawer is open. */
  get #isOpen() {
    return $("drawer-button").ariaExpanded === "true";
  }

  toggle(open) {
    const wasOpen = this.#isOpen;
    $("drawer-button").ariaExpanded = String(open);
    document.body.classList.toggle("drawer-open", open);
    $("backdrop").hidden = !open;
    $("main").inert = open;
    if (open) $("new").focus();
    else if (wasOpen) $("drawer-button").focus();
  }

  /** Show the latest conversations of `user`, at least as many as are shown now. */
  async refresh(user) {
    if (user !== this.user) this.clear();
    // A title is being edited. The list is refreshed afterwards.
    else if (this.isNaming) return;
    this.user = user;
    // A refresh would overtake a load that the user has asked for.
    let seen;
    while (seen !== this.asked) await (seen = this.asked);
    if (user !== this.user || this.isNaming) return;
    const page = await this.#load({ least: this.count || 1 }, () => this.refresh(user));
    if (page && !this.isNaming) this.#show(page, true);
    else if (user === this.user && seen !== this.asked) this.refresh(user); // that load has overtaken this one
  }

  get unsentTitles() {
    if (!this.titles.has(this.user)) this.titles.set(this.user, new Map());
    return this.titles.get(this.user);
  }

  get isNaming() {
    return $("conversations").querySelector("form") !== null;
  }

  /** Mark the conversation that is shown. */
  set current(session) {
    this.session = session;
    for (const item of $("conversations").children) {
      const isShown = item.dataset.session === session;
      item.querySelector(".open")?.setAttribute("aria-current", String(isShown));
    }
  }

  clear() {
    this.user = this.filter = $("search").value = "";
    this.loads++;
    this.asked = undefined;
    this.count = 0;
    $("conversations").replaceChildren();
    $("no-conversations").hidden = true;
    $("more").hidden = true;
  }

  #search() {
    this.filter = $("search").value.trim();
    const show = (page) => {
      this.#show(page, true);
      const { length } = page.conversations;
      if (!this.filter || !length) return; // "Nothing found." is read out where it stands
      const found = `${length} ${length === 1 ? "conversation" : "conversations"} found`;
      $("status").textContent = page.next ? `${found}, and more.` : `${found}.`;
    };
    this.#ask({}, show, () => this.#search());
  }

  #more() {
    const show = (page) => {
      const had = document.activeElement === $("more");
      this.#show(page, false);
      if (had && $("more").hidden) $("conversations").lastElementChild?.querySelector(".open").focus();
    };
    this.#ask({ token: this.next }, show, () => this.#more());
  }

  #ask(query, show, retry) {
    const load = async () => {
      const page = await this.#load({ ...query, isAsked: true }, retry);
      // A title is being edited. The list is refreshed afterwards.
      if (page && !this.isNaming) show(page);
    };
    this.asked = load().catch(console.error);
  }

  /** Only the latest load counts. The results of earlier ones are dropped. */
  async #load({ isAsked = false, ...query }, retry) {
    const mine = ++this.loads;
    try {
      const page = await api.conversations(this.user, { filter: this.filter, ...query });
      await this.released; // a click is lost if its target is replaced meanwhile
      if (mine !== this.loads) return null;
      this.onLoad();
      return page;
    } catch (error) {
      if (mine === this.loads) this.onLoadProblem(error, retry, isAsked);
      return null;
    }
  }

  #show({ conversations, next }, anew) {
    // A refresh must keep the focus in the list.
    const focus = document.activeElement;
    const item = focus.closest("#conversations > li");
    const unanswered = new Map(this.unanswered().map((one) => [one.session_id, one]));
    const items = conversations.map((one) => {
      const isComing = unanswered.get(one.session_id)?.isComing;
      unanswered.delete(one.session_id);
      this.#settleStored(one);
      return this.#item(isComing || this.hasFailed(one.session_id) ? { ...one, isComing } : one);
    });
    if (anew && !this.filter) items.unshift(...[...unanswered.values()].map((one) => this.#item(one)));
    if (anew) {
      $("conversations").replaceChildren(...items);
      this.count = 0;
    } else {
      // Some may be shown already, because of an unanswered message.
      conversations.forEach((one) => this.#listed(one.session_id)?.remove());
      $("conversations").append(...items);
    }
    this.count += conversations.length;
    this.next = next;
    $("more").hidden = !next;
    $("no-conversations").hidden = $("conversations").children.length > 0;
    $("no-conversations").textContent = this.filter ? "Nothing found." : "No conversations yet.";
    this.current = this.session;
    if (!item || document.activeElement === focus) return;
    const selector = `[data-session="${item.dataset.session}"] .${focus.className.split(" ")[0]}`;
    ($("conversations").querySelector(selector) ?? $("new")).focus({ preventScroll: true });
  }

  #listed(session) {
    return $("conversations").querySelector(`[data-session="${session}"]`);
  }

  #item(conversation) {
    const { session_id: session, title, update_time: time, turn_count: turns } = conversation;
    let about = conversation.isComing ? "Being answered…" : "Not answered";
    if (this.deleting.has(session)) about = DELETING;
    else if (this.unsentTitles.has(session)) about = "New title not saved";
    else if (!("isComing" in conversation)) {
      const when = new Date(time).toLocaleString([], sameYear(time) ? WHEN : { ...WHEN, year: "numeric" });
      about = `\u2068${when}\u2069 · ${turns} ${turns === 1 ? "message" : "messages"}`;
    }
    const open = element("button", { type: "button", className: "open" });
    open.onclick = () => this.onOpen(session);
    open.append(
      element("span", { className: "title", dir: "auto", textContent: title }),
      element("small", { textContent: about }),
    );
    const rename = this.#tool("rename", "✎", `Rename: ${title}`, () => this.#rename(item, conversation));
    const remove = this.#tool("delete", "✕", `Delete: ${title}`, () => this.#delete(conversation));
    rename.hidden = !time;
    rename.disabled = this.sending.has(session);
    const item = element("li", {}, open, rename, remove);
    item.dataset.session = session;
    return item;
  }

  #tool(className, textContent, ariaLabel, onclick) {
    const properties = { type: "button", textContent, ariaLabel, title: ariaLabel, onclick };
    return element("button", { ...properties, className: `${className} tool` });
  }

  #rename(item, conversation) {
    const { session_id: session, title } = conversation;
    const value = this.unsentTitles.get(session) ?? title;
    const field = element("input", { value, dir: "auto", maxLength: 200, required: true });
    field.ariaLabel = "Title";
    const form = element("form", {}, field);
    let done = false;
    const close = async (given) => {
      if (done) return;
      done = field.readOnly = true;
      if (given === title) this.#settle(session);
      else if (given) Object.assign(conversation, await this.#send(session, given));
      const fresh = this.#item(conversation);
      const had = item.contains(document.activeElement);
      item.replaceWith(fresh);
      this.current = this.session;
      if (had) fresh.querySelector(".rename").focus();
      this.refresh(this.user);
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
      await this.released; // what is below moves up, and a click on it would be lost
      close(field.value === value ? "" : field.value.trim());
    };
    item.replaceChildren(form);
    field.select();
  }

  /** Send a title. Returns the renamed conversation; null if that failed, or if the user has changed. */
  async #send(session, title) {
    const { user, unsentTitles } = this;
    unsentTitles.set(session, title);
    this.sending.add(session);
    const button = this.#listed(session)?.querySelector(".rename");
    if (button) button.disabled = true;
    try {
      const renamed = await api.rename(user, session, title);
      this.#settle(session, unsentTitles);
      this.onChange(user, session, false);
      return user === this.user ? renamed : null;
    } catch (error) {
      const wasDeleted = !unsentTitles.has(session);
      if (error.isNotFound) unsentTitles.delete(session);
      // A user who has left sees on return that the title was not saved.
      if (user === this.user && !wasDeleted) this.onProblem(error, () => this.#sendAgain(), "title");
      return null;
    } finally {
      this.sending.delete(session);
    }
  }

  async #sendAgain() {
    const unsent = [...this.unsentTitles].filter(([session]) => !this.sending.has(session));
    await Promise.all(unsent.map((one) => this.#send(...one)));
    this.refresh(this.user);
  }

  /** Settle an unsent title that the server turns out to have stored: only its answer was lost. */
  #settleStored({ session_id: session, title }) {
    if (!this.sending.has(session) && this.unsentTitles.get(session) === title) this.#settle(session);
  }

  /** Forget an unsent title: it is stored, or not wanted any more. */
  #settle(session, unsentTitles = this.unsentTitles) {
    unsentTitles.delete(session);
    if (!this.unsentTitles.size) this.onTitles();
  }

  #delete({ session_id: session, title }) {
    const dialog = $("ask-delete");
    $("delete-what").textContent = title;
    dialog.returnValue = "";
    const { user, unsentTitles } = this;
    const remove = async () => {
      if (this.deleting.has(session)) return;
      this.onDelete(session);
      this.deleting.add(session);
      const about = () => this.#listed(session)?.querySelector("small") ?? {};
      const before = about().textContent;
      about().textContent = DELETING;
      try {
        await api.remove(user, session);
      } catch (error) {
        // It may have been deleted already, in another tab.
        if (!error.isNotFound) {
          about().textContent = before;
          if (user !== this.user) return;
          this.onProblem(error, remove, `deletion ${session}`);
          this.refresh(user); // its reply was stopped
          return;
        }
      } finally {
        this.deleting.delete(session);
      }
      this.#settle(session, unsentTitles);
      const item = this.#listed(session);
      const near = item?.nextElementSibling ?? item?.previousElementSibling;
      const had = item?.contains(document.activeElement);
      item?.remove();
      // The user may have begun to write meanwhile.
      if (had) (near?.querySelector(".open") ?? $("new")).focus();
      this.onChange(user, session, true);
      this.refresh(this.user);
    };
    dialog.onclose = () => {
      // A refresh may have replaced the button to which the browser returns the focus. This event may come late,
      // when its user already writes elsewhere.
      if (losesFocus(dialog)) this.#listed(session)?.querySelector(".delete").focus();
      if (dialog.returnValue === "delete") remove();
    };
    dialog.showModal();
  }
}
