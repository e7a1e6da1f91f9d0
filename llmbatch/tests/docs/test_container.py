"""The image and the compose file match the settings. The tests need no Docker engine."""

import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings

from llmbatch.routes import ROUTES
from llmbatch.tests.docs.variables import variables
from llmbatch.tests.fixtures.image import (
    ROOT,
    USER_ID,
    Image,
    find_one,
    health_command,
    image_variables,
    is_sent,
    read_instructions,
    read_last_stage,
    sent_files,
    start_command,
)
from llmbatch.tests.fixtures.server import PATIENCE_S, free_port

SET_BY_THE_IMAGE = {"HOST", "PORT", "LOG_DIR"}


@pytest.fixture(scope="module")
def service() -> dict[str, Any]:
    document = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return document["services"]["gateway"] | {"named": document["volumes"]}


def test_image_is_pinned_to_a_release_of_the_required_python() -> None:
    needed = re.search(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert needed
    bases = [rest.split()[0] for word, rest in read_instructions() if word == "FROM"]
    assert len(bases) == 2
    for base in bases:
        assert re.fullmatch(rf"python:{needed[1]}\.\d+-slim-\w+", base), base


def test_process_runs_as_a_user_that_is_not_root() -> None:
    words = [word for word, _ in read_last_stage()]
    assert find_one("USER") == f"{USER_ID}:{USER_ID}"
    assert words.index("USER") > len(words) - 1 - words[::-1].index("RUN")
    assert any(f"useradd --uid {USER_ID}" in rest for word, rest in read_last_stage())


def test_health_check_requests_the_liveness_path() -> None:
    code = health_command()[-1]
    path = re.search(r"\{os\.environ\[\"PORT\"\]\}(/[\w/]+)", code)
    assert path
    assert path[1] == "/health"
    assert path[1] in {route.path for route in ROUTES}
    compile(code, "HEALTHCHECK", "exec")


def test_written_folders_are_volumes(service: dict[str, Any]) -> None:
    folders = {f"/app/{path.relative_to(ROOT)}" for path in (settings.DATA_DIR, ROOT / "logs")}
    assert find_one("WORKDIR") == "/app"
    assert set(yaml.safe_load(find_one("VOLUME"))) == folders
    mounts = dict(volume.split(":") for volume in service["volumes"])
    assert set(mounts.values()) == folders
    assert set(mounts) <= set(service["named"])


def test_compose_passes_every_variable_of_the_settings(service: dict[str, Any]) -> None:
    assert set(service["environment"]) == variables() - {"LOG_DIR"}
    given = {name for name, value in service["environment"].items() if value is not None}
    assert given == (SET_BY_THE_IMAGE - {"LOG_DIR"}) | {"DJANGO_DEBUG"}
    assert service["environment"]["DJANGO_DEBUG"] == "false", "whatever .env says"
    of_python = {"PATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}
    assert set(image_variables()) - of_python <= variables()


def test_published_port_is_the_port_of_the_server_and_local(
    service: dict[str, Any],
) -> None:
    port = image_variables()["PORT"]
    assert image_variables()["HOST"] == service["environment"]["HOST"] == "0.0.0.0"
    assert find_one("EXPOSE") == service["environment"]["PORT"] == port
    assert service["ports"] == [f"127.0.0.1:${{PORT:-{port}}}:{port}"]


def test_stopping_leaves_time_to_drain(service: dict[str, Any]) -> None:
    assert int(service["stop_grace_period"].removesuffix("s")) > settings.DRAIN_S
    assert "exec python manage.py serve" in start_command()[-1]  # so that it receives the signal
    assert service["restart"] == "unless-stopped"


def test_container_may_write_only_to_its_volumes(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["tmpfs"] == ["/tmp"]


@pytest.mark.parametrize(
    "name",
    [
        ".env",
        ".env.example",
        ".git/config",
        ".venv/bin/python",
        "data/secret_key",
        "data/gateway.sqlite3",
        "logs/llm_request_response.log",
        "chats/tests/rows.py",
        "llmbatch/__pycache__/settings.cpython-311.pyc",
    ],
)
def test_secrets_history_and_tests_stay_out_of_the_image(name: str) -> None:
    assert not is_sent(name)


def test_image_has_every_app_template_and_static_file() -> None:
    sent = set(sent_files())
    assert {"manage.py", "gateway", "requirements.txt", "templates/base.html"} <= sent
    for folder in ("batching", "chats", "llmbatch", "settings_app", "templates", "static"):
        tracked = {p.relative_to(ROOT).as_posix() for p in (ROOT / folder).rglob("*.*")}
        assert {n for n in tracked - sent if "/tests/" not in n and "__pycache__" not in n} == set()


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A temporary folder that other users may enter, unlike tmp_path."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="session")
def image(folder: Path) -> Image:
    image = Image(folder)
    image.build()
    image.built = image.list_files()
    return image


@pytest.mark.server
def test_image_contains_collected_static_files_and_no_secret(image: Image) -> None:
    files = image.built
    assert {name for name in files if name.startswith(("data/", "logs/", ".env"))} == set()
    assert any(re.fullmatch(r"staticfiles/llmbatch/pages\.\w+\.css", name) for name in files)


def wait_until_healthy(image: Image, process: subprocess.Popen, *, log: Path, port: str) -> None:
    limit = time.monotonic() + PATIENCE_S
    while image.start(health_command(), log=log.with_name("health.log"), PORT=port).wait():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < limit, log.read_text()
        time.sleep(0.1)


@pytest.mark.server
def test_container_becomes_healthy_writes_only_to_volumes_and_stops(
    image: Image, folder: Path
) -> None:
    log, port, before = folder / "container.log", str(free_port()), image.list_files()
    production = {"DJANGO_ALLOWED_HOSTS": "gateway.example", "TLS_PROXY": "true"}
    process = image.start(start_command(), log=log, PORT=port, HOST="127.0.0.1", **production)
    try:
        wait_until_healthy(image, process, log=log, port=port)
        headers = {"Host": "gateway.example", "X-Forwarded-Proto": "https"}
        address = f"http://127.0.0.1:{port}"
        page = urllib.request.Request(f"{address}/admin/login/", headers=headers)
        content = urllib.request.urlopen(page, timeout=PATIENCE_S).read().decode()
        style = re.search(r'href="(/static/[\w/]+\.\w{12}\.css)"', content)
        assert style, content
        file = urllib.request.Request(address + style[1], headers=headers)
        assert b"{" in urllib.request.urlopen(file, timeout=PATIENCE_S).read()
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
    written = image.list_files() - before
    assert "data/gateway.sqlite3" in written
    assert {name for name in written if not name.startswith(("data/", "logs/"))} == set()
    assert "Traceback" not in log.read_text()


@pytest.mark.server
def test_health_check_fails_where_nothing_listens(image: Image, folder: Path) -> None:
    assert shutil.which("sh")
    check = image.start(health_command(), log=folder / "health.log", PORT=str(free_port()))
    assert check.wait(PATIENCE_S) != 0
