"""The Content-Security-Policy of the pages: a browser may load the gateway's own files only."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from llmbatch.middleware.base import Middleware

# Django's admin needs no exception: since 5.2 it has no inline script or style, and its scripts
# set styles through the DOM, which the policy allows.
CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)


class ContentSecurityMiddleware(Middleware):
    """Adds the policy to every HTML response except Django's error pages under DEBUG.

    Those have inline styles and scripts.
    """

    def adapt_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        is_debug_page = settings.DEBUG and response.status_code in (404, 500)
        if response.headers.get("Content-Type", "").startswith("text/html") and not is_debug_page:
            response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        return response
