/** On narrow screens, the sidebar is a drawer. */

import { $ } from "./markup.js";
import { composes } from "./platform.js";

const isOpen = () => $("drawer-button").ariaExpanded === "true";

export function toggleDrawer(open) {
  const wasOpen = isOpen();
  $("drawer-button").ariaExpanded = String(open);
  document.body.classList.toggle("drawer-open", open);
  $("backdrop").hidden = !open;
  $("main").inert = open;
  if (open) $("new").focus();
  else if (wasOpen) $("drawer-button").focus();
}

$("drawer-button").onclick = () => toggleDrawer(!isOpen());
$("backdrop").onclick = () => toggleDrawer(false);
matchMedia("(max-width: 45rem)").onchange = () => toggleDrawer(false);
document.body.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || composes(event) || event.defaultPrevented) return;
  if (document.querySelector("dialog[open]")) return;
  // Here Escape closes the drawer or clears the search. It must not stop a reply, too.
  if (isOpen() || event.target === $("search")) event.stopPropagation();
  if (isOpen()) toggleDrawer(false);
});
