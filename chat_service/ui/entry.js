/** How a conversation looks in the list. */

import { element } from "./markup.js";

const WHEN = { month: "short", day: "numeric", hour: "numeric", minute: "2-digit" };

const sameYear = (time) => new Date(time).getFullYear() === new Date().getFullYear();

/** What is said of a conversation. One with `isComing`, even if it is false, has a message without a reply. */
function said(conversation) {
  const { update_time: time, turn_count: turns, isComing } = conversation;
  if ("isComing" in conversation) return isComing ? "Being answered…" : "Not answered";
  const when = new Date(time).toLocaleString([], sameYear(time) ? WHEN : { ...WHEN, year: "numeric" });
  return `\u2068${when}\u2069 · ${turns} ${turns === 1 ? "message" : "messages"}`;
}

function tool(className, textContent, ariaLabel, onclick) {
  const properties = { type: "button", textContent, ariaLabel, title: ariaLabel, onclick };
  return element("button", { ...properties, className: `${className} tool` });
}

/** A conversation with its buttons, and a note instead of what is said of it, if there is one. */
export function entry(conversation, note, { onOpen, onRename, onDelete }) {
  const { session_id: session, title, update_time: time } = conversation;
  const open = element("button", { type: "button", className: "open", onclick: onOpen });
  open.append(
    element("span", { className: "title", dir: "auto", textContent: title }),
    element("small", { textContent: note || said(conversation) }),
  );
  const rename = tool("rename", "✎", `Rename: ${title}`, () => onRename(item));
  rename.hidden = !time;
  const item = element("li", {}, open, rename, tool("delete", "✕", `Delete: ${title}`, onDelete));
  item.dataset.session = session;
  return item;
}
