/** Browser features that may be missing, some of them depending on the page's address. */

/** Whether the device has a touch screen instead of a keyboard. */
export const touch = matchMedia("(hover: none) and (pointer: coarse)");

/** Whether nothing has the focus, or only what is in `dialog`, which is being closed. */
export function losesFocus(dialog) {
  const focus = document.activeElement;
  return focus === document.body || dialog.contains(focus);
}

/** The storage of this tab, until it is closed. The default storage is shared by all tabs. */
export const TAB = "sessionStorage";

const HERE = new URL(".", location);
/** The prefix of all keys, for a service below a path: others on the same host have keys of their own. */
const OURS = HERE.pathname.replace(/^\/ui\/$/, "");

/** What storage didn't take, as it is disabled or full: kept until the page is left. */
const unstored = { localStorage: new Map(), sessionStorage: new Map() };

/** What `use` returns; null if storage is disabled or full. */
function stored(use, storage) {
  try {
    return use(window[storage]);
  } catch {
    return null;
  }
}

export const recall = (key, storage = "localStorage") =>
  unstored[storage].get(key) ?? stored((kept) => kept.getItem(OURS + key), storage);

export function remember(key, value, storage = "localStorage") {
  const isStored = stored((kept) => kept.setItem(OURS + key, value) ?? true, storage);
  if (isStored) unstored[storage].delete(key);
  else unstored[storage].set(key, value);
}

export function forget(key, storage = "localStorage") {
  unstored[storage].delete(key);
  stored((kept) => kept.removeItem(OURS + key), storage);
}

/** The keys in storage that begin with `prefix`, in order: of keys that end with ids, the oldest first. */
export function keysOf(prefix) {
  const all = stored(Object.keys, "localStorage") ?? [];
  const keys = all.filter((key) => key.startsWith(OURS)).map((key) => key.slice(OURS.length));
  const found = new Set([...keys, ...unstored.localStorage.keys()]);
  return [...found].filter((key) => key.startsWith(prefix)).sort();
}

/** This page's other tabs: `tell` sends them news, and `onNews` is called with theirs. */
export const tabs = { tell() {}, onNews() {} };
try {
  const channel = new BroadcastChannel(`daca-chat ${HERE}`);
  channel.onmessage = ({ data }) => tabs.onNews(data);
  tabs.tell = (news) => channel.postMessage(news);
} catch {
  // Firefox refuses it where cookies are blocked.
}

/** Run `work` so that this page's other tabs can tell, by `name`, that it is running. */
export async function noted(name, work, options = {}) {
  let running = null;
  try {
    return await navigator.locks.request(name, options, () => (running = work()));
  } catch (error) {
    if (running || options.signal?.aborted) throw error;
    return work(); // on a page without https, or whose storage is disabled, there are no locks
  }
}

/** How many runs of `noted` work are going on, in all tabs, whose names begin with this. */
export async function running(name) {
  const locks = await navigator.locks?.query().catch(() => null);
  return locks ? locks.held.filter((lock) => lock.name.startsWith(name)).length : 0;
}

/** Wait until no tab, or only a closed one, has `noted` work of this name. */
export const over = (name) => noted(name, () => {});

/** While an IME (e.g. for Japanese) composes a word, keys are meant for it. Safari sends 229 then. */
export const composes = (event) => event.isComposing || event.keyCode === 229;

/** A UUID that begins with the time (version 7, RFC 9562). `crypto.randomUUID` makes only random ones. */
export function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(10));
  bytes[0] = (bytes[0] & 0x0f) | 0x70;
  bytes[2] = (bytes[2] & 0x3f) | 0x80;
  const random = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const hex = Date.now().toString(16).padStart(12, "0") + random;
  return hex.replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, "$1-$2-$3-$4-$5");
}
