"""Reads Dockerfile, .dockerignore and docker-compose.yml, and replays the image's steps."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
USER_ID = 10001


def read_instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile: the word that begins each instruction, and what follows on one line."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined) if word]


def read_last_stage() -> list[tuple[str, str]]:
    instructions = read_instructions()
    begins = max(place for place, (word, _) in enumerate(instructions) if word == "FROM")
    return instructions[begins:]


def find_one(word: str) -> str:
    """What follows the only `word` of the last stage."""
    [rest] = [rest for found, rest in read_last_stage() if found == word]
    return rest


def image_variables() -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in find_one("ENV").split())


def health_command() -> list[str]:
    return json.loads(find_one("HEALTHCHECK").partition("CMD ")[2])


def start_command() -> list[str]:
    return json.loads(find_one("CMD"))


def is_sent(name: str) -> bool:
    """Whether .dockerignore lets a path into the image: the last line that matches it decides."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#") and _matches(line.lstrip("!"), name):
            sent = line.startswith("!")
    return sent


def _matches(pattern: str, name: str) -> bool:
    """A pattern that matches a folder matches all that is in it."""
    parts = name.split("/")
    if pattern.startswith("**/"):
        return any(fnmatchcase(part, pattern[3:]) for part in parts)
    depth = pattern.count("/") + 1
    return fnmatchcase("/".join(parts[:depth]), pattern)


def sent_files() -> Iterator[str]:
    for top in (path for path in ROOT.iterdir() if is_sent(path.name)):
        for path in [top] if top.is_file() else top.rglob("*"):
            name = path.relative_to(ROOT).as_posix()
            if path.is_file() and is_sent(name):
                yield name


class Image:
    """The folder that the last stage makes, without its packages: those of this process serve."""

    def __init__(self, folder: Path) -> None:
        self.app = folder / "app"
        self.app.mkdir(parents=True)
        bin_folder = Path(sys.executable).parent
        self.environment = image_variables() | {"PATH": f"{bin_folder}:/usr/bin:/bin"}

    built: set[str]
    """its files before anything ran in it"""

    def build(self) -> None:
        for name in sent_files():
            (self.app / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.app / name)
        [step] = [rest for word, rest in read_last_stage() if word == "RUN" and "static" in rest]
        step = step.replace("--owner gateway --group gateway ", "")
        subprocess.run(["sh", "-c", step], cwd=self.app, env=self.environment, check=True)
        for name in ("data", "logs"):
            if os.geteuid() == 0:
                os.chown(self.app / name, USER_ID, USER_ID)

    def start(self, command: list[str], *, log: Path, **variables: str) -> subprocess.Popen[bytes]:
        """As the image's user, where this process may become it."""
        with open(log, "ab") as output:
            return subprocess.Popen(
                command,
                cwd=self.app,
                env=self.environment | variables,
                stdout=output,
                stderr=output,
                **self._user(),
            )

    def list_files(self) -> set[str]:
        return {p.relative_to(self.app).as_posix() for p in self.app.rglob("*") if p.is_file()}

    def _user(self) -> dict[str, Any]:
        if os.geteuid() != 0:
            return {}
        user = {"user": USER_ID, "group": USER_ID, "extra_groups": []}
        try:
            subprocess.run([sys.executable, "-c", ""], check=True, env=self.environment, **user)
        except (OSError, subprocess.CalledProcessError):
            return {}  # the interpreter lies where only root may look
        return user
