// Updates the explanation of a lane's number while the number is typed. The sentences come from the server.
"use strict";

function followField(effect) {
  const name = effect.dataset.field;
  const field = document.getElementById(`id_${name}`);
  field?.addEventListener("input", () => {
    const number = Number(field.value).toLocaleString("en-US", { maximumFractionDigits: 6 });
    effect.textContent = effect.dataset.effect.replace(`{${name}}`, field.value === "" ? "…" : number);
  });
}

// The admin loads the scripts of a form before its fields.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("[data-effect]").forEach(followField);
});
