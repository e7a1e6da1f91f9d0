"""What can rot in the documents: variables, paths, commands, errors."""

import re

from batching.api.websocket.routes import SOCKETS
from batching.engine.errors import ERRORS_BY_CODE
from llmbatch.routes import ROUTES
from llmbatch.tests.docs.variables import ROOT, variables
from llmbatch.tests.fixtures.scrape import promtool_mark, run_promtool

README = (ROOT / "README.md").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()
ALERTS = ROOT / "docs/alerts.yml"


def test_every_variable_is_in_the_readme_and_in_the_example() -> None:
    found = variables()
    assert len(found) > 15
    assert {name for name in found if f"`{name}`" not in README} == set()
    assert set(re.findall(r"^# ([A-Z_]+)=", EXAMPLE, re.M)) == found


def test_every_path_is_in_the_readme() -> None:
    paths = {*(route.path for route in ROUTES), *SOCKETS}
    assert {path for path in paths if f"`{path}" not in README} == set()


def test_every_command_and_make_target_is_in_the_readme() -> None:
    commands = {path.stem for path in ROOT.glob("*/management/commands/[a-z]*.py")}
    assert {name for name in commands if f"manage.py {name}" not in README} == set()
    targets = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.M)
    assert targets
    assert {name for name in targets[1].split() if f"make {name}" not in README} == set()


def test_every_error_code_is_in_the_readme() -> None:
    assert {code for code in ERRORS_BY_CODE if f"`{code}`" not in README} == set()


@promtool_mark()
def test_promtool_is_content_with_the_alerts() -> None:
    assert run_promtool("check", "rules", str(ALERTS)) == ""


def test_layout_names_files_that_exist() -> None:
    for name in re.findall(r"batching/engine/|batching/llm/\w+\.py", README):
        assert (ROOT / name).exists(), name
