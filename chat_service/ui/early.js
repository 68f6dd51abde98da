/** Show the chosen theme, if any, before the page. This is no module, as Firefox shows a page before its modules run. */

try {
  const ours = new URL(".", location).pathname.replace(/^\/ui\/$/, ""); // as in platform.js
  const theme = localStorage.getItem(`${ours}theme`);
  if (theme) document.documentElement.dataset.theme = theme;
} catch {
  // Storage is disabled.
}

/** A page that lacks a script, or gets one of another version, would do nothing. Say so, and offer to load it again. */
addEventListener(
  "error",
  ({ target }) => {
    const [problem, retry, name] = ["problem", "retry", "user"].map((id) => document.getElementById(id));
    if (!name?.disabled || target instanceof HTMLLinkElement) return; // then the scripts have begun
    problem.firstElementChild.textContent = "The page didn't load completely. Try again in a moment.";
    problem.hidden = false;
    retry.onclick = () => location.reload();
  },
  true, // as events of elements don't bubble
);
