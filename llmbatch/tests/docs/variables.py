"""Lists the environment variables that the settings read."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = (ROOT / "llmbatch/settings.py").read_text()


def variables() -> set[str]:
    return set(re.findall(r'(?:read_\w+|env\.\w+)\(\s*"([A-Z_]+)"', SETTINGS))
