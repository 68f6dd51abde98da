/** The list of past conversations, which is a drawer on narrow screens. */

import * as api from "./api.js";
import { element } from "./turns.js";

const $ = (id) => document.getElementById(id);
const narrow = matchMedia("(max-width: 45rem)");

export class Sidebar {
  constructor({ onOpen, onProblem }) {
    this.onOpen = onOpen;
    this.onProblem = onProblem;
    this.user = "";
    this.pageToken = "";
    $("more").onclick = () => this.#load(this.pageToken);
    $("drawer-button").onclick = () => this.toggle($("drawer-button").ariaExpanded !== "true");
    $("backdrop").onclick = () => this.toggle(false);
    $("sidebar").addEventListener("keydown", (event) => {
      if (event.key === "Escape" && narrow.matches) this.toggle(false);
    });
    narrow.onchange = () => this.toggle(false);
  }

  toggle(open) {
    const wasOpen = $("drawer-button").ariaExpanded === "true";
    $("drawer-button").ariaExpanded = String(open);
    document.body.classList.toggle("drawer-open", open);
    $("backdrop").hidden = !open;
    $("main").inert = open;
    if (open) $("new").focus();
    else if (wasOpen) $("drawer-button").focus();
  }

  /** Show the latest conversations of `user`. */
  async refresh(user) {
    if (user !== this.user) this.#clear();
    this.user = user;
    await this.#load("");
  }

  /** Mark the conversation that is shown. */
  set current(session) {
    this.session = session;
    for (const link of $("conversations").querySelectorAll("button")) {
      link.ariaCurrent = link.dataset.session === session ? "true" : null;
    }
  }

  #clear() {
    $("conversations").replaceChildren();
    $("no-conversations").hidden = true;
    $("more").hidden = true;
  }

  async #load(token) {
    const user = this.user;
    let page;
    try {
      page = await api.conversations(user, token);
    } catch (error) {
      if (user === this.user) this.onProblem(error, () => this.#load(token));
      return;
    }
    if (user !== this.user) return;
    // A refresh must not take the focus away from the list.
    const focused = document.activeElement?.dataset.session;
    if (!token) this.#clear();
    $("conversations").append(...page.conversations.map((one) => this.#item(one)));
    this.pageToken = page.next_page_token;
    $("more").hidden = !this.pageToken;
    $("no-conversations").hidden = $("conversations").children.length > 0;
    this.current = this.session;
    if (focused) $("conversations").querySelector(`[data-session="${focused}"]`)?.focus();
  }

  #item({ session_id: session, title, update_time: time, turn_count: turns }) {
    const when = new Date(time).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    const size = `${turns} ${turns === 1 ? "message" : "messages"}`;
    const link = element("button", { type: "button", onclick: () => this.onOpen(session) });
    link.append(
      element("span", { className: "title", textContent: title }),
      element("small", { textContent: `${when} · ${size}` }),
    );
    link.dataset.session = session;
    return element("li", {}, link);
  }
}
