// The terminal's panel: xterm.js on a shell of the workspace, who else is in
// it, and the way back to it when a node dies.
"use strict";
(() => {
const box = document.getElementById("term");
if (!box || !box.dataset.xterm) return;
const $ = (id) => document.getElementById(id);
const tabs = $("term-tabs"), people = $("term-people"), note = $("term-note"), watch = $("term-watch"), hold = $("term-hold");
const mayType = "types" in box.dataset, encoder = new TextEncoder();
let socket = null, screen = null, fit = null, current = "", info = null, ctrl = false, again = 0, tries = 0, watching = !mayType;

const load = (tag, props) => new Promise((ok, bad) => {
  document.head.append(Object.assign(document.createElement(tag), props, { onload: ok, onerror: () => bad(new Error("it did not load")) }));
});
const say = (text) => { note.textContent = text; };
const post = async (path, body) => {
  const answer = await fetch(box.dataset.url + encodeURIComponent(current) + path, { method: "POST", headers: { "X-Samnode": "1" }, body: new URLSearchParams(body) });
  if (!answer.ok) say((await answer.text()).trim());
  return answer.ok;
};

// --- the shells there are ---

const all = () => [...tabs.querySelectorAll("[data-id]")];
const tabOf = (id) => all().find((el) => el.dataset.id === id);

function fresh() {
  for (let n = 1; ; n++) if (!tabOf("t" + n)) return "t" + n;
}

function addTab(id, name) {
  let tab = tabOf(id);
  if (!tab) {
    tab = Object.assign(document.createElement("button"), { type: "button" });
    tab.dataset.id = id;
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-selected", "false");
    tabs.append(tab);
  }
  if (name) { tab.dataset.name = name; tab.textContent = name; }
  tab.onclick = () => open(id);
  if (!mayType) return tab;
  tab.title = "Double click renames, middle click or Delete ends it";
  tab.ondblclick = async () => {
    const next = prompt("Name of this shell, for everybody", tab.dataset.name);
    if (next && await post("/name", { name: next })) refresh();
  };
  tab.onauxclick = () => end(tab);
  tab.onkeydown = (e) => { if (e.key === "Delete") end(tab); };
  return tab;
}

async function end(tab) {
  if (!confirm("End the shell " + tab.textContent + " and what runs in it?")) return;
  open(tab.dataset.id);
  if (!await post("/close", {})) return;
  tab.remove();
  openNext();
}

function openNext() {
  const next = all()[0]?.dataset.id;
  if (next) open(next); else if (mayType) open(fresh()); else say("Nobody has a shell open here.");
}

async function refresh() {
  const answer = await fetch(box.dataset.url.slice(0, -1), { cache: "no-store" }).catch(() => null);
  if (!answer?.ok) return;
  const list = await answer.json();
  for (const t of list) addTab(t.id, t.name);
  for (const tab of all()) if (tab.dataset.id !== current && !list.some((t) => t.id === tab.dataset.id)) tab.remove();
  if (!current && list.length) openNext();
}

// --- who is here ---

const short = (person) => person.split("@")[0] || "somebody";

function chip(p) {
  const li = document.createElement("li");
  li.className = "chip" + (p.leads ? " leads" : "") + (p.watches ? " watches" : "");
  li.textContent = p.you ? "you" : short(p.person);
  const what = p.watches ? "watches" : info.held && info.held !== p.person ? "may not type now" : p.leads ? "typed last" : "may type";
  li.append(Object.assign(document.createElement("small"), { textContent: p.watches ? "watches" : p.by || "" }));
  li.title = [p.person, [p.by, p.device].filter(Boolean).join(" from "), what, "since " + new Date(p.since).toLocaleTimeString()].filter(Boolean).join("\n");
  return li;
}

function told(now) {
  info = now;
  const you = (now.people || []).find((p) => p.you);
  people.replaceChildren(...(now.people || []).map(chip));
  const marks = [];
  if (now.recorded) marks.push(Object.assign(document.createElement("li"), { className: "chip rec", textContent: "this shell is recorded" }));
  if (now.held) marks.push(Object.assign(document.createElement("li"), { className: "chip held", textContent: you && now.held === you.person ? "only you type" : "only " + short(now.held) + " types" }));
  people.append(...marks);
  addTab(now.id, now.name);
  if (hold) {
    hold.hidden = !you || you.watches;
    hold.textContent = now.held && you && now.held === you.person ? "Let all type" : "Only I type";
  }
  if (screen.rows !== now.rows || screen.cols !== now.cols) screen.resize(now.cols, now.rows);
}

// --- the screen ---

function type(text) {
  if (ctrl && text.length === 1) { text = String.fromCharCode(text.toUpperCase().charCodeAt(0) & 31); ctrl = false; document.querySelector('[data-send="Ctrl"]').classList.remove("primary"); }
  if (!watching && socket?.readyState === 1) socket.send(encoder.encode(text));
}

// size is what would fit here; the terminal has that of who typed last.
function size() {
  const s = fit.proposeDimensions();
  return s && s.rows > 1 && s.cols > 1 ? s : { rows: 24, cols: 80 };
}

function sendSize() {
  if (!watching && socket?.readyState === 1) { const { rows, cols } = size(); socket.send(JSON.stringify({ rows, cols })); }
}

function open(id) {
  clearTimeout(again);
  if (socket) { socket.onclose = socket.onmessage = null; socket.close(); }
  if (current !== id) { screen.reset(); people.replaceChildren(); say(""); }
  current = id;
  addTab(id, tabOf(id)?.dataset.name || id);
  for (const el of all()) el.setAttribute("aria-selected", String(el.dataset.id === id));
  const at = new URL(location.href);
  at.searchParams.set("shell", id); // so that another node opens the same
  history.replaceState(history.state, "", at);
  const { rows, cols } = size(), url = new URL(box.dataset.url + encodeURIComponent(id) + "/ws", location.href);
  url.search = new URLSearchParams({ rows, cols, ...(watching && mayType ? { watch: 1 } : {}) });
  url.protocol = url.protocol.replace("http", "ws");
  socket = new WebSocket(url);
  socket.binaryType = "arraybuffer";
  let begun = false;
  socket.onmessage = (e) => {
    if (typeof e.data !== "string") { screen.write(new Uint8Array(e.data)); return; }
    if (!begun) { begun = true; tries = 0; screen.reset(); say(""); if (!watching) screen.focus(); } // the replay follows
    told(JSON.parse(e.data));
  };
  socket.onclose = (e) => { people.replaceChildren(); closed(id, e, begun); };
}

async function closed(id, e, begun) {
  if (e.code === 1000) {
    say("The shell has ended.");
    tabOf(id)?.remove();
    current = "";
    return;
  }
  let text = e.reason;
  if (!text && !begun) { // refused before it was a socket: an ordinary request is told why
    const answer = await fetch(box.dataset.url.slice(0, -1), { cache: "no-store" }).catch(() => null);
    if (answer && !answer.ok && answer.status < 500) text = (await answer.text()).trim().slice(0, 200);
  }
  say((text || "The connection is lost").replace(/\.$/, "") + ". Attaching again…");
  again = setTimeout(() => { if (current === id) open(id); }, Math.min(5000, 500 * 2 ** tries++));
}

async function start() {
  await load("link", { rel: "stylesheet", href: box.dataset.css });
  await load("script", { src: box.dataset.xterm });
  await load("script", { src: box.dataset.fit });
  screen = new window.Terminal({
    fontFamily: getComputedStyle(document.documentElement).getPropertyValue("--mono"), fontSize: 13, cursorBlink: false, scrollback: 20000,
    theme: { background: "#0A0C0F", foreground: "#C9D1DB", cursor: "#C9D1DB", selectionBackground: "#3A4656", black: "#76808C", red: "#FF7B72", green: "#5FCB7E", yellow: "#E3B341", blue: "#79A8FF", magenta: "#D29BFF", cyan: "#4FC3D9", white: "#C9D1DB", brightBlack: "#8B95A1", brightRed: "#FFA198", brightGreen: "#86E29B", brightYellow: "#F2CC60", brightBlue: "#A5C6FF", brightMagenta: "#E2C1FF", brightCyan: "#86DDEC", brightWhite: "#F2F5F8" },
  });
  fit = new window.FitAddon.FitAddon();
  screen.loadAddon(fit);
  screen.open(box);
  screen.onData(type);
  screen.onBinary((text) => { if (!watching && socket?.readyState === 1) socket.send(Uint8Array.from(text, (c) => c.charCodeAt(0))); });
  screen.attachCustomKeyEventHandler((e) => {
    if (e.ctrlKey && e.shiftKey && e.type === "keydown") {
      if (e.key === "K") { document.dispatchEvent(new KeyboardEvent("keydown", { key: "k", ctrlKey: true, bubbles: true })); return false; }
      if (e.key === "W") { screen.blur(); document.querySelector(".panel h2").focus(); return false; }
    }
    return true;
  });
  new ResizeObserver(sendSize).observe(box);
  all().forEach((el) => addTab(el.dataset.id, el.dataset.name));
  const asked = new URL(location.href).searchParams.get("shell");
  if (asked && (tabOf(asked) || mayType && /^t\d+$/.test(asked))) open(asked); else openNext();
  setInterval(() => { if (!document.hidden) refresh(); }, 4000);
}

$("term-new")?.addEventListener("click", () => open(fresh()));
watch?.addEventListener("click", () => {
  watching = !watching;
  watch.setAttribute("aria-pressed", String(watching));
  watch.textContent = watching ? "Watching; type again" : "Watch only";
  if (current) open(current);
});
hold?.addEventListener("click", () => {
  const you = info?.people?.find((p) => p.you);
  post("/hold", you && info.held === you.person ? {} : { on: "1" });
});
const sends = { Esc: "\x1b", Tab: "\t", "↑": "\x1b[A", "↓": "\x1b[B", "→": "\x1b[C", "←": "\x1b[D" };
document.querySelector(".term-keys")?.addEventListener("click", (e) => {
  const key = e.target.dataset?.send;
  if (!key) return;
  if (key === "Ctrl") { ctrl = !ctrl; e.target.classList.toggle("primary", ctrl); } else type(sends[key] || key);
  screen?.focus();
});
start().catch((err) => say("The terminal did not start: " + err.message));
})();
