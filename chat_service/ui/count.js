/** How many messages the user has sent, in total and by day. */

import * as api from "./api.js";
import { drawActivity } from "./chart.js";
import { $ } from "./markup.js";

/** Pauses before each try, as the count is updated a moment after the reply. */
const WAITS_MS = [0, 300, 1000];

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

export const count = new Count();
