"""Validates the model key and the model name, and masks the key."""

import re

from django.core.exceptions import ValidationError

MAX_KEY_LENGTH = 200
MAX_MODEL_LENGTH = 100
MASK = "***"
_SHOWN = 4
_MODEL_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")


def mask_key(key: str | None) -> str | None:
    """Returns `***` and the last four characters, or only `***` for a short key."""
    if not key:
        return None
    return MASK + (key[-_SHOWN:] if len(key) >= 2 * _SHOWN else "")


def validate_key(key: str) -> None:
    """Raises ValidationError for a key that cannot be sent in a header."""
    if key.startswith(MASK):
        raise ValidationError("This is the mask of another key.")
    if len(key) > MAX_KEY_LENGTH:
        raise ValidationError(f"A key has at most {MAX_KEY_LENGTH} characters.")
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise ValidationError("A key consists of visible ASCII characters without spaces.")


def validate_model(name: str) -> None:
    """Raises ValidationError for a name that cannot be part of a URL."""
    if len(name) > MAX_MODEL_LENGTH:
        raise ValidationError(f"A model name has at most {MAX_MODEL_LENGTH} characters.")
    if ".." in name or not _MODEL_NAME.fullmatch(name):
        raise ValidationError("This is not a model name.")
