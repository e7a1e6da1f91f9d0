"""Reads environment variables. An invalid value raises an error that names its variable."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import environ
from django.core.exceptions import ImproperlyConfigured

env = environ.Env()
T = TypeVar("T")


def read(name: str, default: T, parse: Callable[[str], T], expected: str) -> T:
    """Returns the variable's parsed value, or the default if it is unset or empty.

    Raises ImproperlyConfigured with the variable's name and the expected values.
    """
    raw = env.str(name, default="").strip()
    if raw == "":
        return default
    try:
        return parse(raw)
    except (ValueError, KeyError):
        raise ImproperlyConfigured(f"{name}={raw!r} is not valid: expected {expected}.") from None


def read_bool(name: str, default: bool) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True}
    words |= {"0": False, "false": False, "no": False, "off": False}
    return read(name, default, lambda raw: words[raw.lower()], "true or false")


def read_int(name: str, default: int, *, least: int, most: int) -> int:
    def parse(raw: str) -> int:
        value = int(raw)
        if not least <= value <= most:
            raise ValueError
        return value

    return read(name, default, parse, f"a whole number from {least} to {most}")


def read_choice(name: str, default: str, choices: tuple[str, ...]) -> str:
    return read(name, default, lambda raw: {c: c for c in choices}[raw], " or ".join(choices))


def read_list(name: str, default: list[str]) -> list[str]:
    """Reads a comma-separated list; spaces around its parts are removed."""
    raw = env.str(name, default="")
    return [part.strip() for part in raw.split(",") if part.strip()] or default


def read_url(name: str) -> str:
    def parse(raw: str) -> str:
        if not raw.startswith(("http://", "https://")):
            raise ValueError
        return raw

    return read(name, "", parse, "an address that begins with http:// or https://")


def load_secret(path: Path) -> str:
    """Returns the secret in the file `path`, which the first call creates.

    If the file cannot be written, each process gets a random secret.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip() or secrets.token_urlsafe(50)
    except OSError:
        return secrets.token_urlsafe(50)
    secret = secrets.token_urlsafe(50)
    with os.fdopen(descriptor, "w") as file:
        file.write(secret)
    return secret
