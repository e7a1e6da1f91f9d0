"""Mutants that no test can notice, because the changed program behaves the same."""

import re

SAME_LENGTH = "both sequences are built from the same items, so `strict` never raises"
FALSY = "only its truth value is used, and both values are false"
OVERWRITTEN = "it is overwritten before it is read"

EQUIVALENT = [
    ("usage", r"\[2\] \* len", "", "equal weights are equal weights"),
    ("call", r"_block_reason: str \| None = \"\"", "", FALSY),
    ("call", r".*", r"strict=True", SAME_LENGTH),
    ("prompt", r".*", r"strict=True", SAME_LENGTH),
    ("prompt", r"ensure_ascii=None", "", FALSY),
    ("splitter", r"_max_key_chars = .* \+ 3", "", "looks one character further back than it must"),
    ("splitter", r"_start = (None|1)$", "", OVERWRITTEN),
    ("splitter", r"_completed: dict\[int, str\] = None", "", OVERWRITTEN),
    ("splitter", r"end \+ 65\]", "", "how far it looks behind a value is a free choice"),
    ("dispatcher", r"_closed = None", r"_closed = False", FALSY),
    ("planner", r"top\[0\], -priority, top\[2\], top\[2\]", "", "two priorities never tie"),
    ("lanes", r"return \"XXXX\"", "", "any name will do for the group of everyone"),
]


def find_reason(file: str, old: str, new: str) -> str | None:
    """Why the mutant that turns `old` into `new` is equivalent; None if it may not be."""
    for where, changed, original, reason in EQUIVALENT:
        if where == file and re.search(changed, new) and re.search(original, old):
            if original and re.search(original, new):
                continue  # The mutant changes another part of this line.
            return reason
    return None
