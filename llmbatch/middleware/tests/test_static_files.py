"""Static files before and after they are collected, and the check of a production environment."""

import os
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from django.contrib.staticfiles import finders
from django.core.handlers.asgi import ASGIHandler
from django.core.management import call_command

ROOT = Path(__file__).resolve().parents[3]
CSS = "llmbatch/pages.css"


@pytest.fixture
def collected(settings, tmp_path):
    settings.STATIC_ROOT = tmp_path / "static"
    settings.STORAGES = settings.STORAGES | {
        "staticfiles": {
            "BACKEND": "llmbatch.middleware.static_files.StaticStorage",
            "OPTIONS": {"location": settings.STATIC_ROOT, "base_url": "/static/"},
        }
    }
    call_command("collectstatic", interactive=False, verbosity=0)
    return settings.STATIC_ROOT


def source_text() -> str:
    return Path(finders.find(CSS)).read_text()


async def fetch(path: str, **headers: str) -> httpx2.Response:
    """Requests the path from the handler that the server uses."""
    handler = ASGIHandler()
    transport = httpx2.ASGITransport(app=handler)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.get(path, headers=headers)


@pytest.mark.parametrize("debug", [True, False])
async def test_files_are_served_before_they_are_collected(settings, tmp_path, debug):
    settings.STATIC_ROOT = tmp_path / "nothing"
    settings.DEBUG = settings.WHITENOISE_AUTOREFRESH = debug
    response = await fetch(f"/static/{CSS}")
    assert response.text == source_text()
    assert response.headers["content-type"].startswith("text/css")
    assert (await fetch("/static/../manage.py")).status_code == 404
    assert (await fetch("/static/nothing.css")).status_code == 404


@pytest.mark.django_db
def test_pages_name_plain_files_before_they_are_collected(client, settings, tmp_path):
    settings.API_ACCESS = "open"
    assert f'href="/static/{CSS}"' in client.get("/dashboard").text


async def test_collected_files_are_compressed_and_cached_for_years(collected):
    [hashed] = collected.glob("llmbatch/pages.*.css")
    response = await fetch(f"/static/llmbatch/{hashed.name}", **{"accept-encoding": "gzip"})
    assert response.text == source_text()
    assert response.headers["content-encoding"] == "gzip"
    assert "immutable" in response.headers["cache-control"]
    again = await fetch(
        f"/static/llmbatch/{hashed.name}",
        **{"if-modified-since": response.headers["last-modified"]},
    )
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.django_db
def test_pages_name_hashed_files_once_they_are_collected(client, collected, settings):
    settings.API_ACCESS = "open"
    [hashed] = [p.name for p in collected.glob("llmbatch/pages.*.css")]
    assert f'href="/static/llmbatch/{hashed}"' in client.get("/dashboard").text


PRODUCTION = {
    "DJANGO_DEBUG": "false",
    "DJANGO_SECRET_KEY": "k3y-" + "0123456789abcdefghij" * 3,
    "DJANGO_ALLOWED_HOSTS": "gateway.example.org",
    "SETTINGS_ENCRYPTION_KEYS": "a-passphrase-of-some-length",
    "GEMINI_API_KEY": "test-key-0123456789",
    "TLS_PROXY": "true",
}


def check_deploy(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **PRODUCTION, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_documented_production_environment_passes_the_check(tmp_path):
    result = check_deploy(DATABASE_URL=f"sqlite:///{tmp_path}/db", LOG_DIR=str(tmp_path))
    assert "no issues" in result.stdout, result.stderr
    assert result.returncode == 0


def test_check_warns_of_a_server_without_tls(tmp_path):
    result = check_deploy(
        TLS_PROXY="false", DATABASE_URL=f"sqlite:///{tmp_path}/db", LOG_DIR=str(tmp_path)
    )
    for warning in ("security.W004", "security.W008", "security.W012", "security.W016"):
        assert warning in result.stderr
    assert result.returncode == 1
