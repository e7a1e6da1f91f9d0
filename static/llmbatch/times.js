// Writes moments in the viewer's zone; the title keeps UTC. Without scripts the pages say UTC.
"use strict";

function twoDigits(number) {
  return String(number).padStart(2, "0");
}

function writeLocal(moment) {
  const day = [moment.getFullYear(), twoDigits(moment.getMonth() + 1), twoDigits(moment.getDate())];
  const time = [moment.getHours(), moment.getMinutes(), moment.getSeconds()].map(twoDigits);
  return `${day.join("-")} ${time.join(":")}`;
}

function localizeElement(element, moment, utc) {
  if (Number.isNaN(moment.getTime())) return;
  element.textContent = writeLocal(moment);
  element.title = utc;
}

/** Every <time datetime> inside `root`; pages that add some later call it again. */
function localizeTimes(root) {
  for (const element of root.querySelectorAll("time[datetime]:not([title])")) {
    localizeElement(element, new Date(element.dateTime), element.textContent);
  }
}

/** The admin writes moments as plain text, in columns and fields that go by their names. */
function localizeAdmin() {
  const named = ["_at", "expiry_date", "last_login", "date_joined", "attempt_time"];
  const places = named.map((name) => [`td[class*="${name}"]`, `th[class*="${name}"]`, `[class*="${name}"] .readonly`]);
  const cells = places.flat().join();
  for (const cell of document.querySelectorAll(cells)) {
    const inner = cell.querySelector("a") || cell;
    const text = inner.textContent.trim();
    if (/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/.test(text)) {
      localizeElement(inner, new Date(`${text.replace(" ", "T")}Z`), `${text} UTC`);
    }
  }
}

/** "Europe/Berlin", which holds in summer and in winter. */
function nameZone() {
  return new Intl.DateTimeFormat().resolvedOptions().timeZone;
}

/** Fields for a moment hold UTC; the viewer reads and writes them in the viewer's zone. */
function localizeField(field) {
  const sent = document.createElement("input");
  sent.type = "hidden";
  sent.name = field.name;
  sent.value = field.value;
  field.removeAttribute("name");
  field.after(sent);
  if (field.value) field.value = writeLocal(new Date(`${field.value}Z`)).replace(" ", "T");
  field.addEventListener("input", () => {
    const moment = new Date(field.value); // the browser refuses to send what is no moment
    sent.value = Number.isNaN(moment.getTime()) ? "" : moment.toISOString().slice(0, 19);
  });
}

window.localizeTimes = localizeTimes;
localizeTimes(document);
localizeAdmin();
document.querySelectorAll("input[data-utc]").forEach(localizeField);
for (const place of document.querySelectorAll("[data-zone]")) place.textContent = nameZone();
