/** Whose page this is, and which conversation it shows. */

import { TAB, forget, recall, remember, uuid } from "./platform.js";
import { subject } from "./token.js";

export let user = subject() || recall("user", TAB) || recall("user") || "alice";
remember("user", user, TAB);
/** The id of the conversation that is shown, also of a new one, which isn't in the page's address yet. */
export let session = "";
/** The number of the current view. Answers for an older one are dropped. */
export let view = 0;

export const setUser = (name) => (user = name);

export function rememberUser() {
  remember("user", user);
  remember("user", user, TAB);
}

export function forgetUser() {
  forget("user");
  forget("user", TAB);
}

/** Begin to view a conversation, or a new one. Returns the number of this view. */
export function beginView(id) {
  session = id || uuid();
  return ++view;
}

/** What follows the # in the page's address: the id of a conversation that has a message. */
export const address = () => location.hash.slice(1);
