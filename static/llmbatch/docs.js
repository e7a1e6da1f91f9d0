// Starts Swagger UI with the gateway's own schema.
"use strict";

const root = document.documentElement;
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const applyTheme = () => {
  const chosen = root.dataset.theme;
  root.classList.toggle("dark-mode", chosen === "dark" || (chosen !== "light" && dark.matches));
};
dark.addEventListener("change", applyTheme);
new MutationObserver(applyTheme).observe(root, { attributeFilter: ["data-theme"] });
applyTheme();

// A change by a logged-in user needs Django's CSRF token; a change with an API key does not.
function addToken(request) {
  const token = /(?:^|; )csrftoken=([^;]+)/.exec(document.cookie);
  if (token && new URL(request.url, location.href).origin === location.origin) {
    request.headers["X-CSRFToken"] = token[1];
  }
  return request;
}

// Swagger UI puts a link into the button that opens an operation, and its lists have no labels.
function fixAccessibility() {
  for (const link of reference.querySelectorAll("button a[href]")) link.removeAttribute("href");
  for (const list of reference.querySelectorAll("select:not([aria-label])")) list.setAttribute("aria-label", "Choose one");
}

const reference = document.getElementById("reference");
window.SwaggerUIBundle({
  url: reference.dataset.schema,
  domNode: reference,
  deepLinking: true,
  requestInterceptor: addToken,
  validatorUrl: null,
});
new MutationObserver(fixAccessibility).observe(reference, { childList: true, subtree: true });
