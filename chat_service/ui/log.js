/** The messages of the conversation that is shown, and the scroll position in them. */

import { $, copy } from "./markup.js";
import { TurnView } from "./turns.js";

/** Whoever scrolls down this near to the end wants to see it. */
const NEAR_PX = 40;
/** Whoever is this near to the end has not scrolled up: a zoomed page has fractions of pixels. */
const END_PX = 2;
/** Where a UUID has its version. */
const VERSION = 14;

/** Where a message belongs: before the first that is later. The ids of this page begin with the time. */
function placeOf(id, turns) {
  const later = turns.findIndex((turn) => turn.id[VERSION] === "7" && turn.id > id);
  return later < 0 ? turns.length : later;
}

class Log {
  constructor() {
    /** What the buttons of messages do: `onEdit(turn)` and `onAgain(turn)`. */
    this.actions = {};
    this.turns = [];
    this.element = $("log");
    /** Whether its user wants to see the end. */
    this.follows = true;
    this.height = this.top = 0;
    /** The end before a change that isn't on the screen yet: whoever scrolls there wants to see the end. */
    this.seenEnd = null;
    /** Whether a mouse button or a finger is down in the log: what is under it must not move away. */
    this.isHeld = false;
    this.element.addEventListener("pointerdown", ({ button, target, offsetX }) => {
      const isScrollbar = target === this.element && offsetX >= this.element.clientWidth;
      this.isHeld = button === 0 && !isScrollbar;
    });
    document.addEventListener("pointercancel", () => (this.isHeld = false), true); // it scrolls, or is dragged
    document.addEventListener("pointerup", () => this.#released(), true);
    // Safari's scroll by a key ends if the log is scrolled before its first step.
    this.element.addEventListener("keydown", ({ key, target }) => {
      const scrolls = ["ArrowUp", "Home", "PageUp"].includes(key) && !target.matches("textarea");
      if (scrolls && this.element.scrollTop) this.follows = false;
    });
    this.element.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.element.addEventListener("click", ({ target }) => {
      const code = target.closest(".copy-code")?.closest(".code")?.querySelector("pre");
      if (code) copy(code.textContent, target, code);
    });
    $("to-end").onclick = () => {
      this.toEnd();
      this.element.focus();
    };
    new ResizeObserver(() => this.#resized()).observe(this.element);
  }

  #scrolled() {
    const { clientHeight, scrollHeight, scrollTop } = this.element;
    // Otherwise the browser has scrolled the log, as its height has changed.
    if (scrollTop !== this.top && clientHeight === this.height) {
      const end = Math.min(this.seenEnd ?? scrollHeight, scrollHeight);
      this.follows = end - scrollTop - clientHeight < (scrollTop < this.top ? END_PX : NEAR_PX);
    }
    this.top = scrollTop;
    if (this.follows && !this.isAtEnd && !this.isHeld) this.toEnd();
    else this.#showButton();
  }

  #released() {
    if (!this.isHeld) return;
    this.isHeld = false;
    // After the click.
    setTimeout(() => this.follows && getSelection().isCollapsed && this.toEnd());
  }

  /** Called when the log's height changes, as with the box below it or with the window. */
  #resized() {
    this.height = this.element.clientHeight;
    if (this.follows) this.toEnd();
    else this.#showButton();
  }

  get last() {
    return this.turns.at(-1);
  }

  /** The turn of the message with this id, if it is here. */
  turn(id) {
    return this.turns.find((turn) => turn.id === id);
  }

  /** Show these turns instead of the current ones. */
  show(turns = []) {
    this.turns = turns;
    this.element.replaceChildren(...turns.map((turn) => turn.element));
    this.#mark();
    this.toEnd();
  }

  /** Add a message, in the order of time. */
  add(message) {
    const turn = new TurnView(message, this.actions);
    this.#insert(turn, placeOf(message.id, this.turns));
    return turn;
  }

  /** Show the turn as the last one. */
  append(turn) {
    this.#move(turn, (others) => others.length);
  }

  /** Show the turn in the order of time again. */
  putBack(turn) {
    this.#move(turn, (others) => placeOf(turn.id, others));
  }

  #move(turn, place) {
    const others = this.turns.filter((one) => one !== turn);
    const at = place(others);
    if (this.turns.indexOf(turn) === at) return;
    this.turns = others;
    this.#insert(turn, at);
  }

  #insert(turn, at) {
    this.keepPlace(() => {
      this.element.insertBefore(turn.element, this.turns[at]?.element ?? null);
      this.turns.splice(at, 0, turn);
      this.#mark();
    });
  }

  drop(turn) {
    this.turns = this.turns.filter((one) => one !== turn);
    turn.element.remove();
    this.#mark();
  }

  /**
   * Show the server's messages. Turns that the server doesn't have stay in their places among them, and so
   * does what is streamed for the turn `coming`.
   */
  reconcile(messages, coming) {
    this.keepPlace(() => {
      const known = new Map(this.turns.map((turn) => [turn.id, turn]));
      const kept = messages.map((message) => {
        const id = message.message_id;
        const turn = known.get(id) ?? new TurnView({ id, text: message.text }, this.actions);
        known.delete(id);
        if (turn !== coming) turn.complete(message);
        return turn;
      });
      this.turns.forEach((turn, n) => {
        if (turn.isKept || !known.has(turn.id)) return;
        const before = this.turns.slice(0, n).findLast((one) => kept.includes(one));
        kept.splice(before ? kept.indexOf(before) + 1 : placeOf(turn.id, kept), 0, turn);
      });
      this.turns = kept;
      const wanted = new Set(this.turns.map((turn) => turn.element));
      for (const child of [...this.element.children]) if (!wanted.has(child)) child.remove();
      // Move only what has to be moved, as moving an element takes the focus from it.
      this.turns.forEach(({ element }, n) => {
        const there = this.element.children[n];
        if (there !== element) this.element.insertBefore(element, there ?? null);
      });
      this.#mark();
    });
  }

  /** Call `change`, which changes the log, and keep the scroll position, also if it is the end. */
  keepPlace(change) {
    this.#scrolled(); // the browser reports it only with its next frame
    this.#noteEnd();
    change();
    if (this.follows && !this.isHeld) this.toEnd();
    else this.#showButton();
  }

  /** Note the end that is on the screen, for the two frames that a change may take to get there. */
  #noteEnd() {
    if (this.seenEnd !== null) return;
    this.seenEnd = this.element.scrollHeight;
    requestAnimationFrame(() => requestAnimationFrame(() => (this.seenEnd = null)));
  }

  get isAtEnd() {
    return this.#rest < NEAR_PX;
  }

  /** How far the end is below what is shown, in pixels. */
  get #rest() {
    const { scrollHeight, scrollTop, clientHeight } = this.element;
    return scrollHeight - scrollTop - clientHeight;
  }

  toEnd() {
    this.follows = true;
    this.element.scrollTop = this.element.scrollHeight;
    this.top = this.element.scrollTop;
    this.#showButton();
  }

  #showButton() {
    $("to-end").hidden = this.isAtEnd;
  }

  #mark() {
    const focused = this.element.contains(document.activeElement) && document.activeElement;
    for (const turn of this.turns) turn.isLast = turn === this.last;
    if (focused?.hidden) this.element.focus({ preventScroll: true }); // or it would have none
    $("empty").hidden = this.turns.length > 0;
  }
}

export const log = new Log();
