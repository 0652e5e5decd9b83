"use strict";
// What every page does: a light and a dark theme, images at their full size, an open tab that
// follows a training. Nothing here is needed to read the page.

/**
 * Values that the tab remembers across a reload, in its entry of the history: the browser has that
 * one before the reload begins. Session storage may reach it later, and is then not read again.
 */
const memory = {
  get(name) { return history.state?.[name] ?? null; },
  set(name, value) {
    // Refused after a hundred in a short time.
    try { history.replaceState({ ...history.state, [name]: value }, ""); } catch {}
  },
};

const root = document.documentElement;
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme || (systemDark.matches ? "dark" : "light")) === "dark";
const onTheme = [];

function setTheme(theme) {
  if (theme) root.dataset.theme = theme;
  const button = document.getElementById("theme");
  if (button) button.textContent = isDark() ? "light" : "dark";
  onTheme.forEach(change => change());
}

{
  const button = document.createElement("button");
  button.id = "theme";
  button.title = "change the colors of this page";
  button.onclick = () => {
    const theme = isDark() ? "light" : "dark";
    memory.set("theme", theme);
    setTheme(theme);
  };
  document.body.prepend(button);
  systemDark.addEventListener("change", () => setTheme());
  setTheme(memory.get("theme"));
}

for (const image of document.querySelectorAll(".picture img")) {
  image.onclick = () => image.classList.toggle("large");
}

/** What the reader is doing that a reload would interrupt, in words; empty if nothing. */
const busy = new Map();

if (root.dataset.refresh) {
  const seconds = Number(root.dataset.refresh);
  const note = document.createElement("span");
  note.id = "live";
  document.querySelector("p.about").append(note);
  const show = () => {
    const reason = [...busy.values()].find(Boolean);
    const written = new Date(document.lastModified).toLocaleTimeString();
    note.textContent = reason ? `paused: ${reason}` : `live, written at ${written}`;
    return !reason && !document.hidden;
  };
  let due = Date.now() + 1000 * seconds;
  setInterval(() => { if (show() && Date.now() > due) location.reload(); }, 500);
  show();
}
