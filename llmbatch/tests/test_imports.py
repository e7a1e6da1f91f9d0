"""The import rule: which rooms may import which, read from the sources.

Lazy imports and `TYPE_CHECKING` blocks count. Tests may import anything.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Each app may import the apps after it.
APPS = ["llmbatch", "batching", "chats", "settings_app"]

# The rooms of `batching`, and which other rooms of it each may import.
SHARED = {"engine", "models", "messages", "llm", "telemetry", "store"}
BELOW_PROCESS = SHARED | {"sockets", "gateway", "worker", "analytics", "live"}
ROOMS: dict[str, set[str]] = {
    "engine": set(),
    "models": set(),
    "apps": set(),
    "messages": {"engine"},
    "llm": {"engine"},
    "smoke_test": {"engine"},
    "telemetry": {"engine", "models"},
    "store": {"engine", "models", "messages", "llm", "telemetry"},
    "sockets": {"store"},
    "gateway": {"engine", "messages", "llm", "telemetry", "store"},
    "worker": {"engine", "messages", "telemetry", "store"},
    "analytics": {"engine", "models", "store"},
    "live": {"engine", "models", "messages", "telemetry", "store", "sockets"},
    "demo": {"engine", "models", "llm", "store", "analytics"},
    "process": BELOW_PROCESS,
    "api": BELOW_PROCESS | {"process"},
    "pages": BELOW_PROCESS | {"process"},
    "management": {"analytics", "demo", "models", "smoke_test", "store"},
}
# These may import every room.
TOP = {"admin", "urls", "templatetags", "migrations"}

# Code that works with the tables or with requests, and must not import REST framework.
WITHOUT_VIEWS = [
    *("batching/store", "batching/gateway", "batching/worker", "chats/services.py"),
    *("chats/selectors.py", "settings_app/services.py"),
]


@cache
def sources() -> dict[str, Path]:
    """Production modules by their dotted names."""
    found = {}
    for app in APPS:
        for path in (ROOT / app).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if "tests" not in parts and path.name != "conftest.py":
                found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imports_of(path: Path) -> Iterator[str]:
    """Dotted names, those of submodules in full."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in sources() else node.module


@cache
def edges() -> dict[str, set[str]]:
    """Production modules, and the production modules that each imports."""
    return {
        module: {name for name in imports_of(path) if name in sources()} - {module}
        for module, path in sources().items()
    }


def room_of(module: str) -> str:
    """The part below `batching`; "" for another app."""
    app, _, rest = module.partition(".")
    return rest.partition(".")[0] if app == "batching" else ""


def imported_rooms(room: str) -> set[str]:
    return {
        room_of(name)
        for module, names in edges().items()
        if room_of(module) == room
        for name in names
        if room_of(name)
    }


def test_each_app_imports_only_the_apps_after_it() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, path in sources().items()
        for name in imports_of(path)
        if name.split(".")[0] in APPS[: APPS.index(module.split(".")[0])]
    ]
    assert wrong == []


def test_each_room_is_in_the_table() -> None:
    assert {room_of(module) for module in sources()} - {""} == set(ROOMS) | TOP


@pytest.mark.parametrize("room", ROOMS)
def test_room_imports_only_the_rooms_below_it(room: str) -> None:
    assert imported_rooms(room) <= ROOMS[room] | {room}


def test_imports_have_no_cycle() -> None:
    left = {module: set(names) for module, names in edges().items()}
    while free := [module for module, names in left.items() if not names & left.keys()]:
        for module in free:
            del left[module]
    assert sorted(left) == []


def test_a_third_of_the_imports_inside_batching_stay_in_their_room() -> None:
    pairs = [
        (room_of(module), room_of(name))
        for module, names in edges().items()
        for name in names
        if room_of(module) and room_of(name)
    ]
    assert sum(here == there for here, there in pairs) >= len(pairs) / 3


def test_root_of_batching_holds_few_modules() -> None:
    assert len(list((ROOT / "batching").glob("*.py"))) <= 8


def test_engine_imports_no_framework_and_no_app() -> None:
    foreign = {"django", "rest_framework", "channels", "google", "httpx2", *APPS}
    wrong = [
        f"{module} imports {name}"
        for module, path in sources().items()
        if room_of(module) == "engine"
        for name in imports_of(path)
        if name.split(".")[0] in foreign and not name.startswith("batching.engine")
    ]
    assert wrong == []


def test_only_the_llm_room_imports_the_sdk() -> None:
    importers = {
        module
        for module, path in sources().items()
        if any(name.split(".")[0] == "google" for name in imports_of(path))
    }
    assert importers == {"batching.llm.gemini", "batching.llm.errors"}


@pytest.mark.parametrize("place", WITHOUT_VIEWS)
def test_tables_and_requests_are_handled_without_views(place: str) -> None:
    folder = ROOT / place
    paths = [folder] if folder.is_file() else [p for p in sources().values() if folder in p.parents]
    assert paths
    for path in paths:
        assert not [n for n in imports_of(path) if n.startswith("rest_framework")], path


def test_process_without_batches_does_not_load_the_sdk(tmp_path: Path) -> None:
    """Loading the SDK takes half a second, which commands and web processes need not spend."""
    program = (
        "import sys, llmbatch.asgi; from batching.process.runtime import Runtime\n"
        "Runtime(runs_batches=False)\n"
        "assert 'google.genai' not in sys.modules, 'a web process loads it'\n"
        "Runtime()\n"
        "assert 'google.genai' in sys.modules, 'it would be loaded in the middle of a call'\n"
    )
    database = f"sqlite:///{tmp_path / 'gateway.sqlite3'}"
    environment = os.environ | {"DJANGO_DEBUG": "true", "DATABASE_URL": database}
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, check=True)
