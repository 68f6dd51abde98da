/** Light or dark: the system's choice, until the reader makes one. */

import { recall, remember } from "./platform.js";

const systemDark = matchMedia("(prefers-color-scheme: dark)");

/** Show the theme, and let `button` change it. */
export function followTheme(button) {
  const show = () => {
    const theme = recall("theme") ?? (systemDark.matches ? "dark" : "light");
    document.documentElement.dataset.theme = theme;
    button.ariaPressed = String(theme === "dark");
  };
  systemDark.onchange = show;
  button.onclick = () => {
    remember("theme", button.ariaPressed === "true" ? "light" : "dark");
    show();
  };
  show();
}
