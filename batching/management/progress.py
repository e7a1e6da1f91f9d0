"""What the commands that work through many rows share: a progress bar and the sum of the parts."""

import sys
from collections import Counter
from collections.abc import Iterable
from typing import NoReturn

from tqdm import tqdm


def progress_bar(label: str, *, total: int, unit: str) -> "tqdm[NoReturn]":
    """Returns a bar that is shown only on a terminal."""
    return tqdm(
        desc=label,
        total=total,
        unit=f" {unit}",
        file=sys.stderr,
        disable=not sys.stderr.isatty(),
        dynamic_ncols=True,
    )


def sum_chat_counts(label: str, parts: Iterable[Counter[str]], *, total: int) -> Counter[str]:
    """Adds up the row counts of `parts`. Its progress bar counts the chats."""
    counted: Counter[str] = Counter()
    with progress_bar(label, total=total, unit="chats") as bar:
        for part in parts:
            counted += part
            bar.update(part["chats"])
    return counted


def format_counts(counted: Counter[str]) -> str:
    return (
        f"{counted['chats']:,} chats, {counted['batches']:,} batches,"
        f" {counted['calls']:,} model calls"
    )
