"""Which pages of other origins may call the API, and the answer to a browser's preflight."""

from urllib.parse import SplitResult

from corsheaders import middleware
from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from batching.llm.access import ModelState, model_state
from settings_app.snapshot import has_snapshot

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


class CorsMiddleware(middleware.CorsMiddleware):
    """Under DEBUG without a list of origins, the model decides.

    Every page may talk to the simulated model. With a real key, only pages of this machine may:
    others could spend money and read chats through the developer's browser.
    """

    def origin_found_in_white_lists(self, origin: str, url: SplitResult) -> bool:
        is_local = url.scheme in ("http", "https") and url.hostname in LOCAL_HOSTS
        return super().origin_found_in_white_lists(origin, url) or (
            settings.CORS_BY_MODEL and (is_local or _is_simulated())
        )

    def check_preflight(self, request: HttpRequest) -> HttpResponseBase | None:
        response = super().check_preflight(request)
        if response is not None:
            del response["Content-Type"]  # there is no content
        return response


def _is_simulated() -> bool:
    # Unknown before the first snapshot, which the start of the gateway reads.
    return has_snapshot() and model_state() is ModelState.SIMULATED
