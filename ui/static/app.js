// What the script adds to pages that are whole without it: the live stream,
// own input at once, and keys. No framework, no build step.
"use strict";
(() => {
const $ = (sel, root = document) => root.querySelector(sel);
const $$ = (sel, root = document) => [...root.querySelectorAll(sel)];
const main = $("main.task");
const html = document.documentElement;
const store = {
  get(key) { try { return localStorage.getItem("samnode." + key); } catch { return null; } },
  set(key, value) {
    try { value ? localStorage.setItem("samnode." + key, value) : localStorage.removeItem("samnode." + key); } catch { /* storage is off */ }
  },
};
const make = (tag, props = {}, ...children) => {
  const el = Object.assign(document.createElement(tag), props);
  el.append(...children);
  return el;
};

// --- ids: ULIDs, so that sending again is harmless ---

const CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
function ulid() {
  let id = "", t = Date.now();
  for (let i = 0; i < 10; i++) { id = CROCKFORD[t % 32] + id; t = Math.floor(t / 32); }
  for (const b of crypto.getRandomValues(new Uint8Array(16))) id += CROCKFORD[b % 32];
  return id;
}

// --- small things ---

let saidAt = 0;
function announce(text) {
  const wait = Math.max(0, saidAt + 2000 - Date.now());
  saidAt = Date.now() + wait;
  setTimeout(() => { $("#say").textContent = text; }, wait);
}

function toast(text, bad) {
  const el = make("div", { className: bad ? "toast bad" : "toast", textContent: text });
  if (bad) el.setAttribute("role", "alert");
  $("#toasts").append(el);
  setTimeout(() => el.remove(), bad ? 8000 : 3000);
}

let busyTimer = 0;
function busy(on) {
  clearTimeout(busyTimer);
  if (on) busyTimer = setTimeout(() => $("#busy").classList.add("on"), 400);
  else $("#busy").classList.remove("on");
}

function duration(ms) {
  const s = Math.max(0, Math.floor(ms / 1000)), m = Math.floor(s / 60), h = Math.floor(m / 60);
  if (h >= 48) return Math.floor(h / 24) + "d " + h % 24 + "h";
  if (h) return h + "h " + String(m % 60).padStart(2, "0") + "m";
  if (m) return m + "m " + String(s % 60).padStart(2, "0") + "s";
  return s + " s";
}

function ageOf(ms) {
  const m = Math.floor(ms / 60000);
  return m < 1 ? "now" : m < 60 ? m + "m" : m < 1440 ? Math.floor(m / 60) + "h" : null;
}

// left counts down, calmly until the last minute; words.go has the same.
function left(ms) {
  const s = Math.floor(ms / 1000), m = Math.floor(s / 60), h = Math.floor(m / 60);
  if (s <= 0) return "now";
  if (s <= 60) return "in " + s + " s";
  if (h >= 48) return "in " + Math.floor(h / 24) + " days";
  if (h) return "in " + h + " h" + (m % 60 ? " " + String(m % 60).padStart(2, "0") + " min" : "");
  return "in " + m + " min";
}

// Times that tell by themselves, and how; the others are times of day.
const clocks = {
  "data-clock": (at, now) => duration(now - at),
  "data-age": (at, now) => ageOf(now - at),
  "data-left": (at, now) => left(at - now),
};
const runs = (el) => Object.keys(clocks).some((name) => el.hasAttribute(name));

function tick() {
  const now = Date.now();
  for (const [name, tell] of Object.entries(clocks)) {
    for (const el of $$("time[" + name + "]")) {
      const text = tell(Date.parse(el.dateTime), now);
      if (text && el.textContent !== text) el.textContent = text;
    }
  }
}

// Times of the page are shown in the reader's zone.
function localTimes(root) {
  for (const el of $$("time", root)) {
    const at = new Date(el.dateTime);
    if (isNaN(at) || runs(el)) continue;
    const day = el.dataset.day === undefined ? {} : { day: "numeric", month: "short" };
    el.textContent = at.toLocaleString([], { ...day, hour: "2-digit", minute: "2-digit", hour12: false });
  }
}

// --- morph: change a node into another and keep what the person did to it ---

// A form's inputs shadow its properties, and ours have one named "id".
const idOf = (el) => (el.nodeType === 1 && el.getAttribute("id")) || "";

function morph(a, b) {
  if (a.nodeType !== b.nodeType || a.nodeName !== b.nodeName || idOf(a) !== idOf(b)) {
    a.replaceWith(b);
    return b;
  }
  if (a.nodeType !== 1) {
    if (a.data !== b.data) a.data = b.data;
    return a;
  }
  if (a.isEqualNode(b)) return a;
  const keepOpen = a.dataset.touched !== undefined;
  for (const { name, value } of [...b.attributes]) {
    if (name === "open" && keepOpen) continue;
    if (a.getAttribute(name) !== value) a.setAttribute(name, value);
  }
  for (const { name } of [...a.attributes]) {
    if (b.hasAttribute(name) || name === "data-touched" || (name === "open" && keepOpen)) continue;
    a.removeAttribute(name);
  }
  if (a.matches("textarea, select") && a === document.activeElement) return a;
  if (a.nodeName === "TIME" && runs(a)) return a;
  let at = a.firstChild;
  for (const next of [...b.childNodes]) {
    if (idOf(next)) {
      const same = [...a.children].find((c) => idOf(c) === idOf(next));
      if (same && same !== at) a.insertBefore(same, at);
      if (same) at = same;
    }
    if (!at) { a.append(next); continue; }
    const after = at.nextSibling;
    if (idOf(next) && idOf(at) !== idOf(next)) { a.insertBefore(next, at); continue; }
    morph(at, next);
    at = after;
  }
  while (at) { const after = at.nextSibling; at.remove(); at = after; }
  if (a.nodeName === "SELECT") {
    const chosen = $("option[selected]", a);
    if (chosen) a.value = chosen.value;
  }
  return a;
}

// --- the stream of items ---

const scroller = $("#scroll"), stream = $("#stream");
const NEAR = 80; // px from the end within which the page follows it
let unseen = 0, unseenAsk = false;

const atEnd = () => scroller.scrollTop > -NEAR; // the box runs from its end: 0 is the bottom
const orderOf = (el) => Number(el.dataset.order || 0);
const isNew = (el) => el.matches(".item:not([hidden])") && !el.matches(".k-status");

function place(el) {
  const order = orderOf(el);
  const inRun = el.parentElement && el.parentElement.matches(".run");
  if (inRun) return;
  let after = stream.lastElementChild;
  while (after && (after === el || orderOf(after) > order)) after = after.previousElementSibling;
  if (after ? after.nextElementSibling === el : stream.firstElementChild === el) return;
  after ? after.after(el) : stream.prepend(el);
}

function putItem(el) {
  const old = document.getElementById(el.id);
  if (old) {
    const moved = old.dataset.order !== el.dataset.order;
    const kept = morph(old, el);
    if (moved) place(kept);
    return;
  }
  const first = $(".item", stream);
  if ($("#earlier") && first && orderOf(el) < orderOf(first)) return; // not loaded yet
  place(el);
  if (isNew(el)) {
    unseen++;
    unseenAsk ||= el.matches(".k-ask");
    if (el.matches(".k-ask")) announce("Needs you: " + ($("h3 span", el)?.textContent || "") + " " + ($(".command", el)?.textContent.slice(0, 80) || ""));
    if (el.matches(".k-error")) announce("Error: " + el.textContent.trim().slice(0, 120));
  }
}

// Runs of four or more reads and searches fold into one line.
function foldRuns() {
  let run = [];
  const close = () => {
    const box = run.find((el) => el.matches(".run"));
    const loose = run.filter((el) => el !== box);
    if (box ? loose.length : loose.length >= 4) {
      const into = box || make("details", { className: "run", id: "run-" + loose[0].id });
      if (!box) {
        into.append(make("summary", {}));
        loose[0].before(into);
        into.dataset.order = loose[0].dataset.order;
      }
      into.append(...loose);
      const n = into.children.length - 1;
      $("summary", into).innerHTML = '<span class="ts-completed"><span class="mark"></span></span>Explored ' + n + ' files<span class="right"></span><svg class="i chev" viewBox="0 0 16 16" aria-hidden="true"><path d="m6 3 5 5-5 5"/></svg>';
    }
    run = [];
  };
  for (const el of [...stream.children]) {
    if (el.matches("[data-run]:not([hidden]), .run")) run.push(el);
    else if (!el.hidden) close();
  }
  close();
}

function newerPill() {
  const pill = $("#newer");
  pill.hidden = unseen === 0;
  pill.textContent = unseen + " new ↓";
  pill.classList.toggle("asks", unseenAsk);
}

// holdScroll runs a change and keeps the text above the reader where it is.
function holdScroll(change) {
  if (!scroller) return change();
  const end = atEnd();
  let anchor = null, top = 0;
  if (!end) {
    const edge = scroller.getBoundingClientRect().top;
    anchor = [...stream.children].find((el) => el.getBoundingClientRect().bottom > edge);
    top = anchor ? anchor.getBoundingClientRect().top : 0;
  }
  change();
  if (end) { scroller.scrollTop = 0; unseen = 0; unseenAsk = false; }
  else if (anchor && anchor.isConnected) scroller.scrollTop += anchor.getBoundingClientRect().top - top;
  newerPill();
}

function patch(text) {
  const box = document.createElement("template");
  box.innerHTML = text;
  localTimes(box.content);
  const parts = [...box.content.children];
  holdScroll(() => {
    const state = $("#chips")?.dataset.state;
    for (const el of parts) {
      if (el.matches(".row")) putRow(el);
      else if (el.matches(".item, .stepper") && stream) putItem(el);
      else {
        const old = document.getElementById(el.id);
        if (old) morph(old, el);
      }
    }
    if (stream && parts.some((el) => el.matches(".item"))) foldRuns();
    const box = $("#composer textarea");
    if (box) box.placeholder = $("#dock").dataset.placeholder;
    stateChanged(state, $("#chips")?.dataset.state);
  });
  watchAsks();
  tick();
  title();
}

function stateChanged(before, after) {
  if (!before || before === after) return;
  if (after === "idle") announce("The agent answered");
  else if (after === "failed") announce("The task failed");
  else if (after !== "needs_you") announce($("#chips .chip")?.textContent.trim() || after);
}

function title() {
  const group = $("#g-needs");
  if (!group) return;
  const n = $$(".row", group).length;
  const name = document.title.replace(/^\(\d+\)\s*/, "").trim();
  document.title = n ? "(" + n + ") " + name : name;
  const badge = $("#needs");
  if (badge) { badge.textContent = n; badge.hidden = !n; }
}

// --- the list ---

const list = $("#tasks");
const moves = new Map();
const inHand = () => list.matches(":hover") || list.contains(document.activeElement);

function putRow(el) {
  if (!list) return;
  const old = document.getElementById(el.id);
  if (main && el.id === "row-" + main.dataset.task) el.setAttribute("aria-current", "true");
  if (!old && (list.dataset.filter || el.dataset.group === "archived")) return;
  if (old && old.dataset.group === el.dataset.group && old.dataset.order === el.dataset.order) { morph(old, el); return; }
  if (old && inHand()) {
    moves.set(el.id, el);
    const pill = $("#moved");
    pill.hidden = false;
    pill.textContent = moves.size + " moved · Update";
    return;
  }
  moveRow(el);
}

function moveRow(el) {
  const old = document.getElementById(el.id);
  const group = document.getElementById("g-" + el.dataset.group);
  const row = old ? morph(old, el) : el;
  if (!group) { row.remove(); counts(); return; }
  const rows = $(".rows", group);
  const before = [...rows.children].find((c) => c !== row && (!c.matches(".row") || Number(c.dataset.order) <= Number(row.dataset.order)));
  before ? before.before(row) : rows.append(row);
  $(".empty")?.closest("main:not(.task)")?.querySelector(".empty").remove();
  counts();
}

function counts() {
  for (const group of $$("details.group", list)) {
    const n = $$(".row", group).length;
    group.hidden = n === 0;
    $(".count", group).textContent = n;
  }
}

$("#moved")?.addEventListener("click", () => {
  for (const el of moves.values()) moveRow(el);
  moves.clear();
  $("#moved").hidden = true;
});

for (const group of $$("details.group")) {
  if (store.get("fold." + group.dataset.group)) group.open = false;
  group.addEventListener("toggle", () => store.set("fold." + group.dataset.group, group.open ? "" : "1"));
}

// --- the connection ---

const about = document.body.dataset;
const QUIET = Number(about.beat) * 1.5 + 200; // ms; a stream that lives says something more often
const ASKED = Number(about.beat) * 5; // ms; a page without a stream asks so often
const PATIENCE = 1000; // ms; a node that lives answers sooner
const HIDDEN = 4; // newer pages that a hidden one gives its connection up for: a browser has six for a node
let source = null, cursor = 0, lastAt = Date.now(), heardAt = Date.now(), brokenAt = 0, tries = 0, resting = false;

let lineTimer = 0;
function line(text, action, ms) {
  const el = $("#link");
  if (!el) return;
  clearTimeout(lineTimer);
  el.hidden = !text;
  el.textContent = text || "";
  if (action) el.append(" ", action);
  if (ms) lineTimer = setTimeout(() => line(""), ms);
}

function streamURL() {
  if (main) {
    cursor ||= main.dataset.index;
    const beside = list && getComputedStyle(list).display !== "none" && $(".side").offsetWidth > 0;
    return "/t/" + main.dataset.task + "/events?after=" + cursor + (beside ? "&list=1" : "");
  }
  if (list && !$(".gallery")) {
    cursor ||= list.dataset.index;
    return "/events?after=" + cursor + (list.dataset.project ? "&project=" + list.dataset.project : "");
  }
  return $("main[data-events]")?.dataset.events;
}

function connect() {
  source?.close();
  source = null;
  resting = false;
  heardAt = Date.now();
  const url = streamURL();
  if (!url) return;
  source = new EventSource(url);
  const on = (name, act) => source.addEventListener(name, (e) => { heardAt = Date.now(); act(e); });
  on("hello", (e) => {
    if (brokenAt && Date.now() - brokenAt > 3000) announce("Reconnected");
    if (brokenAt) line("");
    brokenAt = 0; tries = 0; lastAt = Date.now();
    if (e.data !== about.version) line("samnode was updated.", make("a", { href: location.href, textContent: "Reload" }));
  });
  on("patch", (e) => {
    cursor = e.lastEventId || cursor;
    lastAt = Date.now();
    patch(e.data);
  });
  on("nodes", (e) => around(JSON.parse(e.data)));
  on("beat", () => {});
  source.onerror = () => {
    brokenAt ||= Date.now();
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, Math.min(30000, 500 * 2 ** tries++));
    check();
  };
}

function rest() {
  source?.close();
  source = null;
  resting = true;
  brokenAt = 0;
}

setInterval(() => {
  tick();
  if (brokenAt && Date.now() - brokenAt >= 3000) line("Reconnecting to " + about.node + "… last item " + new Date(lastAt).toLocaleTimeString([], { hour12: false }));
  if (!resting && brokenAt) check();
}, 1000);

// mind checks as soon as this node has been silent for too long.
function mind() {
  const left = heardAt + (source ? QUIET : ASKED) - Date.now();
  if (left <= 0 && !resting && !document.hidden) check();
  setTimeout(mind, left > 0 ? left : document.hidden ? 1000 : 250);
}
setTimeout(mind, QUIET);

// Mobile data: a hidden page rests, and catches up by its cursor. Elsewhere it
// rests when the connections are needed by pages that were looked at since.
const me = ulid(), newer = new Set();
const tabs = "BroadcastChannel" in window ? new BroadcastChannel("samnode") : null;
if (tabs) tabs.onmessage = (e) => {
  newer.add(e.data);
  if (document.hidden && newer.size >= HIDDEN && !resting) rest();
};
document.addEventListener("visibilitychange", () => {
  if (document.hidden) { if (matchMedia("(pointer: coarse)").matches) rest(); return; }
  newer.clear();
  tabs?.postMessage(me);
  if (resting) connect();
});

// --- the other nodes: a page whose node died goes on at one of them ---

// Under "samnode open" the address stays: its proxy finds a node that lives.
const stays = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname) && location.origin !== about.self;
const reachable = about.reach.split(" ").filter((url) => url && (location.protocol === "http:" || url.startsWith("https:")));
let others = reachable.filter((url) => about.others.split(" ").includes(url)), looking = false, moving = false;
const pause = (ms) => new Promise((r) => setTimeout(r, ms));

// around hears who answers now, and where a page of the proxy is.
function around({ node, others: list }) {
  others = list.filter((url) => reachable.includes(url)); // the page's policy names those alone
  if (node === about.node) return;
  about.node = node;
  const name = $(".brand .node");
  if (name) name.textContent = node;
  line("Now on " + node + ". Nothing was missed.", null, 4000);
}

// answers asks a node how far its log is; -1: it does not answer. A page that
// was opened by another name than the node's own may not read the answer, but
// it learns that there is one.
async function answers(base, ms, mode = "cors") {
  const stop = new AbortController(), timer = setTimeout(() => stop.abort(), ms);
  try {
    const answer = await fetch(base + "/api/v1/version", { mode, cache: "no-store", credentials: base ? "omit" : "same-origin", signal: stop.signal });
    if (answer.type === "opaque") return 0;
    if (!answer.ok) return !base && answer.status < 500 ? 0 : -1;
    return (await answer.json()).index || 0;
  } catch {
    return base && mode === "cors" && !stop.signal.aborted ? answers(base, ms, "no-cors") : -1;
  } finally { clearTimeout(timer); }
}

// lives asks this node. One that refuses may be between two lives, so it is
// asked once more; one that says nothing is dead when the time is over.
async function lives() {
  const end = Date.now() + PATIENCE;
  if (await answers("", PATIENCE) >= 0) return true;
  await pause(Math.min(150, end - Date.now()));
  return Date.now() < end && await answers("", end - Date.now()) >= 0;
}

// living are the nodes that answer, as far as they have by the time that this
// one is found dead, or the first to answer after that, and who is not much slower.
async function living(dead) {
  const found = [];
  let first = null;
  const one = new Promise((ok) => { first = ok; });
  const ask = async (url) => {
    const index = await answers(url, 2000);
    if (index >= 0) { found.push({ url, index }); first(); }
  };
  const all = Promise.all(reachable.map(ask));
  if (!await dead) return [];
  await Promise.race([all, one.then(() => pause(100))]);
  return found;
}

// check looks whether this node lives, and goes where one does. The others are
// asked meanwhile, unless this one answers at once.
async function check() {
  if (looking || moving) return;
  if (stays) { if (source && Date.now() - heardAt > QUIET) connect(); return; }
  looking = true;
  try {
    const alive = lives();
    if (await Promise.race([alive, pause(brokenAt ? 0 : 250)]) !== true) {
      const found = await living(alive.then((yes) => !yes));
      if (!await alive) { leave(found); return; }
    }
    if (source && Date.now() - heardAt > QUIET) connect();
    if (!source) { heardAt = Date.now(); if (brokenAt) line(""); brokenAt = 0; }
  } finally { looking = false; }
}

// leave goes on at one that has what the reader has seen, and not at the same
// for all readers.
function leave(found) {
  brokenAt ||= Date.now();
  const good = found.filter(({ index }) => index >= Number(cursor)), most = found.toSorted((a, b) => b.index - a.index)[0];
  if (most) move((good[Math.floor(Math.random() * good.length)] || most).url);
}

const fieldsOf = "input:not([type=hidden], [type=password], [type=search]), textarea, select";

// fields are the inputs of the page, under names that are the same elsewhere.
function fields() {
  const seen = {};
  return $$(fieldsOf).filter((el) => el.name && el.form && el.dataset.submit === undefined).map((el) => {
    let box = el.parentElement;
    while (box && !idOf(box)) box = box.parentElement;
    const key = [box ? idOf(box) : "", el.name, /radio|checkbox/.test(el.type) ? el.value : ""].join(" ");
    seen[key] = (seen[key] || 0) + 1;
    return [key + " " + seen[key], el];
  });
}

const typed = (el) => /radio|checkbox/.test(el.type) ? el.checked !== el.defaultChecked
  : el.matches("select") ? [...el.options].some((o) => o.selected !== o.defaultSelected) : el.value !== el.defaultValue;

// place is what the reader looks at: an item and its distance from the top.
function readingAt() {
  if (!scroller) return { y: scrollY };
  if (atEnd()) return {};
  const edge = scroller.getBoundingClientRect().top;
  const item = $$(".item", stream).find((el) => el.offsetParent && el.getBoundingClientRect().bottom > edge);
  return item ? { item: item.id, top: item.getBoundingClientRect().top - edge } : {};
}

// move goes on at another node. What was typed, what is not sent yet and where
// the reader is go along behind the #, which no server sees; the referrer tells
// the other node that this page is one of the mesh's own.
function move(to) {
  moving = true;
  const at = { hash: location.hash, reading: readingAt(), side: $(".side")?.scrollTop, says: [...unsaid.values()], posts: [...unsent.values()],
    fields: fields().filter(([, el]) => typed(el)).map(([key, el]) => [key, /radio|checkbox/.test(el.type) ? el.checked : el.value]) };
  const url = new URL(location.pathname + location.search, to);
  if (Number(cursor)) url.searchParams.set("after", cursor);
  url.hash = "moved=" + encodeURIComponent(JSON.stringify(at));
  document.head.append(make("meta", { name: "referrer", content: "origin" }));
  location.replace(url);
}

// arrive takes up what a page brought along from a node that died.
async function arrive() {
  const here = new URL(location.href), text = here.hash.startsWith("#moved=") && here.hash.slice(7);
  if (!text && !here.searchParams.has("after")) return;
  let at = null;
  try { at = text && JSON.parse(decodeURIComponent(text)); } catch { /* cut by whoever passed it on */ }
  here.searchParams.delete("after");
  here.hash = about.moved && at?.hash || "";
  history.replaceState(null, "", here);
  if (!at) return;
  if (!about.moved) { strangers(at); return; }
  const values = new Map(at.fields);
  line("Now on " + about.node + ". Nothing was missed.", null, 4000);
  announce("Now on " + about.node);
  for (const [key, el] of fields()) {
    if (!values.has(key)) continue;
    if (/radio|checkbox/.test(el.type)) el.checked = values.get(key); else el.value = values.get(key);
    if (el.matches("textarea[data-grow]")) { grow(el); draft(el); }
    const fold = el.closest("details:not([open])");
    if (fold) { fold.open = true; fold.dataset.touched = ""; }
  }
  for (const { id, text, steer } of at.says || []) say($("#composer"), text, steer, id);
  for (const { id, url, body } of at.posts || []) deliver(id, url, body);
  if ($(".side") && at.side) $(".side").scrollTop = at.side;
  await readAt(at.reading || {});
}

// strangers says that a text came with a link: anybody can write one.
function strangers(at) {
  const box = $("#composer textarea, .new textarea");
  let texts = [];
  try { texts = at.fields.filter(([key]) => / text /.test(key)).map(([, value]) => String(value)).concat(at.says.map((one) => String(one.text))); } catch { /* not written by move */ }
  if (!box || !texts.length) return;
  box.value = texts.join("\n\n");
  box.before(make("p", { className: "note needs", textContent: "This text came from a link. Read it before you send it." }));
  grow(box);
}

async function readAt({ item, top, y }) {
  if (y) scrollTo(0, y);
  if (!item || !scroller) return;
  for (let n = 0; n < 40 && !document.getElementById(item) && $("#earlier"); n++) await loadEarlier();
  const el = document.getElementById(item), seen = el?.closest(".run:not([open])") || el;
  if (seen) scroller.scrollTop += seen.getBoundingClientRect().top - scroller.getBoundingClientRect().top - top;
}

// --- sending ---

// What no node has answered yet goes along when the page moves: sent again
// under its id it changes nothing twice.
const unsaid = new Map(), unsent = new Map();

function formBody(form, extra, submitter) {
  const body = new URLSearchParams(new FormData(form));
  if (submitter?.name) body.set(submitter.name, submitter.value);
  for (const [k, v] of Object.entries(extra)) body.set(k, v);
  return body.toString();
}

async function post(url, body) {
  const headers = { "X-Samnode": "1", "Content-Type": "application/x-www-form-urlencoded" };
  const answer = await fetch(url, { method: "POST", body, headers, redirect: "follow" });
  if (!answer.ok) throw Object.assign(new Error((await answer.text()).trim().slice(0, 400) || "HTTP " + answer.status), { status: answer.status });
  return answer;
}

// Errors of the way there are tried again under the same id for 30 s, and for as
// long as the mesh says that it cannot write.
async function persist(send) {
  const until = Date.now() + 30000;
  for (let wait = 300; ; wait = Math.min(4000, wait * 2)) {
    try { return await send(); } catch (err) {
      if ((err.status && ![500, 502, 503, 504].includes(err.status)) || (Date.now() > until && !$("#mesh .bad"))) throw err;
      await new Promise((r) => setTimeout(r, wait));
    }
  }
}

function bubble(id, text) {
  const words = make("div", { className: "md" });
  for (const part of text.split(/\n{2,}/)) {
    const p = make("p");
    part.split("\n").forEach((l, i) => { if (i) p.append(document.createElement("br")); p.append(l); });
    words.append(p);
  }
  const who = make("h2", {}, make("span", { className: "by", textContent: main.dataset.person.split("@")[0] }), make("span", { className: "faint state", textContent: "sending" }));
  const el = make("article", { id: "m-" + id, className: "item k-user sending" }, make("div", { className: "bubble" }, who, words));
  el.dataset.order = String(Number.MAX_SAFE_INTEGER);
  return el;
}

// deliver posts a body until a node answers.
async function deliver(id, url, body) {
  unsent.set(id, { id, url, body });
  busy(true);
  try { await persist(() => post(url, body)); return true; } catch (err) { toast(err.message, true); } finally {
    busy(false);
    if (!moving) unsent.delete(id);
  }
}

async function say(form, text, steer, id = ulid()) {
  if (!form || typeof text !== "string") return;
  unsaid.set(id, { id, text, steer });
  document.getElementById("m-" + id)?.remove();
  const el = bubble(id, text);
  stream.append(el);
  scroller.scrollTop = 0;
  try {
    await persist(() => post(form.getAttribute("action"), formBody(form, { id, text, ...(steer ? { steer: "1" } : {}) })));
    unsaid.delete(id);
  } catch (err) {
    if (document.getElementById("m-" + id) !== el || !el.matches(".sending")) { unsaid.delete(id); return; } // it arrived after all
    el.className = "item k-user unsent";
    $(".state", el).textContent = "not sent: " + err.message;
    const again = make("button", { type: "button", textContent: "Retry" });
    const drop = make("button", { type: "button", className: "quiet", textContent: "Dismiss" });
    again.onclick = () => say(form, text, steer, id);
    drop.onclick = () => { unsaid.delete(id); el.remove(); };
    $(".bubble", el).append(make("div", { className: "under" }, again, drop));
    announce("Not sent");
  }
}

document.addEventListener("submit", async (e) => {
  const form = e.target, button = e.submitter;
  if (button?.dataset.sure && !button.matches(".sure")) { // destroying needs a second press within 2 s
    e.preventDefault();
    const text = button.textContent;
    button.classList.add("sure");
    button.textContent = button.dataset.sure;
    setTimeout(() => { button.classList.remove("sure"); button.textContent = text; }, 2000);
    return;
  }
  if (form.getAttribute("id") === "composer") { // form.id is the hidden input
    e.preventDefault();
    const box = form.elements.text, text = box.value;
    if (!text.trim()) return;
    box.value = "";
    draft(box);
    grow(box);
    await say(form, text, button?.name === "steer");
    return;
  }
  if (form.dataset.live !== undefined) {
    e.preventDefault();
    const id = ulid(), off = $$("button", form), data = formBody(form, { id }, button);
    off.forEach((b) => { b.disabled = true; });
    const open = await deliver(id, form.getAttribute("action"), data) && form.closest(".queued details");
    if (open) open.open = false;
    off.forEach((b) => { b.disabled = false; });
    return;
  }
  if (brokenAt && !stays && others.length && form.getAttribute("method") === "post") {
    e.preventDefault();
    toast(about.node + " does not answer. What you typed is kept: send it when the page is on another node.", true);
    check();
    return;
  }
  if (form.dataset.once !== undefined) {
    store.set("once", JSON.stringify([form.elements.text?.dataset.draft || "", location.pathname]));
    busy(true);
  }
});

document.addEventListener("change", (e) => {
  const el = e.target;
  if (el.dataset.submit !== undefined && el.form) el.form.requestSubmit();
  if (el.dataset.pref === "theme") {
    store.set("theme", el.value === "system" ? "" : el.value);
    html.dataset.theme = el.value;
  } else if (el.dataset.pref) {
    const on = el.dataset.pref === "letters" ? !el.checked : el.checked; // letters are on unless switched off
    store.set("pref." + el.dataset.pref, on ? "1" : "");
  }
});

for (const el of $$("[data-pref]")) {
  if (el.dataset.pref === "theme") el.value = store.get("theme") || "system";
  else el.checked = (el.dataset.pref === "letters") !== Boolean(store.get("pref." + el.dataset.pref));
}

// --- boxes: drafts and height ---

function grow(box) {
  box.style.height = "auto";
  box.style.height = Math.min(250, box.scrollHeight) + "px";
}

function draft(box) {
  if (box.dataset.draft) store.set("draft." + box.dataset.draft, box.value);
}

// A draft is done with once its form has led to another page.
try {
  const [name, from] = JSON.parse(store.get("once") || "[]");
  if (from && from !== location.pathname) store.set("draft." + name, "");
  if (from) store.set("once", "");
} catch { /* not ours */ }

for (const box of $$("textarea[data-grow]")) {
  const kept = box.dataset.draft && store.get("draft." + box.dataset.draft);
  if (kept && !box.value) box.value = kept;
  if (box.value) grow(box);
}

document.addEventListener("input", (e) => {
  if (!e.target.matches("textarea[data-grow]")) return;
  grow(e.target);
  draft(e.target);
});

// --- clicks ---

async function copyText(text) {
  try { await navigator.clipboard.writeText(text); return true; } catch { /* plain HTTP has no clipboard: the old way */ }
  const box = make("textarea", { value: text, readOnly: true, className: "sr" });
  document.body.append(box);
  box.select();
  const done = document.execCommand("copy");
  box.remove();
  return done;
}

document.addEventListener("click", async (e) => {
  const el = e.target;
  const summary = el.closest("summary");
  if (summary) summary.parentElement.dataset.touched = "";
  for (const menu of $$("details.menu[open]")) if (!menu.contains(el)) menu.open = false;
  const copy = el.closest("[data-copy], .copy");
  if (copy) {
    const text = copy.dataset.copy ?? $("code", copy.closest(".code")).textContent;
    await copyText(text) ? toast("Copied") : toast("This browser does not allow copying here.", true);
  }
  const act = el.closest("[data-do]")?.dataset.do;
  if (act === "palette") openPalette();
  if (act === "close") el.closest("dialog").close();
  if (el.closest(".tool > summary a")) e.stopPropagation();
  if (el.id === "newer") { scroller.scrollTop = 0; unseen = 0; unseenAsk = false; newerPill(); }
  const earlier = el.closest("#earlier");
  if (earlier) { e.preventDefault(); loadEarlier(); }
});

let loading = false;
async function loadEarlier() {
  const link = $("#earlier");
  if (!link || loading) return;
  loading = true;
  busy(true);
  try {
    const answer = await fetch(link.href);
    if (!answer.ok) throw new Error("HTTP " + answer.status);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const older = [...$("#stream", page).children].filter((el) => el.id === "earlier" || (el.matches(".item") && !document.getElementById(el.id)));
    older.forEach((el) => localTimes(el));
    link.remove();
    stream.prepend(...older.map((el) => document.adoptNode(el)));
    foldRuns();
    watchTop();
  } catch (err) { toast("Earlier messages did not load: " + err.message, true); }
  busy(false);
  loading = false;
}

// A waiting card is pinned above the composer while it is out of sight.
const askSeen = scroller && new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) {
    const pin = $('.pinned a[href="#' + CSS.escape(target.id) + '"]');
    pin?.parentElement.classList.toggle("away", !isIntersecting);
  }
}, { root: scroller });
function watchAsks() {
  if (!askSeen) return;
  askSeen.disconnect();
  for (const pin of $$(".pinned a")) {
    const card = document.getElementById(pin.hash.slice(1));
    if (card) askSeen.observe(card);
    else pin.parentElement.classList.add("away");
  }
}

let topSeen = null;
function watchTop() {
  topSeen?.disconnect();
  const link = $("#earlier");
  if (!link || !scroller) return;
  topSeen = new IntersectionObserver((seen) => { if (seen[0].isIntersecting && scroller.scrollTop < -NEAR) loadEarlier(); }, { root: scroller, rootMargin: "400px" });
  topSeen.observe(link);
}

scroller?.addEventListener("scroll", () => {
  if (atEnd() && unseen) { unseen = 0; unseenAsk = false; newerPill(); }
}, { passive: true });

// --- keys ---

let chord = "", chordAt = 0, rejectAt = 0;
const go = (url) => { location.href = url; };
const views = { c: "", d: "/diff", f: "/files", t: "/terminal", p: "/ports", e: "/access", l: "/log" };
const places = { t: "/", p: "/projects", m: "/nodes", o: "/pool", s: "/settings", n: "/?f=s:needs" };

function step(by) {
  const inList = !main || document.activeElement?.closest(".side");
  const all = inList ? $$("#tasks .row").filter((el) => el.offsetParent) : $$(".item:not([hidden])", stream);
  if (!all.length) return;
  const at = all.findIndex((el) => el.matches(".at"));
  all[at]?.classList.remove("at");
  const next = all[at < 0 ? (inList ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + by))];
  next.classList.add("at");
  if (!next.matches("a")) next.tabIndex = -1;
  next.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
}

function turn(by) {
  const turns = $$(".k-user:not([hidden])", stream);
  const edge = scroller.getBoundingClientRect().top + 12;
  const next = by < 0 ? turns.findLast((el) => el.getBoundingClientRect().top < edge - 4) : turns.find((el) => el.getBoundingClientRect().top > edge + 4);
  next?.scrollIntoView({ block: "start" });
}

function openAsk() {
  const near = document.activeElement?.closest(".ask.open");
  return near || $(".ask.open");
}

function choose(pick) {
  const button = pick(openAsk());
  if (!button) return;
  button.closest(".item")?.scrollIntoView({ block: "nearest" });
  button.click();
}

function nextNeeds() {
  const rows = $$("#g-needs .row");
  if (!rows.length) { announce("Nobody waits for you"); toast("Nobody waits for you."); return; }
  const at = rows.findIndex((el) => el.matches("[aria-current]"));
  go(rows[(at + 1) % rows.length].href);
}

const letters = {
  "?": () => $("#help").showModal(),
  "/": () => ($('[data-key="/"]') ? $('[data-key="/"]').focus() : openPalette()),
  c: () => { const box = $(".new textarea"); box ? box.focus() : $('[data-key="c"]')?.click(); },
  j: () => step(1),
  k: () => step(-1),
  e: nextNeeds,
  f: () => {
    const b = document.body.classList;
    if (b.contains("zen")) b.remove("zen");
    else if (b.contains("focus")) { b.remove("focus"); b.add("zen"); } else b.add("focus");
  },
  "[": () => stream && turn(-1),
  "]": () => stream && turn(1),
  a: () => choose((ask) => ask && ($('[data-kind="allow_once"]', ask) || $(".o-go", ask))),
  r: () => {
    const button = openAsk() && $('[data-kind="reject_once"], [data-kind="reject_always"]', openAsk());
    if (!button) return;
    if (Date.now() - rejectAt < 2000) { rejectAt = 0; button.click(); return; }
    rejectAt = Date.now();
    button.focus();
    toast("Press r again to reject.");
  },
  n: () => file(1),
  p: () => file(-1),
};

function file(by) {
  const files = $$("details.file");
  if (!files.length) return;
  const at = files.findIndex((el) => el.contains(document.activeElement));
  const next = files[Math.min(files.length - 1, Math.max(0, at + by))];
  next.scrollIntoView({ block: "start" });
  $("summary", next).focus();
}

function chordKey(key) {
  const first = Date.now() - chordAt < 500 ? chord : "";
  chord = "";
  if (first === "g" && places[key]) { go(places[key]); return true; }
  if (first === "v" && main && views[key] !== undefined) { go("/t/" + main.dataset.task + views[key]); return true; }
  if (key === "g" || (key === "v" && main)) { chord = key; chordAt = Date.now(); return true; }
  return false;
}

document.addEventListener("keydown", (e) => {
  if (e.defaultPrevented || e.isComposing || e.target.closest?.("#term")) return;
  const cmd = e.metaKey || e.ctrlKey, typing = e.target.matches?.("input:not([type=radio]):not([type=checkbox]), textarea, select");
  if (cmd && !e.altKey && e.key.toLowerCase() === "k") { e.preventDefault(); openPalette(); return; }
  if (cmd && e.key === ".") { e.preventDefault(); $("#stop-form")?.requestSubmit(); return; }
  if (e.target.matches?.("textarea") && e.key === "Enter" && e.target.form) {
    const plain = store.get("pref.enter") && !e.shiftKey && !matchMedia("(pointer: coarse)").matches;
    if (!cmd && !plain) return;
    e.preventDefault();
    const steer = cmd && e.shiftKey && $("[name=steer]", e.target.form);
    e.target.form.requestSubmit(steer && steer.offsetParent ? steer : undefined);
    return;
  }
  if (e.target.matches?.("#composer textarea") && e.key === "ArrowUp" && !e.target.value) {
    const last = $$("#queue details").at(-1);
    if (last) { e.preventDefault(); last.open = true; last.dataset.touched = ""; $("textarea", last)?.focus(); }
    return;
  }
  if (e.key === "Escape" && !$("dialog[open]")) {
    const menu = $("details.menu[open]");
    if (menu) { menu.open = false; $("summary", menu).focus(); }
    else if (typing) e.target.blur();
    else if (main && !$(".split.view-chat")) go("/t/" + main.dataset.task);
    else document.body.classList.remove("focus", "zen");
    return;
  }
  if (typing || cmd || e.altKey || $("dialog[open]") || store.get("pref.letters")) return;
  if (e.key === "ArrowDown" || e.key === "ArrowUp") {
    if (!main && !e.target.matches("summary, button")) { e.preventDefault(); step(e.key === "ArrowDown" ? 1 : -1); }
    return;
  }
  if (chordKey(e.key)) { e.preventDefault(); return; }
  if (/^[1-9]$/.test(e.key)) { choose((ask) => ask && $('[data-n="' + e.key + '"]', ask)); return; }
  if (letters[e.key]) { e.preventDefault(); letters[e.key](); }
});

// --- palette ---

const palette = $("#palette");
let entries = [], picked = 0;

async function openPalette() {
  if (palette.open) return;
  palette.showModal();
  const input = $("input", palette);
  input.value = "";
  entries = actions().concat(rowsOf(document));
  filterPalette("");
  if (!list) {
    const answer = await fetch("/").catch(() => null); // without it the palette has pages and actions
    if (answer?.ok) entries = actions().concat(rowsOf(new DOMParser().parseFromString(await answer.text(), "text/html")));
    filterPalette(input.value);
  }
}

const rowsOf = (root) => $$("#tasks .row", root).map((el) => ({ name: $(".name", el).textContent, note: $(".sr", el)?.textContent || "task", run: () => go(el.getAttribute("href")) }));

function actions() {
  const out = [["Tasks", "g t", "/"], ["Needs you", "g n", "/?f=s:needs"], ["Projects", "g p", "/projects"], ["New project", "", "/projects/new"], ["Nodes", "g m", "/nodes"], ...($('a[href="/pool"]') ? [["Pool", "g o", "/pool"]] : []), ["Settings", "g s", "/settings"]]
    .map(([name, note, url]) => ({ name, note, run: () => go(url) }));
  if (main) {
    for (const tab of $$(".tabs a")) out.unshift({ name: tab.textContent.trim(), note: "v " + (Object.keys(views).find((k) => tab.getAttribute("href").endsWith(views[k] || main.dataset.task)) || ""), run: () => go(tab.getAttribute("href")) });
    if ($("#stop-form")) out.unshift({ name: "Stop this task", note: "Ctrl .", run: () => $("#stop-form").requestSubmit() });
  }
  out.push({ name: "Keys", note: "?", run: () => $("#help").showModal() });
  return out;
}

function filterPalette(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const found = entries.filter((x) => words.every((w) => x.name.toLowerCase().includes(w))).slice(0, 40);
  picked = 0;
  $("ul", palette).replaceChildren(...found.map((x, i) => {
    const li = make("li", { id: "p-" + i }, make("span", { textContent: x.name }), make("span", { className: "faint", textContent: x.note }));
    li.setAttribute("role", "option");
    li.setAttribute("aria-selected", String(i === 0));
    li.onclick = () => { palette.close(); x.run(); };
    return li;
  }));
}

palette?.addEventListener("input", (e) => filterPalette(e.target.value));
palette?.addEventListener("click", (e) => { if (e.target === palette) palette.close(); });
palette?.addEventListener("keydown", (e) => {
  const all = $$("li", palette);
  if (e.key === "Enter") { e.preventDefault(); all[picked]?.click(); return; }
  if ((e.key !== "ArrowDown" && e.key !== "ArrowUp") || !all.length) return;
  e.preventDefault();
  all[picked].setAttribute("aria-selected", "false");
  picked = (picked + (e.key === "ArrowDown" ? 1 : -1) + all.length) % all.length;
  all[picked].setAttribute("aria-selected", "true");
  all[picked].scrollIntoView({ block: "nearest" });
  $("input", palette).setAttribute("aria-activedescendant", all[picked].id);
});

// --- the address: a line or a range of a file, an item of the stream ---

function fromHash() {
  const range = /^#L(\d+)(?:-L?(\d+))?$/.exec(location.hash);
  $$(".picked").forEach((el) => el.classList.remove("picked"));
  if (range) {
    for (let n = Number(range[1]); n <= Math.min(Number(range[2] || range[1]), Number(range[1]) + 5000); n++) document.getElementById("L" + n)?.classList.add("picked");
    document.getElementById("L" + range[1])?.scrollIntoView({ block: "center" });
  }
  if (location.hash.startsWith("#f-")) { const f = document.getElementById(location.hash.slice(1)); if (f) f.open = true; }
}
addEventListener("hashchange", fromHash);

// Keys are written in words; a Mac has signs for them.
if (/Mac|iP/.test(navigator.platform)) {
  for (const el of $$("kbd, .hint")) el.textContent = el.textContent.replace("Ctrl ", "⌘").replace("⇧ ", "⇧");
}
$(".tabs [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
localTimes(document);
tick();
title();
fromHash();
if (stream) { foldRuns(); watchTop(); watchAsks(); }
connect();
tabs?.postMessage(me);
arrive();
})();
