// Small behaviours of the pages: copy buttons, local times, confirmation by typing a name.
"use strict";

// The page's language, as the browser's region writes it where it speaks the same.
const PAGE = document.documentElement.lang;
const SPOKEN = navigator.language.startsWith(PAGE) ? navigator.language : PAGE;

// The time zone that its reader has chosen, else the browser's.
const ZONE = document.body.dataset.timeZone || Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";

function showLocalTimes(root) {
  const format = new Intl.DateTimeFormat(SPOKEN, { dateStyle: "medium", timeStyle: "medium", timeZone: ZONE });
  for (const element of root.querySelectorAll("time[datetime]:not([data-local])")) {
    const moment = new Date(element.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    element.title = element.dateTime.replace("T", " ").replace(/(\.\d+)?(\+00:00|Z)$/, " UTC");
    element.dataset.local = "yes";
    if (element.dataset.style === "clock") {
      element.textContent = moment.toLocaleTimeString(SPOKEN, { timeZone: ZONE });
    } else if (element.dataset.style === "date") {
      element.textContent = moment.toLocaleDateString(SPOKEN, { dateStyle: "medium", timeZone: ZONE });
    } else {
      element.textContent = format.format(moment);
    }
  }
}

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  const text = source.textContent.trim();
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const range = document.createRange();
    range.selectNodeContents(source);
    const selection = window.getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
    document.execCommand("copy");
  }
  const before = button.textContent;
  button.textContent = button.dataset.done;
  setTimeout(() => { button.textContent = before; }, 1500);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-copy]");
  if (button) copy(button);
  const save = event.target.closest("button[data-save]");
  if (save) saveTable(save);
  if (event.target.closest("button[data-print]")) window.print();
});

// "/" leads to the search box, unless somebody is typing.
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, [contenteditable]")) return;
  const box = document.getElementById("search-box");
  if (!box) return;
  event.preventDefault();
  box.focus();
  box.select();
});

// <form data-confirm-name="St. Anna">: the submit button works once the name is typed, as a keyboard makes it.
const bare = (name) => name.normalize("NFC").replace(/\p{Cf}/gu, "").replace(/\s+/g, " ").trim();
document.addEventListener("input", (event) => {
  const form = event.target.closest("form[data-confirm-name]");
  if (!form || event.target.name !== "confirm") return;
  form.querySelector("button[type=submit]").disabled = bare(event.target.value) !== bare(form.dataset.confirmName);
});

// A form that takes times tells the server in which zone they are; without this script they are UTC.
function tellZone() {
  for (const input of document.querySelectorAll("input[data-zone]")) input.value = ZONE;
  for (const element of document.querySelectorAll("[data-zone-name]")) element.textContent = ZONE;
}

// A slider's value stands beside it.
function showValue(input) {
  const output = input.parentElement.querySelector("output");
  if (output) output.textContent = Number(input.value).toLocaleString(SPOKEN, { useGrouping: false }) + (output.dataset.unit ? " " + output.dataset.unit : "");
}
document.addEventListener("input", (event) => {
  if (event.target.matches(".slider input")) showValue(event.target);
});

// <section data-when="adapter=lora|prefix">: shown while the choice of that name has one of these values, and
// while something in it is wrong.
function showChosen(root) {
  for (const part of root.querySelectorAll("[data-when]")) {
    const [name, values] = part.dataset.when.split("=");
    const chosen = document.querySelector(`input[name="${name}"]:checked, select[name="${name}"]`);
    const wrong = part.querySelector("[aria-invalid=true]") !== null;
    part.hidden = chosen !== null && !wrong && !values.split("|").includes(chosen.value);
  }
}
document.addEventListener("change", () => showChosen(document));

function dress(root) {
  showLocalTimes(root);
  showChosen(root);
}

// On a narrow screen the row of pages is pushed sideways: to where one is.
function showPlace() {
  for (const here of document.querySelectorAll(".nav [aria-current], .tabs [aria-current]")) {
    const row = here.closest(".nav-box, .tabs");
    row.scrollLeft = here.offsetLeft - (row.clientWidth - here.offsetWidth) / 2;
  }
}
// Parts of a long page: the address says which one is shown, by the part's name or by the id of something in it.
function showPart() {
  const box = document.querySelector("[data-shown]");
  if (!box) return;
  const name = decodeURIComponent(location.hash.slice(1));
  const links = [...box.querySelectorAll("[data-tab]")];
  const target = name ? document.getElementById(name) : null;
  const panel = target && target.closest("[data-panel]");
  const chosen = links.find((link) => link.dataset.tab === name) || links.find((link) => panel && link.dataset.tab === panel.dataset.panel) || links[0];
  for (const link of links) {
    if (link === chosen) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  box.dataset.shown = chosen.dataset.tab;
  if (panel) target.scrollIntoView();
  document.dispatchEvent(new CustomEvent("fedslice:shown"));
}
window.addEventListener("hashchange", showPart);

// A table as it stands on the page, as CSV; a cell that a spreadsheet would take for a formula is made text.
function cellText(cell) {
  const time = cell.querySelector("time[datetime]");
  const text = (time ? time.dateTime : cell.textContent).replace(/\s+/g, " ").trim();
  const safe = /^[=+\-@]/.test(text) && !/^-?[\d.]+$/.test(text) ? "'" + text : text;
  return '"' + safe.replaceAll('"', '""') + '"';
}
function saveTable(button) {
  const rows = [...document.getElementById(button.dataset.save).rows];
  const lines = rows.map((row) => [...row.cells].filter((cell) => cell.ariaHidden !== "true").map(cellText).join(","));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\r\n") + "\r\n"], { type: "text/csv" }));
  link.download = button.dataset.file;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

document.addEventListener("DOMContentLoaded", () => { showPart(); dress(document); tellZone(); showPlace(); });
window.addEventListener("resize", showPlace);
document.addEventListener("htmx:load", (event) => dress(event.detail.elt));

// Back after signing out: a page that the browser still holds whole is hidden and asked for again, and the server says no.
window.addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  document.body.hidden = true;
  location.reload();
});

// A live page that gets no answer says so, and since when; the first answer takes it back.
let heardAt = new Date();
function heard() {
  heardAt = new Date();
  document.getElementById("offline").hidden = true;
}
function unheard() {
  const box = document.getElementById("offline");
  if (!box.hidden) return;
  document.getElementById("offline-since").textContent = heardAt.toLocaleTimeString(SPOKEN, { timeZone: ZONE });
  box.hidden = false;
}
document.addEventListener("htmx:sendError", unheard);
document.addEventListener("htmx:timeout", unheard);
document.addEventListener("htmx:responseError", (event) => { if (event.detail.xhr.status >= 502) unheard(); });
document.addEventListener("htmx:afterOnLoad", heard);
window.addEventListener("offline", unheard);
window.addEventListener("online", () => { if (!document.querySelector("[hx-get]")) heard(); });

// A form that is sent twice is sent once. Without a network it stays, with all that was typed in it.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if (!navigator.onLine) {
    event.preventDefault();
    unheard();
    document.getElementById("offline").scrollIntoView({ block: "center" });
    return;
  }
  if (form.dataset.sent) return event.preventDefault();
  form.dataset.sent = "yes";
  setTimeout(() => { delete form.dataset.sent; }, 3000);
});

// A password that is typed once can be looked at.
document.addEventListener("DOMContentLoaded", () => {
  for (const field of document.querySelectorAll("input[data-show]")) {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", className: "quiet", textContent: field.dataset.show, ariaPressed: "false" });
    button.classList.add("shows");
    button.addEventListener("click", () => {
      button.ariaPressed = String(field.type === "password");
      field.type = field.type === "password" ? "text" : "password";
    });
    field.after(button);
  }
});

// A page that loads itself again, as it has moved on, keeps what somebody is typing; nothing stays behind.
const WRITING = () => [...document.querySelector("main").querySelectorAll("textarea[id], input[type=text][id], input:not([type])[id]")];
const DESK = "typed " + location.pathname;
// Whoever comes to another page first, somebody else after a sign-out perhaps, finds nothing of it.
for (const key of Object.keys(sessionStorage)) if (key.startsWith("typed ") && key !== DESK) sessionStorage.removeItem(key);
document.addEventListener("htmx:beforeOnLoad", (event) => {
  if (event.detail.xhr.getResponseHeader("HX-Refresh") !== "true") return;
  const typed = WRITING().filter((field) => field.value !== field.defaultValue).map((field) => [field.id, field.value]);
  if (typed.length) sessionStorage.setItem(DESK, JSON.stringify([document.activeElement.id, typed]));
});
document.addEventListener("DOMContentLoaded", () => {
  const [focused, typed] = JSON.parse(sessionStorage.getItem(DESK) || '["", []]');
  sessionStorage.removeItem(DESK);
  for (const [id, text] of typed) {
    const field = WRITING().find((one) => one.id === id);
    if (!field) continue;
    field.value = text;
    field.dispatchEvent(new Event("input", { bubbles: true }));
    if (id === focused) field.focus();
  }
});

// What was wrong with a field is not said any longer once it is changed; the server looks again.
document.addEventListener("input", (event) => {
  const box = event.target.closest(".field, fieldset");
  if (!box) return;
  for (const list of box.querySelectorAll(":scope > .errorlist")) list.remove();
  for (const wrong of [box, event.target]) wrong.removeAttribute("aria-invalid");
});
