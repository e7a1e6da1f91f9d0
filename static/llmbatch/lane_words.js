// Says what a lane's number means while it is typed; the sentences come from the server.
"use strict";

for (const effect of document.querySelectorAll("[data-effect]")) {
  const name = effect.dataset.field;
  const field = document.getElementById(`id_${name}`);
  field?.addEventListener("input", () => {
    const value = field.value === "" ? "…" : Number(field.value).toLocaleString("en-US", { maximumFractionDigits: 6 });
    effect.textContent = effect.dataset.effect.replace(`{${name}}`, value);
  });
}
