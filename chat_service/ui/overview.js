/** What is shown of the user around the conversation: the list of conversations, and the count. */

import { count } from "./count.js";
import { rememberUser, user } from "./session.js";
import { sidebar } from "./sidebar.js";

export function refresh() {
  sidebar.refresh(user);
  count.refresh(user);
}

export function showUser() {
  rememberUser();
  refresh();
}
