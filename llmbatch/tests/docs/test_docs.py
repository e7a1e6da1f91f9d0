"""What can become outdated in the documents: variables, paths, commands, errors, files, links."""

import ast
import re
from pathlib import Path

import pytest

from batching.api.websocket.routes import SOCKETS
from batching.engine.errors import ERRORS_BY_CODE
from llmbatch.routes import ROUTES
from llmbatch.tests.docs.variables import ROOT, variables
from llmbatch.tests.fixtures.scrape import promtool_mark, run_promtool

ALERTS = ROOT / "docs/alerts.yml"
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "examples/README.md"]
)


def read(name: str) -> str:
    return (ROOT / name).read_text()


def test_every_variable_is_in_the_document_and_in_the_example() -> None:
    found = variables()
    assert len(found) > 15
    documented = re.findall(r"^\| `([A-Z_]+)` \|", read("docs/configuration.md"), re.M)
    assert set(documented) == found
    assert set(re.findall(r"^# ([A-Z_]+)=", read(".env.example"), re.M)) == found


def test_every_route_is_in_the_document_of_the_api() -> None:
    table = read("docs/api.md")
    assert {route.path for route in ROUTES if f"`{route.path}`" not in table} == set()


def test_every_socket_is_in_the_document_of_the_api() -> None:
    assert {path for path in SOCKETS if f"WebSocket `{path}`" not in read("docs/api.md")} == set()


def test_every_command_is_in_the_document_of_operations() -> None:
    commands = {path.stem for path in ROOT.glob("*/management/commands/[a-z]*.py")}
    table = read("docs/operations.md")
    assert {name for name in commands if f"`./gateway {name}" not in table} == set()


def test_every_make_target_is_in_the_document_for_contributors() -> None:
    targets = re.search(r"^\.PHONY: (.+)$", read("Makefile"), re.M)
    assert targets
    table = read("CONTRIBUTING.md")
    assert {name for name in targets[1].split() if f"| `make {name}` |" not in table} == set()


def test_every_error_code_is_in_the_document_with_its_status() -> None:
    rows = re.findall(r"^\| (\d{3}) \| `(\w+)` \|", read("docs/api.md"), re.M)
    documented = {code: int(status) for status, code in rows}
    errors = {code: error.status for code, error in ERRORS_BY_CODE.items()}
    assert {code: documented.get(code) for code in errors} == errors


@promtool_mark()
def test_promtool_accepts_the_alerts() -> None:
    assert run_promtool("check", "rules", str(ALERTS)) == ""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_linked_and_named_files_exist(document: Path) -> None:
    text = document.read_text()
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]
    missing = [link for link in links if not (document.parent / link).exists()]
    named = re.findall(r"`((?:batching|chats|settings_app|llmbatch|bench|docs)/[\w./-]+)`", text)
    missing += [name for name in named if not (ROOT / name).exists()]
    assert missing == [] or document.name == "CHANGELOG.md"


def test_walk_through_names_functions_in_files_that_have_them() -> None:
    section = read("docs/architecture.md").partition("## A walk through the code")[2]
    steps = re.findall(r"^\d+\. `([\w/]+\.py)` `([\w.]+)`", section.partition("\n## ")[0], re.M)
    assert 8 <= len(steps) <= 12
    files = [file for file, _ in steps]
    assert len(set(files)) == len(files)
    for file, name in steps:
        assert name in _list_functions(ROOT / file), (file, name)


def _list_functions(path: Path) -> set[str]:
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            own = (n for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
            names |= {f"{node.name}.{n.name}" for n in own}
    return names


def test_every_room_is_in_the_document_of_the_architecture() -> None:
    rooms = {p.name for p in (ROOT / "batching").iterdir() if (p / "__init__.py").exists()}
    rooms -= {"migrations", "tests", "templatetags", "management"}
    text = read("docs/architecture.md")
    assert {room for room in rooms if f"`{room}/`" not in text} == set()


def test_readme_is_short() -> None:
    assert len(read("README.md").splitlines()) <= 120
