"""`make setup` on machines whose Python is missing, too old, or lacks its module ensurepip."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from llmbatch.tests.fixtures.image import ROOT

WITHOUT_ENSUREPIP = "import sys; sys.modules['ensurepip'] = None"
TOO_OLD = "import sys; sys.version_info = (3, 10, 12, 'final', 0)"


class Machine:
    """A checkout without requirements, and the `python3` that its shell finds."""

    def __init__(self, folder: Path) -> None:
        self.checkout = folder / "checkout"
        self._programs = folder / "programs"
        for new in (self.checkout, self._programs):
            new.mkdir()
        (self.checkout / "requirements.txt").touch()
        (self.checkout / "Makefile").symlink_to(ROOT / "Makefile")
        # Not the environment of the tests, whose Python would make an environment like itself.
        self._python = os.path.realpath(sys.executable)

    def install_python(self, change: str = "") -> None:
        """Makes `python3` a Python that runs the statements of `change` when it starts."""
        (self._programs / "sitecustomize.py").write_text(change)
        program = self._programs / "python3"
        program.write_text(f'#!/bin/sh\nPYTHONPATH={self._programs} exec {self._python} "$@"\n')
        program.chmod(0o755)

    def run_setup(self, *arguments: str) -> tuple[int, str]:
        environment = {"PATH": f"{self._programs}:/usr/bin:/bin", "PIP_NO_INDEX": "1"}
        run = subprocess.run(
            ["make", "setup", *arguments],
            cwd=self.checkout,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return run.returncode, run.stdout + run.stderr

    def has_pip(self) -> bool:
        python = self.checkout / ".venv/bin/python"
        return python.exists() and not subprocess.run([python, "-c", "import pip"]).returncode


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_python_without_ensurepip_is_named_and_leaves_no_environment(machine: Machine) -> None:
    machine.install_python(WITHOUT_ENSUREPIP)
    status, output = machine.run_setup()
    assert status != 0
    assert "apt install python3-venv" in output
    assert not (machine.checkout / ".venv").exists()


def test_python_that_is_too_old_is_named_and_leaves_no_environment(machine: Machine) -> None:
    machine.install_python(TOO_OLD)
    status, output = machine.run_setup()
    assert status != 0
    assert "python3 is Python 3." in output
    assert "Python 3.11 or newer is needed" in output
    assert "PYTHON=" in output
    assert not (machine.checkout / ".venv").exists()


def test_missing_python_is_named(machine: Machine) -> None:
    status, output = machine.run_setup("PYTHON=python3.99")
    assert status != 0
    assert "There is no python3.99: install Python 3.11 or newer" in output


@pytest.mark.parametrize("installed", [False, True], ids=["half made", "broken later"])
def test_unusable_environment_is_made_again(machine: Machine, installed: bool) -> None:
    machine.install_python()
    environment = machine.checkout / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    if installed:
        (environment / "installed").touch()
    assert not machine.has_pip()
    status, output = machine.run_setup()
    assert (status, machine.has_pip()) == (0, True), output
    assert output.index("Making the environment") < output.index("Installing the packages")
    if installed:
        status, output = machine.run_setup()
        assert (status, "Installing" in output) == (0, False), "it is made only once"


def test_recipes_run_no_script_that_names_the_folder_of_the_environment() -> None:
    """The first line of such a script would be wrong after the checkout was moved."""
    programs = set(re.findall(r"(?:\$\(BIN\)|\.venv/bin)/(\S+)", (ROOT / "Makefile").read_text()))
    assert programs == {"python"}
