"""Reads /metrics as Prometheus would."""

import os
import shutil
import subprocess

import pytest
from prometheus_client.parser import text_string_to_metric_families

PROMTOOL = shutil.which("promtool")


def promtool_mark() -> pytest.MarkDecorator:
    """Skips where promtool is missing; CI demands it."""
    if not PROMTOOL and os.environ.get("CI"):
        raise RuntimeError("CI demands promtool (Debian's package prometheus)")
    return pytest.mark.skipif(not PROMTOOL, reason="no promtool (Debian's package prometheus)")


def run_promtool(*arguments: str, text: str = "") -> str:
    """What it complains of; "" if it is content."""
    command = [str(PROMTOOL), *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    return done.stderr + (done.stdout if done.returncode else "")


class Scrape:
    """The samples of one answer; `minus` is an earlier one, for what was counted since."""

    def __init__(self, text: str, *, minus: "Scrape | None" = None) -> None:
        self.samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in self.samples, f"{key} is there twice"
                self.samples[key] = sample.value
        self._minus = minus

    def sum(self, name: str, **labels: str) -> float:
        """Of all samples of this name that have these labels among theirs."""
        found = [
            value
            for (known, own), value in self.samples.items()
            if known == name and own >= labels.items()
        ]
        return sum(found) - (self._minus.sum(name, **labels) if self._minus else 0)

    def values_of(self, label: str) -> set[str]:
        return {value for _, labels in self.samples for name, value in labels if name == label}
