"""The first lines of `serve` say who can reach the gateway, and what is still missing."""

from typing import Any

import pytest
from django.db import OperationalError

from llmbatch import reach
from llmbatch.reach import describe_reach, format_url
from settings_app.access.tests.rows import create_api_key
from settings_app.services import update_settings

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _production(settings: Any) -> None:
    settings.DEBUG = settings.CORS_BY_MODEL = settings.CORS_ALLOW_ALL_ORIGINS = False
    settings.API_ACCESS = "key"
    settings.TLS_PROXY = False
    settings.GEMINI_API_KEY = settings.GEMINI_BASE_URL = ""
    settings.CORS_ALLOWED_ORIGINS = []


def said(host: str = "127.0.0.1") -> str:
    return "\n".join(describe_reach(host))


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("127.0.0.1", "Only programs of this machine can reach it."),
        ("localhost", "Only programs of this machine can reach it."),
        ("::1", "Only programs of this machine can reach it."),
        ("0.0.0.0", "Every machine that reaches this one can reach it (HOST=0.0.0.0)."),
        ("::", "Every machine that reaches this one can reach it (HOST=::)."),
        ("10.0.0.5", "Machines that reach 10.0.0.5 can reach it."),
        ("gateway.internal", "Machines that reach gateway.internal can reach it."),
    ],
)
def test_address_is_explained(host: str, words: str) -> None:
    assert said(host).startswith(words)


def test_proxy_on_this_machine_lets_others_in(settings: Any) -> None:
    settings.TLS_PROXY = True
    assert "and the clients of its TLS proxy." in said()


def test_what_a_copied_example_lacks_is_said_at_once() -> None:
    assert "programs get 401: ./gateway create_api_key" in said()
    assert "prompts get 503: enter one in the admin, set GEMINI_API_KEY" in said()
    create_api_key(name="shop")
    update_settings(api_key="a-real-key-0123456789")
    assert "401" not in said()
    assert "503" not in said()
    assert "A model key is set" in said()


def test_open_access_is_said(settings: Any) -> None:
    settings.API_ACCESS = "open"
    assert "without a key, all of them may send prompts, read all chats" in said()
    assert "401" not in said()


def test_origins_are_said(settings: Any) -> None:
    assert "other origins that may call it: none" in said()
    settings.CORS_ALLOWED_ORIGINS = ["https://a.example"]
    assert "other origins that may call it: https://a.example" in said()
    settings.DEBUG = settings.CORS_BY_MODEL = True
    assert "every origin may call it while answers are simulated" in said()
    assert "so answers are simulated" in said()
    settings.CORS_ALLOW_ALL_ORIGINS = True
    assert "Pages of every origin may call it (CORS_ALLOWED_ORIGINS=*)." in said()


def test_unreachable_database_does_not_stop_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OperationalError

    monkeypatch.setattr(reach, "refresh_snapshot", fail)
    assert "API_ACCESS=key" in said()
    assert "none (CORS_ALLOWED_ORIGINS)" in said()


def test_url_of_an_ipv6_address_has_brackets() -> None:
    assert format_url("::1", 8000) == "http://[::1]:8000/"
    assert format_url("127.0.0.1", 8000) == "http://127.0.0.1:8000/"
