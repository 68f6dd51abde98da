/** Light or dark: the system's setting until the user chooses. */

import { recall, remember } from "./platform.js";

const systemDark = matchMedia("(prefers-color-scheme: dark)");

let chosen = recall("theme");

/** Apply the theme, and let `button` change it. */
export function followTheme(button) {
  const show = () => {
    const theme = chosen ?? (systemDark.matches ? "dark" : "light");
    document.documentElement.dataset.theme = theme;
    button.ariaPressed = String(theme === "dark");
  };
  systemDark.onchange = show;
  button.onclick = () => {
    chosen = button.ariaPressed === "true" ? "light" : "dark";
    remember("theme", chosen);
    show();
  };
  show();
}
