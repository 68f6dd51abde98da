/** How a message and its reply look. */

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function button(text, onclick) {
  return element("button", { type: "button", className: "quiet", textContent: text, onclick });
}

/** One turn in the log: what was asked, and the reply as it comes. */
export class TurnView {
  constructor(log, { id, text }, { onEdit, onRetry }) {
    this.id = id;
    this.text = text;
    this.reply = "";
    this.log = log;
    this.said = element("div", { className: "said", textContent: text });
    this.edit = button("Edit and resend", () => onEdit(this));
    this.edit.hidden = true;
    this.answer = element("div", { className: "said" });
    this.note = element("span", { className: "note" });
    this.copy = button("Copy", () => this.#copy());
    this.again = button("Retry", () => onRetry(this));
    const question = element("article", { className: "mine", ariaLabel: "Your message" });
    question.append(this.said, element("div", { className: "actions" }, this.edit));
    this.article = element("article", { className: "reply", ariaLabel: "Reply" });
    const actions = element("div", { className: "actions" }, this.note, this.copy, this.again);
    this.article.append(this.answer, actions);
    this.element = element("div", { className: "turn" }, question, this.article);
    this.begin();
    log.append(this.element);
  }

  /** Nothing has come yet. Read aloud only when complete, not word by word. */
  begin() {
    this.reply = "";
    this.article.ariaBusy = "true";
    this.article.hidden = false;
    this.answer.textContent = "";
    this.answer.classList.add("coming", "plain");
    this.#finish({ busy: true });
  }

  add(text) {
    this.reply += text;
    this.answer.textContent = this.reply;
  }

  complete(reply, html) {
    this.reply = reply;
    if (html === undefined) {
      this.answer.textContent = reply;
    } else {
      // The only HTML that the page ever takes: the server has sanitised it.
      this.answer.innerHTML = html;
      this.answer.classList.remove("plain");
      for (const link of this.answer.querySelectorAll("a")) link.target = "_blank";
    }
    this.#finish({ copy: Boolean(reply) });
  }

  stopped() {
    this.#finish({ note: "Stopped.", copy: Boolean(this.reply), again: true });
  }

  failed() {
    this.article.hidden = !this.reply;
    this.#finish({ note: "Not complete.", copy: Boolean(this.reply) });
    this.hasFailed = true;
  }

  /** Only the last message can be edited, and only the last reply be had again. */
  set isLast(last) {
    this.last = last;
    this.edit.hidden = this.busy || !last;
    this.again.hidden = !this.mayRetry || !last;
  }

  #finish({ busy = false, note = "", copy = false, again = false }) {
    this.busy = busy;
    this.hasFailed = false;
    this.mayRetry = again;
    this.note.textContent = note;
    this.copy.hidden = !copy;
    this.isLast = this.last ?? false;
    if (busy) return;
    this.answer.classList.remove("coming");
    this.article.ariaBusy = "false";
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(this.reply);
      this.copy.textContent = "Copied";
    } catch {
      // Without https, or with the permission refused, the reader can still press Ctrl+C.
      getSelection().selectAllChildren(this.answer);
      this.copy.textContent = "Selected: press Ctrl+C";
    }
    setTimeout(() => (this.copy.textContent = "Copy"), 2000);
  }
}
