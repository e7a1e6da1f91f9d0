"""The text of one value of a reply: from the source of its JSON string to an answer."""

import re

import jiter

# Control characters that belong in no text, unless the prompt has them too. Models write them where
# they damage an escape, as in "caf\u0000e9", "don\u0019t" and "\frac".
_DAMAGE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f]")
_HIGH_SURROGATE = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\Z")
_OPENING = re.compile(r'\s*\{?\s*"?')
_TEXT_END = re.compile(r'(?:(?<!\\)[^\W\d_]|[.!?…)\]}*`”’»。！？]|\\")\Z')


class Value:
    """The value of an item while it is read. `key` is the key of the item, `prompt` its prompt.

    It collects the source between the quotes, in pieces that cut no escape.
    """

    def __init__(self, key: str, prompt: str = "") -> None:
        self._key = key
        self._prompt = prompt
        self._pieces: list[str] = []
        self._new_pieces: list[str] = []
        self._held_back = ""
        self._has_deltas = False

    def add(self, source: str) -> None:
        if source:
            self._pieces.append(source)
            self._new_pieces.append(source)

    @property
    def looks_complete(self) -> bool:
        """Whether a quote after the text is its end rather than a part of it.

        A quote that should have been escaped opens a quotation or follows a number, as in 5".
        """
        return bool(_TEXT_END.search("".join(self._pieces[-2:])[-2:]))

    def decode(self) -> str | None:
        """Returns the text, or None if it is damaged or holds the key."""
        text = _decode("".join(self._pieces))
        return None if text is None else clean_answer(self._key, text, self._prompt)

    def take_delta(self, *, ended: bool) -> str:
        """Returns the text by which the value has grown since the last call.

        Text in which the key may begin is held back until more of it has come, or until the value
        has `ended`. After a damaged text or after the key, nothing more is returned.
        """
        source, self._new_pieces = "".join(self._new_pieces), []
        if _HIGH_SURROGATE.match(source[-6:]) and not _count_backslashes(source[:-6]) % 2:
            source, self._new_pieces = source[:-6], [source[-6:]]  # Its low surrogate is to come.
        decoded = _decode(source)
        if decoded is None or _is_damaged(decoded, self._prompt):
            decoded = self._key  # Stops the deltas.
        text = self._held_back + decoded
        if self._key in text:
            self._held_back = self._key
            return ""
        self._held_back = "" if ended else self._find_beginning(text)
        delta = text.removesuffix(self._held_back)
        self._has_deltas |= bool(delta)
        return delta

    def _find_beginning(self, text: str) -> str:
        """The end of the text if the key, or the object with the key, may begin with it."""
        opening = _OPENING.match(text)
        if opening and not self._has_deltas and self._key.startswith(text[opening.end() :]):
            return text
        lengths = range(min(len(self._key), len(text)), 0, -1)
        return next((self._key[:n] for n in lengths if text.endswith(self._key[:n])), "")


def clean_answer(key: str, text: str, prompt: str = "") -> str | None:
    """Unwraps a text that is again an object with the key; None if it is damaged or keeps the key.

    The key must never reach a client.
    """
    if key in text:
        found = _parse_object(text)
        inner = found.get(key) if len(found) == 1 else None
        if not isinstance(inner, str) or key in inner:
            return None
        text = inner
    return None if _is_damaged(text, prompt) else text


def _is_damaged(text: str, prompt: str) -> bool:
    return any(character not in prompt for character in _DAMAGE.findall(text))


def read_object(reply: str, *, before: int) -> dict[str, object]:
    """Parses the reply from the last opening brace before the position to its last closing brace.

    Returns an empty dict if that is no well-formed object.
    """
    start = reply.rfind("{", 0, before)
    return _parse_object(reply[start : reply.rfind("}") + 1]) if start >= 0 else {}


def _parse_object(source: str) -> dict[str, object]:
    try:
        found = jiter.from_json(source.encode(), catch_duplicate_keys=True)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _decode(source: str) -> str | None:
    try:
        text: str = jiter.from_json(f'"{source}"'.encode())
    except ValueError:
        return None  # A lone surrogate.
    return text


def _count_backslashes(text: str) -> int:
    return len(text) - len(text.rstrip("\\"))
