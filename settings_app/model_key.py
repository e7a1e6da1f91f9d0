"""The form of a model key and of a model's name, and how a key is shown."""

import re

MAX_KEY_LENGTH = 200
MAX_MODEL_LENGTH = 100
MASK = "***"
_SHOWN = 4
_MODEL_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")


def mask_key(key: str | None) -> str | None:
    """`***` and the last four characters; of a short key nothing is shown."""
    if not key:
        return None
    return MASK + (key[-_SHOWN:] if len(key) >= 2 * _SHOWN else "")


def explain_bad_key(key: str) -> str:
    """What is wrong with a key that could not be sent in a header; "" if nothing is."""
    if key.startswith(MASK):
        return "This is the mask of another key."
    if len(key) > MAX_KEY_LENGTH:
        return f"A key has at most {MAX_KEY_LENGTH} characters."
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        return "A key consists of visible ASCII characters without spaces."
    return ""


def explain_bad_model(name: str) -> str:
    """What is wrong with a name that cannot stand in an address; "" if nothing is."""
    if len(name) > MAX_MODEL_LENGTH:
        return f"A model's name has at most {MAX_MODEL_LENGTH} characters."
    if ".." in name or not _MODEL_NAME.fullmatch(name):
        return "This is not a model's name."
    return ""
