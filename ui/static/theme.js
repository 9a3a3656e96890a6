// Sets the theme before the first paint, and says that scripts run. Kept apart
// from app.js, which is deferred.
document.documentElement.classList.add("scripted");
try {
  const theme = localStorage.getItem("samnode.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch { /* storage is off: the system's theme stays */ }
