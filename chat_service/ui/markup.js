/** Puts the HTML of replies into the page with as few changes as possible. */

/** A URL ends before a quotation mark, Chinese and Japanese punctuation, and what ends a clause in any script. */
const LINK_OR_BREAK =
  /((?:https?:\/\/|(?<![\p{L}\p{N}@._\/-])www\.(?=\p{L}|\p{N}))(?:\([^\s()<>"]*\)|[^\s()<>"«»\u2018-\u201f\u3001-\u301f\uff01-\uff65])+(?<![\p{Term}'*…\]])|\n)/iu;
const REL = "noopener noreferrer nofollow";

export const $ = (id) => document.getElementById(id);

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/**
 * Show `finished` and then `open` in `target`, replacing its nodes from index `from` on. Returns how
 * many nodes are then finished. Nodes that don't change stay, and so does a selection in them.
 */
export function show(target, from, finished, open = "") {
  const fresh = parsed(finished);
  const end = from + fresh.childNodes.length;
  fresh.append(parsed(open));
  morph(target, from, fresh);
  return end;
}

function parsed(html) {
  const template = document.createElement("template");
  // The only HTML that the page ever inserts. The server has sanitised it.
  template.innerHTML = html;
  const root = template.content;
  enliven(root);
  for (const block of root.children) block.dir = "auto";
  for (const link of root.querySelectorAll("a")) link.target = "_blank";
  for (const list of root.querySelectorAll("ol")) makeRoom(list);
  for (const table of root.querySelectorAll("table")) wrapTable(table);
  for (const pre of root.querySelectorAll("pre")) wrapCode(pre);
  return root;
}

/** Make bare URLs links, and keep single line breaks. */
function enliven(root) {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const texts = [];
  while (walker.nextNode()) texts.push(walker.currentNode);
  for (const text of texts) {
    const parts = text.data.split(LINK_OR_BREAK);
    if (parts.length === 1 || text.parentElement?.closest("pre, code, a")) continue;
    const last = parts.length - 1;
    // A line break between blocks is not part of the text.
    const begins = parts[0] !== "" || isInline(text.previousSibling);
    const ends = parts[last] !== "" || isInline(text.nextSibling);
    const made = parts.map((part, n) => {
      if (n % 2 === 0) return part;
      const href = /^http/i.test(part) ? part : `http://${part}`; // www., as on GitHub
      if (part !== "\n") return element("a", { href, rel: REL, textContent: part });
      return (n > 1 || begins) && (n < last - 1 || ends) ? element("br") : part;
    });
    text.replaceWith(...made);
  }
}

function isInline(node) {
  return node?.nodeType === Node.ELEMENT_NODE && node.matches("em, strong, del, code, a");
}

/** A list may begin with a year. Its first digits must not be cut off, in a narrow window or on paper. */
function makeRoom(list) {
  const { length } = String(list.start + list.children.length - 1);
  if (length > 2) list.style.paddingInlineStart = `${length + 1.5}ch`;
}

function wrapTable(table) {
  // It scrolls, and can be scrolled with the keyboard, too.
  const around = element("div", { className: "wide", dir: "auto", tabIndex: 0, role: "group", ariaLabel: "Table" });
  table.replaceWith(around);
  table.removeAttribute("dir"); // otherwise its text would not count for the direction of what is around it
  around.append(table);
}

function wrapCode(pre) {
  const language = /language-(\S+)/.exec(pre.firstElementChild?.className ?? "")?.[1] ?? "";
  const copy = element("button", { type: "button", className: "quiet copy-code", textContent: "Copy code" });
  const bar = element("div", { className: "bar" }, element("span", { textContent: language }), copy);
  const around = element("div", { className: "code", dir: "ltr" }, bar);
  pre.replaceWith(around);
  pre.removeAttribute("dir");
  pre.tabIndex = 0;
  around.append(pre);
}

function morph(target, from, fresh) {
  let old = target.childNodes[from];
  for (const node of [...fresh.childNodes]) {
    const next = old?.nextSibling;
    if (old) patch(old, node);
    else target.append(node);
    old = next;
  }
  while (old) {
    const next = old.nextSibling;
    old.remove();
    old = next;
  }
}

function patch(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.nodeType === Node.TEXT_NODE && fresh.nodeType === Node.TEXT_NODE) {
    let same = 0;
    while (same < old.length && old.data[same] === fresh.data[same]) same += 1;
    old.replaceData(same, old.length - same, fresh.data.slice(same));
  } else if (old.cloneNode().isEqualNode(fresh.cloneNode()) && old.nodeType === Node.ELEMENT_NODE) {
    if (!labels.has(old)) morph(old, 0, fresh); // a button says for a moment what it has done
  } else {
    old.replaceWith(fresh);
  }
}

/** The buttons' own words. Not in their attributes, as `patch` keeps only elements whose attributes are the same. */
const labels = new WeakMap();

/** Copy `text`, and show the result on `button`. If copying isn't allowed, select `shown`. */
export async function copy(text, button, shown) {
  if (!labels.has(button)) labels.set(button, button.textContent);
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    // Without https or permission, the user can still copy it; how, depends on the device.
    getSelection().selectAllChildren(shown);
    button.textContent = "Selected: copy it now";
  }
  document.getElementById("status").textContent = button.textContent; // screen readers may not announce a changed name
  setTimeout(() => (button.textContent = labels.get(button)), 2000);
}
