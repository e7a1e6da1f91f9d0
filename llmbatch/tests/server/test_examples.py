"""Each example runs unchanged against a running server that requires keys."""

import asyncio
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from llmbatch.tests.fixtures.model_thread import ModelThread
from llmbatch.tests.fixtures.server import PATIENT, ROOT, Server

pytestmark = pytest.mark.server

EXAMPLES = ROOT / "examples"
# Six requests of one program reach the server within this window on a busy machine, too.
PATIENT_HIGH = f"{PATIENT}; UPDATE settings_app_lane SET window_s = 3 WHERE priority = 2"
PROGRAMS = {".py": sys.executable, ".sh": "bash", ".mjs": "node"}
EXPECTED = {
    "ask.py": ["capital of Oman", "of 6:"],
    "curl.sh": ['"type": "done"', '"status":"done"', '"status":"cancelled"'],
    "many_on_one_socket.py": ["HIGH: [simulated]", "LOW: [simulated]", "LOW: dispatched"],
    "openai_chat.py": ["[simulated]", "tokens)"],
    "stream.mjs": ["[simulated]", "tokens"],
    "stream.py": ["[simulated]", "tokens"],
    "submit_and_poll.py": ["accepted: /v1/query/report-", "Hamlet"],
}


def test_every_example_is_listed() -> None:
    files = {path.name for path in EXAMPLES.iterdir() if path.suffix in PROGRAMS}
    listed = (EXAMPLES / "README.md").read_text()
    assert files == EXPECTED.keys()
    assert [name for name in files if f"`{name}`" not in listed] == []


def test_packages_of_the_examples_are_in_the_command_that_installs_them() -> None:
    [command] = re.findall(r"pip install (.+)$", (EXAMPLES / "README.md").read_text(), re.M)
    imported = set()
    for path in EXAMPLES.glob("*.py"):
        imported |= set(re.findall(r"^(?:import|from) (\w+)", path.read_text(), re.M))
    assert imported - sys.stdlib_module_names == set(command.split())


async def test_examples_print_what_they_promise(model: ModelThread, tmp_path: Path) -> None:
    missing = [name for name in ("curl", "node") if not shutil.which(name)]
    if missing and not os.environ.get("CI"):
        pytest.skip(f"not installed: {', '.join(missing)}")
    with Server(
        tmp_path, prepare=PATIENT_HIGH, GEMINI_BASE_URL=model.url, API_ACCESS="key"
    ) as server:
        key = (await asyncio.to_thread(server.manage, "create_api_key", "examples")).split()[-1]
        known = {"LLMBATCH_URL": server.url, "LLMBATCH_API_KEY": key}
        outputs = await asyncio.gather(*(run_example(name, known) for name in EXPECTED))
    for name, output in zip(EXPECTED, outputs, strict=True):
        assert [piece for piece in EXPECTED[name] if piece not in output] == [], output


async def run_example(name: str, known: dict[str, str]) -> str:
    program = PROGRAMS[Path(name).suffix]
    run = await asyncio.create_subprocess_exec(
        program,
        str(EXAMPLES / name),
        env=os.environ | known,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await run.communicate())[0].decode()
    assert run.returncode == 0, output
    return output
