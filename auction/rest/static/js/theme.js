// Sets the remembered theme before the first paint; the page's script offers the switch.
(() => {
  try {
    const theme = localStorage.getItem("fanbid.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch { /* storage is off: the system's theme applies */ }
})();
