"""The navigation and notices of every page, and the error pages."""

import html
import re

import pytest
from django.test import RequestFactory
from django.utils import timezone
from django.views.defaults import server_error

from batching.engine.capacity import Capacity
from batching.llm.limits import SPENDING_CAP
from batching.models import CallStatus
from batching.templatetags.shell import timestamp
from batching.tests.rows import make_batch, make_call
from chats.tests.rows import NOON
from settings_app.services import update_settings
from settings_app.snapshot import refresh_snapshot

pytestmark = pytest.mark.django_db

PAGES = [
    *("/dashboard", "/live", "/playground", "/chats", "/v1/docs"),
    *("/admin/", "/admin/chats/chat/", "/admin/settings_app/lane/"),
]


def read_nav(page: str) -> list[tuple[str, str]]:
    nav = re.search(r'<nav[^>]*aria-label="Pages">(.*?)</nav>', page, re.S)
    return re.findall(r'<a href="([^"]+)"([^>]*)>', nav[1])


@pytest.mark.parametrize("path", PAGES)
def test_every_page_links_to_the_others_and_every_link_opens(admin_client, path):
    links = read_nav(admin_client.get(path).text)
    assert {"/dashboard", "/admin/"} <= {link for link, _ in links}
    for link, _ in links:
        assert admin_client.get(link).status_code == 200, link


def test_navigation_marks_the_page_it_is_on(admin_client):
    marks = dict(read_nav(admin_client.get("/dashboard").text))
    assert [link for link, mark in marks.items() if "aria-current" in mark] == ["/dashboard"]


@pytest.mark.parametrize("path", PAGES)
def test_banner_is_on_every_page_once(admin_client, settings, path):
    settings.GEMINI_API_KEY = ""
    refresh_snapshot()
    assert admin_client.get(path).text.count("503 no_api_key") == 1


def test_viewers_without_access_see_no_notice(client, settings):
    settings.API_ACCESS, settings.GEMINI_API_KEY = "key", "test-key-0123456789"
    detail = {"error_code": "upstream_error", "error_detail": "secret words"}
    make_call(make_batch(), status=CallStatus.FAILED, **detail)
    for path in ("/admin/login/", "/nothing"):
        assert "secret words" not in client.get(path).text
    settings.API_ACCESS = "open"
    assert "secret words" in client.get("/dashboard").text


def test_timestamp_of_a_failed_call_names_its_zone(client, settings):
    settings.API_ACCESS, settings.GEMINI_API_KEY = "open", "test-key-0123456789"
    make_call(make_batch(), at=NOON, status=CallStatus.FAILED, error_code="upstream_error")
    written = '<time datetime="2026-03-10T12:00:00Z">2026-03-10 12:00:00 UTC</time>'
    assert written in client.get("/dashboard").text
    assert timestamp(None) == "–"


def test_unknown_page_is_explained(client):
    response = client.get("/nothing")
    assert "There is no such page" in response.text
    assert response.status_code == 404


def test_error_page_needs_no_database(django_assert_num_queries):
    with django_assert_num_queries(0):
        response = server_error(RequestFactory().get("/dashboard"))
    assert "The page could not be created" in response.text
    assert response.status_code == 500


def test_form_without_its_token_is_explained(admin_client, client):
    admin_client.handler.enforce_csrf_checks = True
    response = admin_client.post("/admin/test-key")
    assert "The form was not sent" in response.text
    assert response.status_code == 403


BREAKER = Capacity(16, 4, (None, None, None), paused_s=3.0, down=True)
STATES = {
    "simulated": "every answer is simulated",
    "no_api_key": "503 no_api_key",
    "key_refused": "upstream_rejected_key",
    "quota": "monthly spending cap is reached",
    "breaker_open": "no call is made for 3 s",
}


@pytest.mark.parametrize(("state", "words"), STATES.items())
def test_state_of_the_model_is_on_each_page(admin_client, settings, monkeypatch, state, words):
    if state in ("simulated", "no_api_key"):
        settings.GEMINI_API_KEY, settings.GEMINI_BASE_URL = "", ""
        settings.DEBUG = state == "simulated"
    else:
        settings.GEMINI_API_KEY = "test-key-0123456789"
    if state == "breaker_open":
        monkeypatch.setattr("batching.templatetags.shell.current_capacity", lambda: BREAKER)
    code = {"key_refused": "upstream_rejected_key", "quota": "upstream_unavailable"}.get(state)
    if code:
        detail = "The project's monthly spending cap is reached."
        call = {"status": CallStatus.FAILED, "error_code": code, "error_detail": detail}
        make_call(make_batch(), **call)
    refresh_snapshot()
    for path in ("/dashboard", "/v1/docs", "/admin/chats/chat/"):
        assert admin_client.get(path).text.count(words) == 1, path


@pytest.mark.parametrize(
    ("change", "shown"),
    [({"model": "gemini-x"}, False), ({"api_key": "k-2"}, False), ({"retention_days": 9}, True)],
)
def test_failure_of_the_model_is_shown_until_key_or_model_change(
    admin_client, settings, change, shown
):
    def banner_is_shown() -> bool:
        return SPENDING_CAP in html.unescape(admin_client.get("/dashboard").text)

    settings.GEMINI_API_KEY = "test-key-0123456789"
    make_failed_call("upstream_unavailable", SPENDING_CAP)
    make_failed_call("timeout", "No answer came.")
    assert banner_is_shown()
    update_settings(**change)
    assert banner_is_shown() == shown
    make_failed_call("upstream_unavailable", SPENDING_CAP)
    assert banner_is_shown()
    make_call(make_batch(), started_at=timezone.now())
    assert not banner_is_shown()


def make_failed_call(code: str, detail: str) -> None:
    failed = {"status": CallStatus.FAILED, "error_code": code, "error_detail": detail}
    make_call(make_batch(), started_at=timezone.now(), **failed)
