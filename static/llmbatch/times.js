// Shows timestamps in the viewer's time zone; the title keeps UTC. Without scripts the pages show UTC.
"use strict";

function twoDigits(number) {
  return String(number).padStart(2, "0");
}

function formatLocal(timestamp) {
  const day = [timestamp.getFullYear(), twoDigits(timestamp.getMonth() + 1), twoDigits(timestamp.getDate())];
  const time = [timestamp.getHours(), timestamp.getMinutes(), timestamp.getSeconds()].map(twoDigits);
  return `${day.join("-")} ${time.join(":")}`;
}

function localizeElement(element, timestamp, utc) {
  if (Number.isNaN(timestamp.getTime())) return;
  element.textContent = formatLocal(timestamp);
  element.title = utc;
}

/** Localizes every <time datetime> inside `root`. Pages that add some later call it again. */
function localizeTimes(root) {
  for (const element of root.querySelectorAll("time[datetime]:not([title])")) {
    localizeElement(element, new Date(element.dateTime), element.textContent);
  }
}

/** Localizes the timestamps of the admin, which are plain text in columns and fields with known names. */
function localizeAdmin() {
  const named = ["_at", "expiry_date", "last_login", "date_joined", "attempt_time"];
  const selectors = named.map((name) => [`td[class*="${name}"]`, `th[class*="${name}"]`, `[class*="${name}"] .readonly`]);
  const cells = selectors.flat().join();
  for (const cell of document.querySelectorAll(cells)) {
    const inner = cell.querySelector("a") || cell;
    const text = inner.textContent.trim();
    if (/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/.test(text)) {
      localizeElement(inner, new Date(`${text.replace(" ", "T")}Z`), `${text} UTC`);
    }
  }
}

/** The name of the zone, such as "Europe/Berlin", which is the same in summer and in winter. */
function nameZone() {
  return new Intl.DateTimeFormat().resolvedOptions().timeZone;
}

/** Shows a field that holds UTC in the viewer's zone, and sends UTC. */
function localizeField(field) {
  const sent = document.createElement("input");
  sent.type = "hidden";
  sent.name = field.name;
  sent.value = field.value;
  field.removeAttribute("name");
  field.after(sent);
  if (field.value) field.value = formatLocal(new Date(`${field.value}Z`)).replace(" ", "T");
  field.addEventListener("input", () => {
    const timestamp = new Date(field.value); // the browser does not send an invalid timestamp
    sent.value = Number.isNaN(timestamp.getTime()) ? "" : timestamp.toISOString().slice(0, 19);
  });
}

window.localizeTimes = localizeTimes;
localizeTimes(document);
localizeAdmin();
document.querySelectorAll("input[data-utc]").forEach(localizeField);
for (const element of document.querySelectorAll("[data-zone]")) element.textContent = nameZone();
