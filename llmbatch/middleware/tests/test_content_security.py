"""The security headers of pages, and pages that obey them."""

from pathlib import Path

import pytest
from asgiref.sync import iscoroutinefunction
from django.conf import settings as configured
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.http import HttpResponse
from django.test import AsyncClient
from django.urls import reverse

from llmbatch.middleware.content_security import CONTENT_SECURITY_POLICY, ContentSecurityMiddleware
from llmbatch.tests.fixtures.page_policy import FOREIGN, INLINE, SCRIPT

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(client):
    client.force_login(get_user_model().objects.create_superuser("ann"))
    return client


def admin_pages() -> list[str]:
    pages = ["/admin/", "/admin/password_change/", "/admin/settings_app/gatewaysettings/1/change/"]
    pages += ["/admin/settings_app/lane/2/change/", "/admin/settings_app/apikey/add/"]
    pages += ["/admin/auth/user/add/"]
    lists = [f"{m._meta.app_label}_{m._meta.model_name}_changelist" for m in admin.site._registry]
    return [*pages, *(reverse(f"admin:{name}") for name in lists)]


def test_policy_allows_own_files_only():
    allowed = dict(part.split(" ", 1) for part in CONTENT_SECURITY_POLICY.split("; "))
    assert allowed == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    assert "unsafe" not in CONTENT_SECURITY_POLICY


@pytest.mark.parametrize(
    "path", ["/dashboard", "/live", "/playground", "/admin/login/", "/admin/nothing/", "/nothing"]
)
def test_every_page_has_the_headers(client, settings, path):
    settings.API_ACCESS = "open"
    response = client.get(path, follow=True)
    assert response["Content-Type"].startswith("text/html")
    assert response["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["X-Frame-Options"] == "DENY"
    assert response["Referrer-Policy"] == "same-origin"


def test_admin_pages_obey_the_policy(staff):
    pages = admin_pages()
    assert len(pages) > 12
    for page in pages:
        response = staff.get(page, follow=True)
        assert response.status_code == 200, page
        assert response["Content-Security-Policy"] == CONTENT_SECURITY_POLICY, page
        for pattern in (INLINE, SCRIPT, FOREIGN):
            assert not pattern.search(response.text), (page, pattern)


def test_own_templates_have_no_inline_script_or_style():
    for template in Path(configured.BASE_DIR, "templates").rglob("*.html"):
        text = template.read_text()
        assert not INLINE.search(text), template
        assert not SCRIPT.search(text), template


def test_json_has_no_policy(client, settings):
    settings.API_ACCESS = "open"
    for path in ("/v1/settings", "/v1/nothing"):
        response = client.get(path)
        assert response["Content-Type"].startswith("application/json")
        assert "Content-Security-Policy" not in response
        assert response["X-Content-Type-Options"] == "nosniff"


def test_error_pages_under_debug_keep_their_style(client, settings):
    settings.DEBUG = True
    response = client.get("/nothing")
    assert "<style" in response.text
    assert "Content-Security-Policy" not in response


async def test_middleware_stays_on_the_event_loop():
    async def respond(request):
        return HttpResponse("a page")

    middleware = ContentSecurityMiddleware(respond)
    assert iscoroutinefunction(middleware)
    response = await middleware(None)
    assert response["Content-Security-Policy"] == CONTENT_SECURITY_POLICY


async def test_async_handler_sends_the_policy(settings):
    settings.API_ACCESS = "open"
    response = await AsyncClient().get("/admin/login/")
    assert response["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
