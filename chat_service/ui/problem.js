/** The bar that shows a problem, with its Retry button. */

import { Problem } from "./api.js";
import { composer } from "./composer.js";
import { log } from "./log.js";
import { $ } from "./markup.js";

/**
 * What the problem that is shown is about: the "list", a "title", a "deletion" of a conversation, the
 * "conversation" that is shown, or a message: then it is a function that tells whether the message has
 * been answered since.
 */
let about = "";

export function showProblem(error, retry, of) {
  about = of;
  const isOurs = error instanceof Problem;
  if (!isOurs) console.error(error);
  $("problem-text").textContent = isOurs ? error.message : "Something went wrong in this page.";
  log.keepPlace(() => ($("problem").hidden = false));
  $("retry").onclick = () => {
    composer.rest();
    hideProblem();
    retry();
  };
}

/** Hide the problem if it is about `of`; without an argument, whatever it is about. */
export function hideProblem(of = about) {
  if (of !== about) return;
  about = "";
  // A button that is hidden loses the focus.
  if (document.activeElement === $("retry")) composer.rest();
  $("problem").hidden = true;
  $("problem-text").textContent = "";
}

/** Hide the problem of a message that has been answered since. */
export const hideAnswered = () => typeof about === "function" && about() && hideProblem();

/** Whether there is a problem, other than one about `of`. */
export const hasProblem = (of) => !$("problem").hidden && about !== of;
