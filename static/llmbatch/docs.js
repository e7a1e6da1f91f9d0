// Starts Swagger UI on the page's own schema.
"use strict";

const root = document.documentElement;
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const follow = () => {
  const chosen = root.dataset.theme;
  root.classList.toggle("dark-mode", chosen === "dark" || (chosen !== "light" && dark.matches));
};
dark.addEventListener("change", follow);
new MutationObserver(follow).observe(root, { attributeFilter: ["data-theme"] });
follow();

// A change by a logged-in member of staff needs Django's token; one with an API key does not.
function addToken(request) {
  const token = /(?:^|; )csrftoken=([^;]+)/.exec(document.cookie);
  if (token && new URL(request.url, location.href).origin === location.origin) {
    request.headers["X-CSRFToken"] = token[1];
  }
  return request;
}

// Swagger UI puts a link into the button that opens an operation, and leaves its lists without names.
function mend() {
  for (const link of place.querySelectorAll("button a[href]")) link.removeAttribute("href");
  for (const list of place.querySelectorAll("select:not([aria-label])")) list.setAttribute("aria-label", "Choose one");
}

const place = document.getElementById("reference");
window.SwaggerUIBundle({
  url: place.dataset.schema,
  domNode: place,
  deepLinking: true,
  requestInterceptor: addToken,
  validatorUrl: null,
});
new MutationObserver(mend).observe(place, { childList: true, subtree: true });
