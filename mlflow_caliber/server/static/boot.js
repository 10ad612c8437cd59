// Before the first paint: the theme that the reader chose. A classic script, because modules run too late for that.
try {
  const theme = localStorage.getItem("caliber-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // A browser that keeps nothing follows the system.
}
