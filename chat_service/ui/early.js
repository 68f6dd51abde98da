/** Show the chosen theme, if any, before the page. This is no module, as Firefox shows a page before its modules run. */

try {
  const ours = new URL(".", location).pathname.replace(/^\/ui\/$/, ""); // as in platform.js
  const theme = localStorage.getItem(`${ours}theme`);
  if (theme) document.documentElement.dataset.theme = theme;
} catch {
  // Storage is disabled.
}
