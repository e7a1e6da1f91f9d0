"""A bar on a terminal, silence elsewhere."""

import sys

from tqdm import tqdm


def progress_bar(label: str, *, total: int, unit: str) -> tqdm:
    return tqdm(
        desc=label,
        total=total,
        unit=f" {unit}",
        file=sys.stderr,
        disable=not sys.stderr.isatty(),
        dynamic_ncols=True,
    )
