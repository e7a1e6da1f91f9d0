// Starts Swagger UI on the page's own schema.
"use strict";

const dark = window.matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

// A change by a logged-in member of staff needs Django's token; one with an API key does not.
function addToken(request) {
  const token = /(?:^|; )csrftoken=([^;]+)/.exec(document.cookie);
  if (token && new URL(request.url, location.href).origin === location.origin) {
    request.headers["X-CSRFToken"] = token[1];
  }
  return request;
}

const place = document.getElementById("reference");
window.SwaggerUIBundle({
  url: place.dataset.schema,
  domNode: place,
  deepLinking: true,
  requestInterceptor: addToken,
  validatorUrl: null,
});
