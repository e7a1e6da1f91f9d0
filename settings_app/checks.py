"""The system checks of this app's configuration, for `./gateway check`."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

MIN_PASSPHRASE_LENGTH = 16
PLACEHOLDER = "change-me"  # the secrets in the documents begin with it


@register(Tags.security)
def check_encryption_keys(**kwargs: Any) -> list[CheckMessage]:
    return [
        Error(
            f"Entry {position} of SETTINGS_ENCRYPTION_KEYS cannot be used.",
            hint="Each entry is a Fernet key or a passphrase, in UTF-8 and not blank.",
            id="settings_app.E001",
        )
        for position, key in enumerate(settings.SETTINGS_ENCRYPTION_KEYS, start=1)
        if not _is_usable(key)
    ]


@register(Tags.security)
def check_placeholders(**kwargs: Any) -> list[CheckMessage]:
    secrets = {
        "DJANGO_SECRET_KEY": [settings.SECRET_KEY],
        "SETTINGS_ENCRYPTION_KEYS": settings.SETTINGS_ENCRYPTION_KEYS,
    }
    return [
        Error(
            f"{name} is still the placeholder of the documents, which everybody knows.",
            hint='`python3 -c "import secrets; print(secrets.token_urlsafe(50))"` prints a secret.',
            id="settings_app.E002",
        )
        for name, values in secrets.items()
        if any(value.startswith(PLACEHOLDER) for value in values)
    ]


@register(Tags.security, deploy=True)
def check_stored_secrets(**kwargs: Any) -> list[CheckMessage]:
    if not settings.SETTINGS_ENCRYPTION_KEYS:
        return [
            Warning(
                "SETTINGS_ENCRYPTION_KEYS is empty: stored keys depend on DJANGO_SECRET_KEY.",
                hint="Set it: a new DJANGO_SECRET_KEY would make the stored model key unreadable.",
                id="settings_app.W001",
            )
        ]
    return [
        Warning(
            f"Entry {position} of SETTINGS_ENCRYPTION_KEYS is short enough to be guessed.",
            hint="Use a Fernet key, or a passphrase of at least"
            f" {MIN_PASSPHRASE_LENGTH} characters.",
            id="settings_app.W002",
        )
        for position, key in enumerate(settings.SETTINGS_ENCRYPTION_KEYS, start=1)
        if len(key) < MIN_PASSPHRASE_LENGTH
    ]


@register(Tags.security, deploy=True)
def check_open_access(**kwargs: Any) -> list[CheckMessage]:
    if settings.API_ACCESS != "open" or settings.DEBUG:
        return []
    return [
        Warning(
            "API_ACCESS=open: everybody who reaches this server may use and configure the gateway.",
            hint="Set API_ACCESS=key unless the network restricts access to this server.",
            id="settings_app.W003",
        )
    ]


def _is_usable(key: str) -> bool:
    try:
        return bool(key.encode().strip())
    except UnicodeEncodeError:
        return False
