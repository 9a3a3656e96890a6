// Uploads of the files panel, one after the other, with their progress. Without
// this script the form does the same.
"use strict";
(() => {
  const form = document.getElementById("upload"), dir = document.getElementById("dir");
  if (!form || !dir) return;
  const names = () => new Set([...dir.querySelectorAll("a:not(.was) .name")].map((el) => el.textContent));
  let list, going = false;

  function row(file) {
    if (!list) {
      list = document.createElement("ul");
      list.id = "uploads";
      list.setAttribute("aria-label", "Uploads");
      dir.before(list);
    }
    const li = document.createElement("li"), name = document.createElement("span"), bar = document.createElement("progress"), stop = document.createElement("button");
    name.className = "mono";
    name.textContent = file.name;
    bar.max = file.size || 1;
    bar.value = 0;
    stop.type = "button";
    stop.className = "quiet";
    stop.textContent = "Cancel";
    li.append(name, bar, stop);
    list.append(li);
    return { li, bar, stop };
  }

  function send(file, replace, at) {
    return new Promise((done) => {
      const body = new FormData(), ask = new XMLHttpRequest();
      if (replace) body.append("replace", "1");
      body.append("name", file.name);
      body.append("file", file);
      ask.upload.onprogress = (e) => { at.bar.max = e.total; at.bar.value = e.loaded; };
      ask.onload = () => done(ask.status < 300 ? null : { status: ask.status, text: ask.responseText.trim().slice(0, 400) || "HTTP " + ask.status });
      ask.onerror = () => done({ status: 0, text: "The node does not answer." });
      ask.onabort = () => done({ status: -1, text: "Cancelled; nothing was written." });
      at.stop.onclick = () => ask.abort();
      ask.open("POST", form.getAttribute("action"));
      ask.setRequestHeader("X-Samnode", "1");
      ask.send(body);
    });
  }

  async function take(files) {
    if (going || !files.length) return;
    going = true;
    const there = names(), all = form.elements.replace.checked, rows = files.map((f) => [f, row(f)]);
    let bad = 0;
    for (const [file, at] of rows) {
      let replace = all, err = null;
      if (!replace && there.has(file.name)) {
        replace = confirm(file.name + " is there already. Replace it?");
        if (!replace) err = { text: "Left as it was." };
      }
      if (!err) err = await send(file, replace, at);
      at.stop.remove();
      if (!err) { at.bar.value = at.bar.max; continue; }
      bad++;
      at.bar.remove();
      const why = document.createElement("span");
      why.className = "bad";
      why.setAttribute("role", "alert");
      why.textContent = err.text;
      at.li.append(why);
    }
    going = false;
    if (!bad) location.reload();
  }

  form.addEventListener("submit", (e) => {
    e.preventDefault();
    form.querySelector("details").open = false;
    take([...form.elements.file.files]);
  });

  // Folders have no content that a page can send as one file.
  const files = (data) => [...data.items].filter((i) => i.kind === "file" && !i.webkitGetAsEntry?.()?.isDirectory).map((i) => i.getAsFile());
  const panel = document.getElementById("panel");
  panel.addEventListener("dragover", (e) => {
    if (![...e.dataTransfer.types].includes("Files")) return;
    e.preventDefault();
    dir.classList.add("over");
  });
  panel.addEventListener("dragleave", (e) => { if (!panel.contains(e.relatedTarget)) dir.classList.remove("over"); });
  panel.addEventListener("drop", (e) => {
    e.preventDefault();
    dir.classList.remove("over");
    take(files(e.dataTransfer));
  });
})();
