"""Says at start who can reach the gateway: by its address, its access mode and its origins."""

from ipaddress import ip_address

from django.conf import settings
from django.db import DatabaseError
from django.utils import timezone

from batching.llm.access import ModelState, model_state
from settings_app.models import ApiKey
from settings_app.snapshot import refresh_snapshot


def format_url(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def describe_reach(host: str) -> list[str]:
    """Returns one sentence or two per line. Without a database, only what needs none."""
    lines = [_describe_address(host), _describe_access()]
    try:
        refresh_snapshot()
        lines += [*_describe_keys(), _describe_model()]
    except DatabaseError:
        pass  # The process waits for it.
    return [*lines, _describe_origins()]


def _describe_address(host: str) -> str:
    try:
        address = ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        return f"Machines that reach {host} can reach it."
    if address.is_unspecified:
        return f"Every machine that reaches this one can reach it (HOST={host})."
    others = ", and the clients of its TLS proxy" if settings.TLS_PROXY else ""
    if address.is_loopback:
        return f"Only programs of this machine can reach it{others}."
    return f"Machines that reach {host} can reach it{others}."


def _describe_access() -> str:
    if settings.API_ACCESS == "open":
        return (
            "API_ACCESS=open: without a key, all of them may send prompts, read all chats and"
            " change the settings."
        )
    return "API_ACCESS=key: the API admits API keys and staff sessions."


def _describe_keys() -> list[str]:
    """API keys, where they are needed and there is none."""
    now = timezone.now()
    if (
        settings.API_ACCESS == "open"
        or ApiKey.objects.get_usable_keys().exclude(expiry_date__lt=now).exists()
    ):
        return []
    return ["There is no API key yet, so programs get 401: ./gateway create_api_key NAME."]


def _describe_model() -> str:
    match model_state():
        case ModelState.GEMINI:
            return "A model key is set: prompts go to the model service."
        case ModelState.SIMULATED:
            return "There is no model key, so answers are simulated (DJANGO_DEBUG=true)."
        case ModelState.NO_API_KEY:
            return (
                "There is no model key, so prompts get 503: enter one in the admin, set"
                " GEMINI_API_KEY, or set DJANGO_DEBUG=true to try it with simulated answers."
            )


def _describe_origins() -> str:
    if settings.CORS_ALLOW_ALL_ORIGINS:
        return "Pages of every origin may call it (CORS_ALLOWED_ORIGINS=*)."
    if settings.CORS_BY_MODEL:
        return (
            "Pages of every origin may call it while answers are simulated, and only pages of"
            " localhost with a model key (CORS_ALLOWED_ORIGINS is empty)."
        )
    origins = ", ".join(settings.CORS_ALLOWED_ORIGINS)
    return f"Pages of other origins that may call it: {origins or 'none'} (CORS_ALLOWED_ORIGINS)."
