/** The view of a message and its reply. */

import { $, copy, element, show } from "./markup.js";

/** By then, screen readers have picked up the text of an announcement. */
const SPOKEN_MS = 1000;
const TOOLS = new Map([["get_current_time", "Looked up the time"]]);

function button(text, onclick) {
  return element("button", { type: "button", className: "quiet", textContent: text, onclick });
}

/** One turn in the log: the message, and its reply while it is streamed. */
export class TurnView {
  /** `onAgain` is called to get another reply, `onEdit` to edit the message. */
  constructor({ id, text }, { onEdit, onAgain }) {
    this.id = id;
    /** Whether the server has stored it. */
    this.isKept = false;
    /** Whether the server may have stored it, or may be answering it. */
    this.isUnsure = false;
    /** Whether its text differs from the one that was sent first, which the server may have. */
    this.isCorrected = false;
    this.said = element("div", { className: "said", dir: "auto" });
    this.edit = button("Edit and resend", () => onEdit(this));
    this.tools = element("p", { className: "tools" });
    this.answer = element("div", { className: "said" });
    this.note = element("span", { className: "note" });
    this.copy = button("Copy", () => copy(this.reply, this.copy, this.answer));
    // A reply may come so soon that the button is back for the second click of a double click.
    this.again = button("Retry", ({ detail }) => detail < 2 && onAgain(this));
    this.again.classList.add("again");
    const question = element("article", { className: "mine", ariaLabel: "Your message" });
    question.append(this.said, element("div", { className: "actions" }, this.edit));
    this.article = element("article", { className: "reply", ariaLabel: "Reply" });
    this.actions = element("div", { className: "actions" }, this.note, this.copy, this.again);
    this.article.append(this.tools, this.answer, this.actions);
    this.element = element("div", { className: "turn" }, question, this.article);
    this.begin(text);
  }

  /** Wait for the reply. */
  begin(text) {
    this.text = text;
    /** The text that an edit has sent last, if its reply failed: the server may have it. */
    this.lost = null;
    this.said.textContent = text;
    this.reply = "";
    this.finished = 0;
    this.shown = "";
    this.article.ariaBusy = "true";
    this.tools.replaceChildren();
    this.answer.replaceChildren();
    this.answer.classList.add("coming");
    this.#finish("coming");
  }

  /** Have screen readers read the reply out. Their copy is removed soon, so that nobody finds the reply twice. */
  readOut() {
    $("status").textContent = "Reply complete.";
    const shown = this.answer.cloneNode(true);
    for (const bar of shown.querySelectorAll(".bar")) bar.remove();
    for (const cell of shown.querySelectorAll("td, th, br")) cell.after("\n");
    $("spoken").textContent = shown.textContent;
    setTimeout(() => ($("spoken").textContent = ""), SPOKEN_MS);
  }

  addText(text) {
    this.reply += text;
  }

  addTool(name) {
    const words = TOOLS.get(name) ?? `Used ${name.replaceAll("_", " ")}`;
    this.tools.append(element("span", { textContent: words }));
  }

  /** Show more of the reply: blocks that are finished, and the one that is still open. */
  update({ finished, open }) {
    this.finished = show(this.answer, this.finished, finished, open);
  }

  /** Show the turn as the server has stored it. */
  complete({ text = this.text, reply, reply_html: html, tools = [], stopped = false }) {
    const kept = { text, reply, reply_html: html, tools, stopped };
    const shown = JSON.stringify(kept);
    if (text === this.lost) this.lost = null;
    // Screen readers would read out again whatever is shown anew.
    if (shown === this.shown) return;
    this.shown = shown;
    this.isKept = true;
    this.isUnsure = this.isCorrected = false;
    if (text !== this.text) this.said.textContent = this.text = text;
    this.reply = reply;
    show(this.answer, 0, html);
    this.tools.replaceChildren();
    for (const name of tools) this.addTool(name);
    this.kept = kept;
    this.#finish(stopped ? "stopped" : "complete");
  }

  stopped() {
    this.#finish("stopped");
  }

  /** Show that it failed, or what the server had stored before. */
  failed() {
    if (this.kept) this.complete(this.kept);
    else this.#finish("failed");
  }

  /** Only the last turn, and those that failed, can be edited or answered again. */
  set isLast(last) {
    this.last = last;
    this.edit.hidden = this.again.hidden = this.state === "coming" || !(last || this.state === "failed");
  }

  #finish(state) {
    this.state = state;
    const failed = this.reply ? "Not complete." : "Not answered.";
    this.note.textContent = { stopped: "Stopped.", failed }[state] ?? "";
    this.again.textContent = { complete: "Regenerate", failed: "Send again" }[state] ?? "Retry";
    this.copy.hidden = state === "coming" || !this.reply;
    this.isLast = this.last ?? false;
    if (state === "coming") return;
    this.answer.classList.remove("coming");
    this.article.ariaBusy = "false";
  }
}
