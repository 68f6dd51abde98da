/** The list of past conversations, and the search in them; on narrow screens, a drawer. */

import * as api from "./api.js";
import { hasFailed } from "./coming.js";
import { Entries } from "./entries.js";
import { $ } from "./markup.js";
import { composes } from "./platform.js";
import { hasProblem, hideProblem, showProblem } from "./problem.js";
import { unanswered } from "./texts.js";

const narrow = matchMedia("(max-width: 45rem)");
const TYPING_MS = 250;
/** A click takes less time. If the button is released elsewhere, that may never be reported. */
const HELD_MS = 1000;

/** Whether the drawer is open. */
const isOpen = () => $("drawer-button").ariaExpanded === "true";

export function toggleDrawer(open) {
  const wasOpen = isOpen();
  $("drawer-button").ariaExpanded = String(open);
  document.body.classList.toggle("drawer-open", open);
  $("backdrop").hidden = !open;
  $("main").inert = open;
  if (open) $("new").focus();
  else if (wasOpen) $("drawer-button").focus();
}

$("drawer-button").onclick = () => toggleDrawer(!isOpen());
$("backdrop").onclick = () => toggleDrawer(false);
narrow.onchange = () => toggleDrawer(false);
document.body.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || composes(event) || event.defaultPrevented) return;
  if (document.querySelector("dialog[open]")) return;
  // Here Escape closes the drawer or clears the search. It must not stop a reply, too.
  if (isOpen() || event.target === $("search")) event.stopPropagation();
  if (isOpen()) toggleDrawer(false);
});

class Sidebar {
  /** Called to show a conversation or, without an id, a new one. */
  onOpen;
  /** Called if the list can't be loaded. */
  onNoList;

  constructor() {
    this.user = "";
    this.next = "";
    this.filter = "";
    this.loads = 0;
    /** The latest load that the user has asked for, as a promise. */
    this.asked = undefined;
    this.entries = new Entries(this);
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
    let typing;
    $("search").oninput = () => {
      clearTimeout(typing);
      typing = setTimeout(() => this.#search(), TYPING_MS);
    };
    $("search").onkeydown = (event) => {
      if (event.key !== "Escape" || composes(event)) return;
      // Firefox leaves the text there. Other browsers have cleared it by then, and can undo that.
      setTimeout(() => {
        if (!$("search").value) return;
        $("search").value = "";
        $("search").oninput();
      });
    };
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

  /** Forget what the user has left here, too. */
  forget() {
    this.entries.unsent().clear();
    this.clear();
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
      hideProblem("list");
      return page;
    } catch (error) {
      if (mine === this.loads) this.#failed(error, retry, isAsked);
      return null;
    }
  }

  #failed(error, retry, isAsked) {
    this.onNoList();
    if (isAsked) this.report(error, retry, "list");
    // Any other problem matters more. The list is reloaded after each message.
    else if (!hasProblem("list")) showProblem(error, retry, "list");
  }

  report(error, retry, of) {
    toggleDrawer(false); // it covers the problem on narrow screens
    showProblem(error, retry, of);
  }

  #show({ conversations, next }, anew) {
    // A refresh must keep the focus in the list.
    const focus = document.activeElement;
    const item = focus.closest("#conversations > li");
    const waiting = unanswered();
    const items = conversations.map((one) => {
      const isComing = waiting.get(one.session_id)?.isComing;
      waiting.delete(one.session_id);
      this.entries.settleStored(one);
      return this.entries.make(isComing || hasFailed(one.session_id) ? { ...one, isComing } : one);
    });
    if (anew && !this.filter) items.unshift(...[...waiting.values()].map((one) => this.entries.make(one)));
    if (anew) {
      $("conversations").replaceChildren(...items);
      this.count = 0;
    } else {
      // Some may be shown already, because of an unanswered message.
      conversations.forEach((one) => this.item(one.session_id)?.remove());
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

  /** The conversation's item in the list, if it is there. */
  item(session) {
    return $("conversations").querySelector(`[data-session="${session}"]`);
  }
}

export const sidebar = new Sidebar();
