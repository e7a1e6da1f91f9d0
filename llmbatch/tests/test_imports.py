"""The plan of the house: who may import whom."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
APPS = ["llmbatch", "batching", "chats", "settings_app"]


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def sources(folder: str) -> list[Path]:
    return [p for p in (ROOT / folder).rglob("*.py") if "tests" not in p.parts]


def test_each_app_imports_only_what_stands_to_its_right() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for index, app in enumerate(APPS)
        for path in sources(app)
        for name in imports_of(path)
        if name.split(".")[0] in APPS[:index]
    ]
    assert wrong == []


def test_engine_knows_no_framework_and_no_app() -> None:
    foreign = {"django", "rest_framework", "channels", "google", "httpx2", *APPS}
    wrong = [
        f"{path.name} imports {name}"
        for path in sources("batching/engine")
        for name in imports_of(path)
        if name.split(".")[0] in foreign and not name.startswith("batching.engine")
    ]
    assert wrong == []


def test_only_the_way_to_gemini_imports_the_sdk() -> None:
    importers = {
        str(path.relative_to(ROOT))
        for app in APPS
        for path in sources(app)
        if any(name.startswith("google") for name in imports_of(path))
    }
    assert importers == {"batching/llm/gemini.py", "batching/llm/errors.py"}


def test_services_and_selectors_know_no_views() -> None:
    for path in [*ROOT.glob("*/services.py"), *ROOT.glob("*/selectors.py")]:
        assert not [n for n in imports_of(path) if n.startswith("rest_framework")], path


def test_whoever_makes_no_call_does_not_load_the_sdk() -> None:
    """Half a second of every start, for commands and for the doors of a fleet."""
    program = (
        "import sys, llmbatch.asgi; from batching.process.runtime import Runtime\n"
        "Runtime(runs_batches=False)\n"
        "assert 'google.genai' not in sys.modules, 'a door loads it'\n"
        "Runtime()\n"
        "assert 'google.genai' in sys.modules, 'not in the middle of a call'\n"
    )
    environment = os.environ | {"DJANGO_DEBUG": "true", "DATABASE_URL": "sqlite:///:memory:"}
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, check=True)
