"""Mutants that no test can kill, because the changed program does the same."""

import re

SAME_LENGTH = "both sequences are built from the same items, so `strict` never has to refuse"
FALSY = "only its truth is asked for, and both are false"
OVERWRITTEN = "written before it is read"

EQUIVALENT = [
    ("usage", r"\[2\] \* len", "", "equal weights are equal weights"),
    ("call", r"_block_reason: str \| None = \"\"", "", FALSY),
    ("call", r"feed\(piece\.text\) if \(piece\.text\) or True", "", "no text completes no value"),
    ("call", r".*", r"strict=True", SAME_LENGTH),
    ("combine", r".*", r"strict=True", SAME_LENGTH),
    ("combine", r"ensure_ascii=None", "", FALSY),
    ("split", r"_longest = .* \+ 3", "", "looks one character further back than it must"),
    ("split", r"_start = (None|1)$", "", OVERWRITTEN),
    ("split", r"_fresh: dict\[int, str\] = None", "", OVERWRITTEN),
    ("split", r"_at \+ 66\]", "", "how far behind a value it looks is a free choice"),
    ("decision", r"final=None", "", FALSY),
    ("dispatch", r"_closed = None", r"_closed = False", FALSY),
    ("planner", r"top\[0\], -priority, top\[2\], top\[2\]", "", "two priorities never tie"),
    ("planner", r"item\.priority, \"XXXX\"", "", "any one name serves the group of everyone"),
]


def find_reason(file: str, old: str, new: str) -> str | None:
    """Why the mutant of `old` to `new` is equivalent; None if it is not known to be."""
    for where, changed, original, reason in EQUIVALENT:
        if where == file and re.search(changed, new) and re.search(original, old):
            if original and re.search(original, new):
                continue  # the mutation is elsewhere in this line
            return reason
    return None
