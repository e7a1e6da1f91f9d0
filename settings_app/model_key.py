"""Validates the model key and the model name, and masks the key."""

import re

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


def explain_bad_key(key: str) -> str:
    """Explains why a key cannot be sent in a header; returns "" for a good key."""
    if key.startswith(MASK):
        return "This is the mask of another key."
    if len(key) > MAX_KEY_LENGTH:
        return f"A key has at most {MAX_KEY_LENGTH} characters."
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        return "A key consists of visible ASCII characters without spaces."
    return ""


def explain_bad_model(name: str) -> str:
    """Explains why a model name cannot be part of a URL; returns "" for a good name."""
    if len(name) > MAX_MODEL_LENGTH:
        return f"A model name has at most {MAX_MODEL_LENGTH} characters."
    if ".." in name or not _MODEL_NAME.fullmatch(name):
        return "This is not a model name."
    return ""
