// Says what a lane's number means while it is typed; the sentences come from the server.
"use strict";

function followField(effect) {
  const name = effect.dataset.field;
  const field = document.getElementById(`id_${name}`);
  field?.addEventListener("input", () => {
    const number = Number(field.value).toLocaleString("en-US", { maximumFractionDigits: 6 });
    effect.textContent = effect.dataset.effect.replace(`{${name}}`, field.value === "" ? "…" : number);
  });
}

// The admin loads a form's scripts before its fields.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("[data-effect]").forEach(followField);
});
