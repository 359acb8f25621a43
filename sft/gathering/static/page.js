// What an expert writes is kept at once in the browser and soon on the server's disk, and leaves neither before the other has it.
"use strict";

const $ = (id) => document.getElementById(id);
const PAUSE = 800, AGAIN = 2000, IDLE = 30000, SMALL = 60000, NOTE = 20000;
const AWAY = "The server is away; try again when it is back.";

function alertWith(words) {
  $("alert").textContent = words || "";
  $("alert").hidden = !words;
}

async function post(where, what, keepalive = false) {
  // An answer without JSON is no answer of ours: something stands in between, or the server is on its way out.
  const answer = await fetch(where, {
    method: "POST", headers: { "Content-Type": "application/json" }, keepalive, signal: keepalive ? undefined : AbortSignal.timeout(20000),
    body: JSON.stringify({ as: document.body.dataset.as, ...what }), // whose page it is: the browser may be another's by now
  });
  return { status: answer.status, ok: answer.ok, ...(await answer.json()) };
}

// Buttons and forms of all pages: data-do says what, data-to whom, the rest goes along.
async function send(where, what) {
  const answer = await post(where, what).catch(() => ({ error: AWAY }));
  alertWith(answer.ok ? "" : answer.error);
  if (answer.link && $("link")) $("link").textContent = `The link of ${what.text}: ${answer.link}`;
  else if (answer.ok) location.assign(what.kind === "withdrawn" ? "/list" : answer.next);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do]");
  if (button) send(button.dataset.to || "/do", { kind: button.dataset.do, ...button.dataset });
});
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.dataset.kind) return;
  event.preventDefault();
  send(form.dataset.to, { kind: form.dataset.kind, ...Object.fromEntries(new FormData(form)) });
});

// Characters that hide or reorder others are spelled out, as on the server.
const HIDDEN = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029\ufeff]/g;
function paint(element, text, tag) {
  const holder = tag ? element.appendChild(document.createElement(tag.name)) : element;
  if (tag && tag.kind) holder.className = tag.kind;
  let at = 0;
  for (const found of text.replaceAll("\r\n", "\n").matchAll(HIDDEN)) {
    holder.append(text.slice(at, found.index));
    const code = found[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    paint(holder, "U+" + code, { name: "span", kind: "hidden-char" });
    at = found.index + found[0].length;
  }
  holder.append(text.slice(at));
}

const fill = (element, text) => { element.replaceChildren(); paint(element, text); };

function words(text) { // the places where words end
  if (!window.Intl || !Intl.Segmenter) return [...text.matchAll(/\S+/g)].map((word) => word.index + word[0].length);
  const cut = new Intl.Segmenter(undefined, { granularity: "word" }).segment(text);
  return [...cut].filter((part) => part.isWordLike).map((part) => part.index + part.segment.length);
}

function writing(data, box) {
  const tab = Array.from(crypto.getRandomValues(new Uint8Array(8)), (b) => b.toString(16).padStart(2, "0")).join("");
  const place = `sft:${data.gathering}:${data.expert}:${data.item}`;
  const began = performance.now();
  let rev = data.rev, sent = data.text, wish = null, busy = false, waits = 0, moment = began, active = 0, keys = 0, pasted = 0;
  let other = null, composing = false, left = false, counting = 0, ctrlS = 0; // ctrlS: when it was pressed last

  const say = (words) => { $("status").textContent = words; };
  const seconds = (ms) => Math.round(ms / 100) / 10;
  const told = (kind, more) => ({ kind, item: data.item, rev, window: tab, seconds: seconds(active),
    wall_seconds: seconds(performance.now() - began), keys, pasted, ...more });

  function keep() { // in this browser, at once
    try {
      if (box.value === sent) localStorage.removeItem(place);
      else localStorage.setItem(place, JSON.stringify({ text: box.value, rev, window: tab }));
    } catch { /* the browser keeps nothing; the server does */ }
  }
  const later = (pause) => { clearTimeout(waits); waits = setTimeout(flush, pause); };

  async function flush() {
    if (busy || other || left) return;
    clearTimeout(waits);
    // What is skipped or flagged keeps its text: that goes first.
    const text = box.value, what = wish && (wish.kind === "submitted" || text === sent) ? wish : null;
    if (!what && text === sent) return say(text ? "saved" : "");
    busy = true;
    say("saving");
    const answer = await post("/do", what ? told(what.kind, { text, ...what.more }) : told("draft", { text })).catch(() => null);
    busy = false;
    if (left) return;
    if (answer && answer.status === 409 && "text" in answer) return conflict(answer);
    if (!answer || !answer.ok) {
      say("not saved");
      alertWith(answer ? answer.error : "The server is away. Your text is kept in this browser, and sent when the server is back.");
      const again = !answer || answer.status === 507 || answer.status >= 520;
      return again ? later(AGAIN) : (wish = null);
    }
    alertWith("");
    rev = answer.rev;
    sent = what && what.more.accept ? sent : text;
    keep();
    if (what) {
      left = true;
      localStorage.removeItem(place);
      return location.assign(answer.next);
    }
    say(box.value === sent ? "saved" : "saving");
    if (answer.guidelines !== data.guidelines) alertWith("The guidelines have changed. Your text is saved; open this page again to read them.");
    if (wish || box.value !== sent) later(wish ? 0 : PAUSE);
  }

  const act = (kind, more = {}) => { wish = { kind, more }; flush(); };
  function conflict(theirs) {
    other = theirs;
    wish = null;
    fill($("mine"), box.value);
    fill($("theirs"), theirs.text);
    say("two texts");
    $("conflict").showModal();
  }
  async function settled(mine) {
    const theirs = other;
    $("conflict").close();
    if (mine && theirs.state === "submitted") await post("/do", { ...told("reopened"), rev: theirs.rev }).then((a) => { rev = a.rev; }).catch(() => {});
    else rev = theirs.rev;
    if (!mine) box.value = theirs.text;
    sent = theirs.text;
    other = null;
    changed();
    box.focus();
    if (!mine && theirs.state === "submitted") location.assign(`/item/${data.item}`);
  }

  function changed() {
    keep();
    count();
    if (wish && !busy) wish = null;
    later(PAUSE);
  }
  function count() {
    clearTimeout(counting);
    counting = setTimeout(() => {
      const long = [...box.value].length;
      const parts = [`${long} characters`];
      if (long <= NOTE) parts.push(`${words(box.value).length} words`);
      if (data.median && long) parts.push(`${(long / data.median).toFixed(1)} × the median answer`);
      if (long > data.longest) parts.push(`more than ${data.longest}, which is refused`);
      else if (long > NOTE) parts.push("a long text: the browser may be slow");
      $("count").textContent = parts.join(" · ");
    }, box.value.length > NOTE ? 500 : 50);
  }
  function atEnd() {
    box.focus();
    box.setSelectionRange(box.value.length, box.value.length);
  }
  const put = (text) => { box.value = text; changed(); atEnd(); };

  const ends = data.clone === null ? [] : words(data.clone), slider = $("keep");
  function kept() { return slider && +slider.value ? ends[slider.value - 1] : 0; }
  function mark() {
    $("kept").textContent = slider.value;
    fill($("clone"), "");
    if (kept()) paint($("clone"), data.clone.slice(0, kept()), { name: "span", kind: "kept" });
    paint($("clone"), data.clone.slice(kept()));
  }
  if (slider) {
    slider.max = ends.length;
    slider.addEventListener("input", mark);
    $("clone").addEventListener("click", (event) => { // a click on a word keeps all before it
      const at = document.caretPositionFromPoint ? document.caretPositionFromPoint(event.clientX, event.clientY) : null;
      if (!at) return;
      const range = document.createRange();
      range.setStart($("clone"), 0);
      range.setEnd(at.offsetNode, at.offset);
      const length = range.toString().length;
      slider.value = ends.filter((end) => end <= length).length;
      mark();
    });
  }

  async function show(button) {
    const open = $("changes").hidden;
    $("changes").hidden = !open;
    button.setAttribute("aria-expanded", String(open));
    if (!open) return;
    const answer = await post("/changes", { item: data.item, text: box.value }).catch(() => ({ pieces: null }));
    fill($("changes"), answer.pieces ? "" : "Too little is alike for marks to help, or nothing is written yet.");
    for (const [kind, text] of answer.pieces || []) paint($("changes"), text, kind === "same" ? null : { name: kind });
  }

  const over = () => ({ context: $("over") && $("over").checked ? "expert" : "" });
  const ACTS = {
    submit: () => act("submitted", over()),
    accept: () => data.clone !== null && act("submitted", { accept: true, ...over() }),
    edit: () => data.clone !== null && put(data.clone),
    blank: () => put(""),
    continue: () => data.clone !== null && put(data.clone.slice(0, kept())),
    show: () => data.clone !== null && show(document.querySelector("[data-act=show]")),
    skipped: () => act("skipped", { reason: $("skip-reason").value }),
    flagged: () => act("flagged", { reason: $("flag-reason").value }),
    previous: () => { flush(); history.back(); },
    mine: () => settled(true),
    theirs: () => settled(false),
  };
  const open = (id) => { const menu = $(id).closest("details"); menu.open = true; $(id).focus(); };
  const LETTERS = { a: ACTS.accept, e: ACTS.edit, b: ACTS.blank, d: ACTS.show, p: ACTS.previous, t: () => box.focus(),
    c: () => slider && (kept() ? ACTS.continue() : slider.focus()), s: () => open("skip-reason"), f: () => open("flag-reason"),
    l: () => { flush(); location.assign("/list"); } };

  document.addEventListener("keydown", (event) => {
    tick();
    // An input method may have the keys, or a dialog.
    if (event.isComposing || event.keyCode === 229 || composing || document.querySelector("dialog[open]")) return;
    const control = event.ctrlKey || event.metaKey, chosen = localStorage.getItem("sft:submit") || "ctrl";
    const sends = { ctrl: control, alt: event.altKey && !control, "ctrl-s": !control && performance.now() - ctrlS < 3000 }[chosen];
    if (event.key === "Enter" && control && event.shiftKey) ACTS.accept();
    else if (event.key === "Enter" && sends && (event.target === box || control || event.altKey)) ACTS.submit();
    else if (event.key.toLowerCase() === "s" && control && !event.shiftKey) { ctrlS = performance.now(); flush(); }
    else if (event.key === "Escape" && event.target.matches("textarea, input")) event.target.blur();
    else if (!control && !event.altKey && !event.target.matches("textarea, input, select") && LETTERS[event.key] &&
      localStorage.getItem("sft:letters") !== "off") LETTERS[event.key]();
    else return;
    event.preventDefault();
  });
  document.addEventListener("click", (event) => ACTS[event.target.closest("[data-act]")?.dataset.act]?.());

  function tick() {
    active += performance.now() - moment < IDLE ? performance.now() - moment : 0;
    moment = performance.now();
  }
  for (const kind of ["pointerdown", "pointermove", "wheel", "focusin"]) document.addEventListener(kind, tick, { passive: true });
  box.addEventListener("keydown", () => { keys += 1; });
  box.addEventListener("paste", (event) => { pasted += event.clipboardData ? event.clipboardData.getData("text").length : 0; });
  box.addEventListener("compositionstart", () => { composing = true; });
  box.addEventListener("compositionend", () => { composing = false; });
  box.addEventListener("input", changed);
  box.addEventListener("blur", flush);
  document.addEventListener("visibilitychange", () => { if (document.hidden) flush(); });
  addEventListener("pagehide", () => {
    if (left || other || box.value === sent || box.value.length * 3 >= SMALL) return; // the browser has it
    post("/do", told("draft", { text: box.value }), true).catch(() => {});
  });

  // What this browser kept and the server does not have yet.
  box.value = data.text;
  let mine = null;
  try { mine = JSON.parse(localStorage.getItem(place)); } catch { /* nothing that can be read */ }
  if (mine && mine.text !== data.text) {
    box.value = mine.text;
    if (mine.rev === data.rev || mine.window === data.window || !data.text) later(0);
    else conflict({ text: data.text, rev: data.rev, state: data.status });
  }
  count();
  if (!other) atEnd();
}

function keysDialog() {
  const letters = $("letters"), submit = $("submit-keys");
  letters.checked = localStorage.getItem("sft:letters") !== "off";
  submit.value = localStorage.getItem("sft:submit") || "ctrl";
  const name = () => { document.querySelector(".submit-keys").textContent = submit.selectedOptions[0].textContent; };
  letters.addEventListener("change", () => localStorage.setItem("sft:letters", letters.checked ? "on" : "off"));
  submit.addEventListener("change", () => { localStorage.setItem("sft:submit", submit.value); name(); });
  name();
  $("keys-button").addEventListener("click", () => $("keys").showModal());
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("textarea, input, select");
    if (event.isComposing || document.querySelector("dialog[open]")) return;
    if (event.key === "F1" || (event.key === "?" && !typing)) $("keys").showModal();
    else if (event.key === "g" && !typing && !event.ctrlKey && $("guidelines") && letters.checked) {
      $("guidelines").open = true;
      $("guidelines-text").focus();
    } else return;
    event.preventDefault();
  });
}

if (document.body.dataset.go) location.replace(document.body.dataset.go);
if (document.body.classList.contains("item")) {
  const data = JSON.parse($("data").textContent);
  if ($("guidelines") && innerWidth < 900 && $("read").hidden) $("guidelines").open = false;
  keysDialog();
  // Actions of an item that is submitted, and the guidelines of any.
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-act=judged], [data-act=reopened], [data-act=guidelines_seen]");
    if (!button) return;
    const kind = button.dataset.act, what = { kind, item: data.item, reason: button.dataset.reason || "" };
    if (kind !== "guidelines_seen") return send("/do", what);
    post("/do", what).then((answer) => { if (answer.ok) { button.hidden = true; alertWith(""); ($("text") || $("onward")).focus(); } })
      .catch(() => alertWith(AWAY));
  });
  if ($("text")) writing(data, $("text"));
  else (document.querySelector("[data-act=judged]") || $("onward")).focus();
}
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
