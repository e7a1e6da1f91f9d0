"""Reads environment variables, refusing an invalid value with its variable's name."""

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
    """The variable's parsed value; unset or empty gives the default.

    Raises ImproperlyConfigured naming the variable and what was expected.
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
    """A comma-separated list without its blanks."""
    raw = env.str(name, default="")
    return [part.strip() for part in raw.split(",") if part.strip()] or default


def read_url(name: str) -> str:
    def parse(raw: str) -> str:
        if not raw.startswith(("http://", "https://")):
            raise ValueError
        return raw

    return read(name, "", parse, "an address that begins with http:// or https://")


def load_secret(path: Path) -> str:
    """The secret kept in `path`, made on first use; a random one if it cannot be kept."""
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
