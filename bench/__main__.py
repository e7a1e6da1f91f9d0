"""`python -m bench [section ...]` prints measurements of the gateway as Markdown tables.

`python -m bench against REVISION [section ...]` compares them with another revision of the gateway.
"""

import argparse
import platform
import signal
import sys

import psutil

from bench.added import measure_added
from bench.against import measure_against
from bench.fleet import measure_fleet
from bench.lateness import measure_lateness
from bench.neighbours import measure_neighbours
from bench.pages import measure_pages
from bench.saturation import measure_saturation
from bench.split import measure_split
from bench.streams import measure_streams
from bench.tables import print_note
from bench.waiting import measure_waiting

SECTIONS = {
    "lateness": measure_lateness,
    "added": measure_added,
    "saturation": measure_saturation,
    "waiting": measure_waiting,
    "split": measure_split,
    "streams": measure_streams,
    "pages": measure_pages,
    "neighbours": measure_neighbours,
    "fleet": measure_fleet,
}
# The sections whose gateway can be that of another revision; the others import its code.
COMPARABLE = ("lateness", "added", "saturation", "waiting", "streams")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("section", nargs="*", help=f"{', '.join(SECTIONS)} (default: all)")
    # Ends with an exception, so that the servers that were started are stopped, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    names, revision = parser.parse_args().section, ""
    if names[:1] == ["against"]:
        if len(names) == 1:
            sys.exit("Name the revision to compare with: python -m bench against REVISION.")
        revision, names = names[1], names[2:] or list(COMPARABLE)
    names = names or list(SECTIONS)
    if unknown := [name for name in names if name not in SECTIONS]:
        sys.exit(f"There is no section {unknown[0]!r}; the sections are {', '.join(SECTIONS)}.")
    if revision and (fixed := set(names) - set(COMPARABLE)):
        sys.exit(f"These sections measure only the working tree: {', '.join(sorted(fixed))}.")
    version, cores = platform.python_version(), psutil.cpu_count()
    load = psutil.getloadavg()[0]
    print_note(f"Python {version}, {cores} cores, load {load:.1f} before the start.")
    if revision:
        measure_against(revision, [SECTIONS[name] for name in names])
    else:
        for name in names:
            SECTIONS[name]()


if __name__ == "__main__":
    main()
