"""`./gateway`, the one way to run the commands, and the texts that name them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from llmbatch import VERSION
from llmbatch.tests.fixtures.image import ROOT

FOLDERS = (
    "batching",
    "chats",
    "docs",
    "examples",
    "llmbatch",
    "settings_app",
    "static",
    "templates",
)
KINDS = {".py", ".md", ".html", ".js", ".sh"}


def run_gateway(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([folder / "gateway", *arguments], capture_output=True, text=True)


def test_version_is_that_of_the_gateway_in_every_place(tmp_path: Path) -> None:
    shutil.copy(ROOT / "gateway", tmp_path)
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    (tmp_path / "manage.py").symlink_to(ROOT / "manage.py")
    for arguments in (["--version"], ["version"], ["serve", "--version"]):
        run = run_gateway(tmp_path, *arguments)
        assert (run.returncode, run.stdout) == (0, f"LLM Batch API {VERSION}\n"), run.stderr
    for name, place in (
        ("pyproject.toml", r'^version = "(.+)"'),
        ("README.md", r"^Version ([\d.]+)"),
        ("CHANGELOG.md", r"^## \[(\d.+?)\]"),
    ):
        found = re.search(place, (ROOT / name).read_text(), re.M)
        assert found, name
        assert found[1] == VERSION, name


def test_missing_environment_is_named(tmp_path: Path) -> None:
    shutil.copy(ROOT / "gateway", tmp_path)
    run = run_gateway(tmp_path, "serve")
    assert run.returncode == 1
    assert run.stderr == (
        f"There is no environment in {tmp_path}/.venv yet: run `make setup` in {tmp_path} first.\n"
    )


def test_texts_name_commands_only_as_they_are_run() -> None:
    texts = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    texts = [path for path in texts if path.suffix in KINDS and "tests" not in path.parts]
    texts += ROOT.glob("*.md")
    assert len(texts) > 200
    wrong = {
        f"{path.relative_to(ROOT)}: {found}"
        for path in texts
        for found in re.findall(r"manage\.py\s+[a-z_]{4,}", path.read_text())
    }
    assert wrong == set()
