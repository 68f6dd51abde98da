/** The box for writing messages. It stores a draft for each conversation, and for each message that is edited. */

import { maxTextLength } from "./api.js";
import { $ } from "./markup.js";
import { composes, forget, recall, remember, touch } from "./platform.js";

/** A text of this length may have a line that takes Chromium seconds, at each key, to lay out by its script. */
const VAST = 100_000;
/**
 * Stop and Send replace each other: a click this soon after the other's is the second one of a double click. And
 * Escape this soon after a reply's end was meant to stop the reply, not to cancel an edit.
 */
const DOUBLE_CLICK_MS = 500;
const isJustNow = (time) => performance.now() - time < DOUBLE_CLICK_MS;

class Composer {
  /** Called with a text, and with the turn whose message it replaces, if any. */
  onSend;
  onStop;

  constructor() {
    /** The most characters that can be sent. */
    this.most = Infinity;
    this.key = "";
    this.isBusy = false;
    this.sendClickedAt = this.stopClickedAt = this.freedAt = -Infinity;
    /** The turn that is being edited. */
    this.edited = null;
    /** What the page has filled the box with. */
    this.filled = "";
    $("composer").onsubmit = (event) => {
      event.preventDefault();
      if (!isJustNow(this.stopClickedAt)) this.send();
    };
    $("text").oninput = () => {
      this.#keep();
      this.#fit();
    };
    $("text").onkeydown = (event) => {
      if (event.key !== "Enter" || event.shiftKey || composes(event) || touch.matches) return;
      event.preventDefault();
      this.send();
    };
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || composes(event) || event.defaultPrevented) return;
      if (document.querySelector("dialog[open]")) return;
      if (this.isBusy) this.onStop();
      else if (document.activeElement === $("text") && !isJustNow(this.freedAt)) this.endEdit();
    });
    $("send").onclick = () => (this.sendClickedAt = performance.now());
    $("stop").onclick = () => {
      if (isJustNow(this.sendClickedAt)) return;
      this.stopClickedAt = performance.now();
      this.onStop();
    };
    $("cancel-edit").onclick = () => {
      this.endEdit();
      this.focus();
    };
  }

  focus() {
    $("text").focus();
  }

  /** Take the focus from a button that disappears; on a touch screen, don't open the keyboard over the reply. */
  rest() {
    if (touch.matches) $("log").focus({ preventScroll: true });
    else this.focus();
  }

  /** Take the focus with this event, e.g. an Enter, which would otherwise also insert a new line into the box. */
  take(event) {
    event.preventDefault();
    this.focus();
  }

  /** Ask how long a message may be; without an answer, again later. */
  async askForLimit() {
    if (this.most < Infinity) return;
    this.most = await maxTextLength();
    this.#fit();
  }

  /** Show the draft stored under `key`, and store there what is typed from now on. */
  open(key) {
    this.key = key;
    this.edited = null;
    this.#show(recall(key) ?? "");
  }

  /** Don't store what is typed again: another tab has deleted it. */
  disown() {
    this.filled = this.text;
  }

  /** Store the draft again if another tab has deleted it. */
  keepTyped() {
    if (this.key && this.isTyped && recall(this.#place) === null) this.#keep();
  }

  /** Store the draft under another key, once its conversation has an id. */
  move(key) {
    if (key === this.key) return;
    forget(this.key);
    this.key = key;
    if (!this.edited) this.#keep();
  }

  /** Whether the user is writing something that is not sent yet. */
  get isTyped() {
    return $("text").value !== this.filled;
  }

  get text() {
    return $("text").value;
  }

  /** Make this the draft. */
  begin(text) {
    this.#show(text);
    this.#keep();
  }

  /** Edit the turn's message, beginning with this text. */
  beginEdit(turn, text) {
    this.edited = turn;
    this.freedAt = -Infinity; // Escape is meant for this edit
    this.#show(text);
  }

  endEdit() {
    if (!this.edited) return;
    forget(this.#place);
    this.open(this.key);
  }

  set busy(busy) {
    if (this.isBusy && !busy) this.freedAt = performance.now();
    this.isBusy = busy;
    // A button that is hidden loses the focus.
    if (document.activeElement === (busy ? $("send") : $("stop"))) this.rest();
    $("send").hidden = busy;
    $("stop").hidden = !busy;
  }

  /** Send the text. If it can't be sent, it stays in the box. */
  send() {
    const text = $("text").value.toWellFormed(); // half an emoji would be refused
    if (this.isBusy || !text.trim() || this.#excess > 0) return;
    const { edited } = this;
    forget(this.#place);
    this.open(this.key);
    this.onSend(text, edited);
  }

  get #place() {
    return this.edited ? `${this.key} ${this.edited.id}` : this.key;
  }

  #keep() {
    if ($("text").value) remember(this.#place, $("text").value);
    else forget(this.#place);
  }

  #show(text) {
    $("editing").hidden = !this.edited;
    const keys = touch.matches ? "" : "keys "; // a touch screen's Enter starts a new line
    $("text").setAttribute("aria-describedby", `${this.edited ? "editing " : ""}${keys}limit`);
    $("text").value = text;
    this.filled = $("text").value; // with line feeds only
    this.#fit();
  }

  /** By how many characters the text is too long, counted as on the server. */
  get #excess() {
    const text = $("text").value;
    return text.length <= this.most ? 0 : [...text].length - this.most;
  }

  /** Make the box as high as its text, up to the limit in the style sheet. */
  #fit() {
    $("text").classList.toggle("vast", $("text").value.length > VAST);
    if (!CSS.supports("field-sizing", "content")) {
      const { scrollTop } = $("log"); // the box becomes low for a moment, and the log high
      $("text").style.height = "auto";
      const { scrollHeight, offsetHeight, clientHeight } = $("text");
      $("text").style.height = `${scrollHeight + offsetHeight - clientHeight}px`;
      $("log").scrollTop = scrollTop;
    }
    const excess = Math.max(0, this.#excess);
    const words = `${excess} ${excess === 1 ? "character" : "characters"} too many: at most ${this.most} can be sent.`;
    $("limit").textContent = excess ? words : "";
    $("text").ariaInvalid = excess ? "true" : null;
  }
}

export const composer = new Composer();
