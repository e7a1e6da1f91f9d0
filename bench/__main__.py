"""`python -m bench [section ...]` prints measurements of the gateway as Markdown tables."""

import argparse
import platform
import signal
import sys

import psutil

from bench.added import measure_added
from bench.fleet import measure_fleet
from bench.lateness import measure_lateness
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
    "fleet": measure_fleet,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("section", nargs="*", help=f"{', '.join(SECTIONS)} (default: all)")
    # Ends with an exception, so that the servers that were started are stopped, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    names = parser.parse_args().section or list(SECTIONS)
    if unknown := [name for name in names if name not in SECTIONS]:
        sys.exit(f"There is no section {unknown[0]!r}; the sections are {', '.join(SECTIONS)}.")
    version, cores = platform.python_version(), psutil.cpu_count()
    load = psutil.getloadavg()[0]
    print_note(f"Python {version}, {cores} cores, load {load:.1f} before the start.")
    for name in names:
        SECTIONS[name]()


if __name__ == "__main__":
    main()
