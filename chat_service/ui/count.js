/** How many messages the user has sent, in total and by day. */

import * as api from "./api.js";
import { $ } from "./markup.js";

/** Pauses before each try, as the count is updated a moment after the reply. */
const WAITS_MS = [0, 300, 1000];
/** The chart has a bar for each day. */
const WIDTH = 6;
const GAP = 2;
const HEIGHT = 24;

class Count {
  constructor() {
    this.user = "";
    /** How many times the count was requested, and which request's answer is shown. */
    this.asked = this.shown = 0;
  }

  clear() {
    this.user = "";
    $("count").textContent = "";
    drawActivity($("activity"), []);
  }

  /** Show the user's count, once it is greater than `before`. */
  async refresh(user, before = null) {
    this.user = user;
    for (const wait_ms of WAITS_MS) {
      await new Promise((resolve) => setTimeout(resolve, wait_ms));
      const mine = ++this.asked;
      const count = await api.messageCount(user);
      if (user !== this.user) return;
      if (mine < this.shown) continue; // it is older than what is shown
      this.shown = mine;
      $("count").textContent = `Messages sent: ${count ?? "unknown"}`;
      const days = count ? await api.activity(user) : [];
      if (user !== this.user) return;
      if (mine === this.shown) drawActivity($("activity"), days);
      if (before === null || count === null || count > before) return;
    }
  }
}

function shape(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** Draw `days` ([{date, message_count}], oldest first) into an `<svg>`. */
function drawActivity(svg, days) {
  svg.classList.toggle("none", days.length === 0);
  if (days.length === 0) return;
  const most = Math.max(1, ...days.map((day) => day.message_count));
  const total = days.reduce((sum, day) => sum + day.message_count, 0);
  svg.setAttribute("viewBox", `0 0 ${days.length * (WIDTH + GAP) - GAP} ${HEIGHT}`);
  svg.setAttribute(
    "aria-label",
    `${total} ${total === 1 ? "message" : "messages"} in the last ${days.length} days (of UTC), ${days.at(-1).message_count} today`,
  );
  const bars = days.map((day, n) => {
    // A day without messages gets a thin line, so that days can be counted.
    const height = Math.max(1, (day.message_count / most) * HEIGHT);
    const bar = shape("rect", {
      x: n * (WIDTH + GAP),
      y: HEIGHT - height,
      width: WIDTH,
      height,
      rx: 1,
    });
    const tip = shape("title", {});
    tip.textContent = `${day.date} (UTC): ${day.message_count}`;
    bar.append(tip);
    return bar;
  });
  svg.replaceChildren(...bars);
}

export const count = new Count();
