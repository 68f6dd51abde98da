/** The box for writing messages. It keeps a draft for each conversation. */

import { composes, forget, recall, remember } from "./platform.js";

const $ = (id) => document.getElementById(id);
const touch = matchMedia("(hover: none) and (pointer: coarse)");
const ROWS = 8;
/** Stop replaces Send. A click so soon after Send's is the second one of a double click. */
const DOUBLE_CLICK_MS = 500;

export class Composer {
  constructor({ onSend, onEdit, onCancel, onStop }) {
    this.onSend = onSend;
    this.onEdit = onEdit;
    this.onCancel = onCancel;
    this.onStop = onStop;
    this.most = Infinity;
    this.key = "";
    this.isBusy = false;
    this.sendClickedAt = -Infinity;
    /** The turn that is being edited. */
    this.edited = null;
    $("composer").onsubmit = (event) => {
      event.preventDefault();
      this.send();
    };
    $("text").oninput = () => {
      if (this.edited) this.onEdit(this.edited, $("text").value);
      else this.#keep();
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
      else if (document.activeElement === $("text")) this.#cancel();
    });
    $("send").onclick = () => (this.sendClickedAt = performance.now());
    $("stop").onclick = () => {
      if (performance.now() - this.sendClickedAt > DOUBLE_CLICK_MS) this.onStop();
    };
    $("cancel-edit").onclick = () => {
      this.#cancel();
      this.focus();
    };
  }

  focus() {
    $("text").focus();
  }

  /** The most characters that can be sent. */
  set limit(limit) {
    this.most = limit;
    this.#fit();
  }

  /** Show the draft stored under `key`, and store there what is typed from now on. */
  open(key) {
    this.key = key;
    this.edited = null;
    this.#show(recall(key) ?? "");
  }

  /** Store the draft under another key, once its conversation has an id. */
  move(key) {
    if (key === this.key) return;
    forget(this.key);
    this.key = key;
    if (!this.edited) this.#keep();
  }

  beginEdit(turn, text = turn.text) {
    this.edited = turn;
    this.#show(text);
    this.focus();
  }

  /** Returns a function that tells whether its user has changed the box since. */
  typing() {
    const [edited, text] = [this.edited, $("text").value];
    return () => edited !== this.edited || text !== $("text").value;
  }

  endEdit() {
    if (this.edited) this.open(this.key);
  }

  #cancel() {
    if (this.edited) this.onCancel(this.edited);
    this.endEdit();
  }

  set busy(busy) {
    this.isBusy = busy;
    if (!busy && document.activeElement === $("stop")) this.focus();
    $("send").hidden = busy;
    $("stop").hidden = !busy;
  }

  /** Send the text. If it can't be sent, it stays in the box. */
  send() {
    const text = $("text").value;
    if (this.isBusy || !text.trim() || this.#excess > 0) return;
    const { edited } = this;
    this.edited = null;
    if (edited) {
      this.#show(recall(this.key) ?? "");
    } else {
      forget(this.key);
      this.#show("");
    }
    this.onSend(text, edited);
  }

  #keep() {
    if ($("text").value) remember(this.key, $("text").value);
    else forget(this.key);
  }

  #show(text) {
    $("editing").hidden = !this.edited;
    $("text").value = text;
    this.#fit();
  }

  /** By how many characters the text is too long, counted as on the server. */
  get #excess() {
    const text = $("text").value;
    return text.length <= this.most ? 0 : [...text].length - this.most;
  }

  /** Make the box as high as its text, up to the limit in the style sheet. */
  #fit() {
    $("text").rows = Math.min($("text").value.split("\n").length, ROWS);
    const excess = Math.max(0, this.#excess);
    const words = `${excess} ${excess === 1 ? "character" : "characters"} too many: at most ${this.most} can be sent.`;
    $("limit").textContent = excess ? words : "";
    $("text").ariaInvalid = excess ? "true" : null;
  }
}
