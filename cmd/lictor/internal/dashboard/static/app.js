// Keeps the live part of a page up to date: the server sends it whole whenever it has changed, and what differs is changed in place, so
// that scroll, focus and selection stay where they are.
(() => {
  "use strict";
  const live = document.querySelector("[data-live]");
  const word = document.getElementById("stream");
  if (!live || !word || !window.EventSource) return;

  const keep = (node) => node.nodeName === "DETAILS"; // what a person has opened stays open

  // morph makes a like b.
  function morph(a, b) {
    for (const { name, value } of b.attributes) if (a.getAttribute(name) !== value) a.setAttribute(name, value);
    for (const { name } of [...a.attributes]) if (!b.hasAttribute(name) && !(keep(a) && name === "open")) a.removeAttribute(name);
    const known = new Map();
    for (const child of a.children) if (child.id) known.set(child.id, child);
    let at = a.firstChild;
    for (const want of [...b.childNodes]) {
      const same = want.id ? known.get(want.id) : null;
      if (same && same !== at) {
        a.insertBefore(same, at);
        at = same;
      }
      if (!at) {
        a.appendChild(want);
        continue;
      }
      const alike = at.nodeType === want.nodeType && at.nodeName === want.nodeName && (at.id || "") === (want.id || "");
      if (!alike) {
        a.insertBefore(want, at);
        continue;
      }
      if (at.nodeType === Node.ELEMENT_NODE) morph(at, want);
      else if (at.data !== want.data) at.data = want.data;
      at = at.nextSibling;
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
  }

  let source = null;
  function open() {
    if (source) return;
    source = new EventSource(location.pathname + location.search);
    source.addEventListener("open", () => { word.textContent = "live"; word.className = "stream on"; });
    source.addEventListener("page", (e) => {
      const page = new DOMParser().parseFromString("<div>" + JSON.parse(e.data) + "</div>", "text/html");
      const now = page.body.firstElementChild;
      now.id = live.id;
      now.setAttribute("data-live", "");
      morph(live, now);
    });
    source.addEventListener("error", () => {
      word.textContent = "reconnecting";
      word.className = "stream off";
      if (source.readyState === EventSource.CLOSED) { // the server said no: logged out, or it is away
        source = null;
        setTimeout(() => { if (!document.hidden) open(); }, 5000);
      }
    });
  }
  function close() {
    if (source) source.close();
    source = null;
    word.textContent = "";
  }
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  if (!document.hidden) open();

  // Keys: / to the filter, j and k through the runs.
  document.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.altKey || e.metaKey || /^(INPUT|SELECT|TEXTAREA)$/.test(e.target.nodeName)) return;
    if (e.key === "/") {
      const first = document.querySelector(".filter input");
      if (first) { first.focus(); e.preventDefault(); }
    } else if (e.key === "j" || e.key === "k") {
      const links = [...document.querySelectorAll("table.runs tbody tr td a[href^='/runs/']")];
      const i = links.indexOf(document.activeElement) + (e.key === "j" ? 1 : -1);
      if (links.length) links[Math.max(0, Math.min(links.length - 1, i))].focus();
    }
  });
})();
