"use strict";
// Keys, theme, refresh. The pages work without this file. Text goes into the page as text only.
(() => {
  const REFRESH_MS = 15000;
  const byId = (id) => document.getElementById(id);
  const main = () => byId("main");

  // --- theme

  const THEMES = ["system", "light", "dark"];
  const stored = () => { try { return localStorage.getItem("theme") || "system"; } catch { return "system"; } };
  const themeButton = byId("theme");
  const showTheme = () => { themeButton.textContent = stored() === "system" ? "auto" : stored(); };
  themeButton.addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(stored()) + 1) % THEMES.length];
    try { localStorage.setItem("theme", next); } catch { /* lasts for this page only */ }
    if (next === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    showTheme();
    document.dispatchEvent(new Event("tocsin:theme"));
  });
  showTheme();

  // --- times: yours when pointed at

  const localTimes = (root) => {
    for (const time of root.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime);
      if (!Number.isNaN(at.valueOf())) time.title = `${at.toLocaleString()} local, ${time.dateTime}`;
    }
  };

  // --- refresh: pauses while hidden, while text is selected, while somebody writes

  const stateButton = byId("refresh-state");
  const canRefresh = () => Boolean(window.htmx) && main().hasAttribute("hx-get");
  let wanted = true;
  let last = Date.now();
  const busy = () => {
    const field = document.activeElement;
    return document.hidden || Boolean(String(getSelection())) || byId("help").open
      || Boolean(field && field.matches("input, textarea, select"));
  };
  const showRefresh = () => {
    stateButton.textContent = !wanted ? "refresh off" : busy() ? "paused" : "refresh 15 s";
    stateButton.setAttribute("aria-pressed", String(wanted));
  };
  const refresh = () => {
    last = Date.now();
    if (canRefresh()) main().dispatchEvent(new Event("refresh"));
    else location.reload();
  };
  stateButton.addEventListener("click", () => { wanted = !wanted; showRefresh(); });
  setInterval(() => {
    showRefresh();
    if (wanted && canRefresh() && !busy() && Date.now() - last >= REFRESH_MS) refresh();
  }, 1000);
  document.addEventListener("htmx:after:swap", () => {
    localTimes(document);
    document.dispatchEvent(new Event("tocsin:drawn"));
  });

  // --- keys

  const help = byId("help");
  const toggleHelp = () => (help.open ? help.close() : help.showModal());
  byId("help-open").addEventListener("click", toggleHelp);
  const goTo = (key) => document.querySelector(`nav a[data-key="${CSS.escape(key)}"]`)?.click();
  const focusOn = (field, otherwise) => {
    if (field) { field.focus(); field.select(); } else if (otherwise) location.assign(otherwise);
  };
  const KEYS = {
    "?": toggleHelp,
    "/": () => focusOn(byId("search"), "/explore#search"),
    t: () => focusOn(document.querySelector("input.from")),
    r: refresh,
  };
  let afterG = false;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input, textarea, select")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (afterG) {
      afterG = false;
      goTo(event.key);
    } else if (event.key === "g") {
      afterG = true;
      setTimeout(() => { afterG = false; }, 1500);
    } else if (Object.hasOwn(KEYS, event.key)) {
      event.preventDefault();
      KEYS[event.key]();
    }
  });

  // --- start

  for (const button of document.querySelectorAll(".needs-script")) {
    button.hidden = button === stateButton && !canRefresh();
  }
  showRefresh();
  localTimes(document);
  if (location.hash === "#search") byId("search")?.focus();
})();
