/** A small chart of the messages of the last days, one bar per day. */

const WIDTH = 6;
const GAP = 2;
const HEIGHT = 24;

function shape(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** Draw `days` ([{date, message_count}], oldest first) into an `<svg>`. */
export function drawActivity(svg, days) {
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
