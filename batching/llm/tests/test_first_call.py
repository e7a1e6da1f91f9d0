"""The first call of a process takes no longer than the others, because a worker prepares it."""

import subprocess
import sys

import pytest

from batching.llm.gemini import GeminiModel
from batching.process.runtime import Runtime

# Prints the modules that the first real call loads.
PROGRAM = """
import asyncio, os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "llmbatch.settings"
import django
django.setup()
from batching.llm.access import ModelAccess
from batching.llm.gemini import GeminiModel
from batching.llm.simulated.transport import Responder, SimulatedTransport
from batching.llm.tests.sdk_client import make_prompt

async def call():
    access = ModelAccess("k", transport=SimulatedTransport(Responder()))
    model = GeminiModel(lambda: access)
    if sys.argv[1] == "prepared":
        await model.prepare()
    before = set(sys.modules)
    async for _ in model.stream(make_prompt(), timeout_s=60):
        pass
    print(*sorted(set(sys.modules) - before))

asyncio.run(call())
"""


def list_modules_of_the_first_call(how: str) -> list[str]:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True
    )
    return run.stdout.split()


def test_first_call_after_the_preparation_loads_nothing() -> None:
    assert list_modules_of_the_first_call("unprepared") != []
    assert list_modules_of_the_first_call("prepared") == []


async def test_worker_prepares_its_model_when_it_starts(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = []

    async def prepare(model: GeminiModel) -> None:
        prepared.append(model)

    monkeypatch.setattr(GeminiModel, "prepare", prepare)
    runtime = Runtime()
    await runtime.start()
    await runtime.stop()
    assert prepared == [runtime.model]
