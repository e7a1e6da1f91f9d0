"""API keys are stored as hashes, cached, and removed from the cache when they change."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.test import Client

from settings_app.access.api_keys import KEY_CACHE, InvalidKey, KeyCache
from settings_app.access.rate_limits import MinuteLog
from settings_app.access.tests.rows import create_api_key
from settings_app.models import ApiClient, ApiKey
from settings_app.snapshot import refresh_if_stale

pytestmark = pytest.mark.django_db


def find_text(text: str) -> str:
    found = re.search(r"[A-Za-z0-9]{8}\.[A-Za-z0-9]{32}", text)
    assert found is not None, text
    return found[0]


def test_key_is_stored_as_a_hash_and_gets_a_client_of_its_own() -> None:
    row, key = create_api_key(name="billing", owner="Ann")
    stored = ApiKey.objects.get()
    assert key not in str(stored.__dict__)
    assert key.split(".")[1] not in str(stored.__dict__)
    assert (stored.client.name, stored.owner, stored.is_staff) == ("billing", "Ann", False)
    other, _ = create_api_key(name="billing")
    assert other.client_id != row.client_id
    third, _ = create_api_key(name="second key", client=row.client)
    assert third.client_id == row.client_id


def test_cached_key_needs_no_query(django_assert_num_queries: Any) -> None:
    row, key = create_api_key(name="a", is_staff=True, requests_per_minute=7)
    cache = KeyCache()
    refresh_if_stale()
    assert cache.find_cached(key) is None
    principal = cache.read_principal(key)
    with django_assert_num_queries(0):
        cached = cache.find_cached(key)
    assert cached is principal
    assert (principal.client_id, principal.is_staff) == (row.client_id, True)
    assert principal.requests_per_minute == 7


def test_invalid_key_is_cached_and_malformed_ones_need_no_query(
    django_assert_num_queries: Any,
) -> None:
    _, key = create_api_key(name="a")
    cache = KeyCache()
    wrong = key[:-1] + ("a" if key[-1] != "a" else "b")
    with pytest.raises(InvalidKey):
        cache.read_principal(wrong)
    with django_assert_num_queries(0):
        with pytest.raises(InvalidKey):
            cache.find_cached(wrong)
        for odd in ("", ".", "\x00" * 8 + "." + "a" * 32, "\ud83d", "a" * 10_000, key + " "):
            with pytest.raises(InvalidKey):
                cache.read_principal(odd)


@pytest.mark.parametrize("change", [{"revoked": True}, {"is_staff": True}])
def test_changed_key_leaves_the_cache_when_the_settings_are_reread(
    admin_client: Client, change: dict[str, bool]
) -> None:
    row, key = create_api_key(name="a")
    refresh_if_stale()
    KEY_CACHE.read_principal(key)
    assert KEY_CACHE.find_cached(key) is not None
    form = {"name": "a", "owner": ""} | dict.fromkeys(change, "on")
    url = f"/admin/settings_app/apikey/{row.pk}/change/"
    assert admin_client.post(url, form).status_code == 302
    refresh_if_stale()
    assert KEY_CACHE.find_cached(key) is None
    if "revoked" in change:
        with pytest.raises(InvalidKey):
            KEY_CACHE.read_principal(key)
    else:
        assert KEY_CACHE.read_principal(key).is_staff


def test_cached_key_expires_on_time() -> None:
    _, key = create_api_key(name="a")
    soon = datetime.now(UTC) + timedelta(seconds=100)
    ApiKey.objects.update(expiry_date=soon)
    cache = KeyCache()
    refresh_if_stale()
    assert cache.read_principal(key).expires_at == soon
    ApiKey.objects.update(expiry_date=datetime.now(UTC) - timedelta(seconds=1))
    with pytest.raises(InvalidKey):
        cache.read_principal(key)


def test_key_that_expires_in_the_cache_is_refused_without_a_query(
    django_assert_num_queries: Any,
) -> None:
    _, key = create_api_key(name="a")
    ApiKey.objects.update(expiry_date=datetime.now(UTC) + timedelta(seconds=100))
    cache = KeyCache()
    refresh_if_stale()
    principal = cache.read_principal(key)
    past = datetime.now(UTC) - timedelta(seconds=1)
    cache._keys = {d: (replace(principal, expires_at=past), u) for d, (_, u) in cache._keys.items()}
    with django_assert_num_queries(0), pytest.raises(InvalidKey):
        cache.find_cached(key)


def test_last_use_is_stored_once_per_call() -> None:
    _, key = create_api_key(name="a")
    cache = KeyCache()
    cache.read_principal(key)
    cache.find_cached(key)
    assert ApiKey.objects.get().last_used_at is None
    assert cache.write_last_used() == 1
    assert ApiKey.objects.get().last_used_at is not None
    assert cache.write_last_used() == 0


def test_admin_shows_a_new_key_once(admin_client: Client) -> None:
    form = {"name": "billing", "owner": "Ann", "requests_per_minute": "60"}
    page = admin_client.post("/admin/settings_app/apikey/add/", form, follow=True)
    key = find_text(page.content.decode())
    assert KEY_CACHE.read_principal(key).prefix == ApiKey.objects.get().prefix
    for path in ("", f"{ApiKey.objects.get().pk}/change/", f"{ApiKey.objects.get().pk}/history/"):
        text = admin_client.get(f"/admin/settings_app/apikey/{path}").content.decode()
        assert key.split(".")[1] not in text
    assert "rest_framework_api_key" not in admin_client.get("/admin/").content.decode()


def test_admin_refuses_an_invalid_limit(admin_client: Client) -> None:
    for limit in ("0", "-1", "1.5", "many", "100001"):
        form = {"name": "billing", "requests_per_minute": limit}
        page = admin_client.post("/admin/settings_app/apikey/add/", form)
        assert page.status_code == 200
        assert b"errorlist" in page.content
    assert not ApiKey.objects.exists()


def test_only_permitted_staff_create_keys(client: Client) -> None:
    user = get_user_model().objects.create_user("bob", is_staff=True)
    client.force_login(user)
    assert client.post("/admin/settings_app/apikey/add/", {"name": "x"}).status_code == 403


def test_command_prints_a_key_that_works() -> None:
    out = StringIO()
    call_command("create_api_key", "cli", "--staff", "--per-minute", "5", stdout=out)
    principal = KEY_CACHE.read_principal(out.getvalue().strip())
    assert (principal.is_staff, principal.requests_per_minute) == (True, 5)
    name = ApiClient.objects.get(pk=principal.client_id).name
    call_command("create_api_key", "second", "--client", name, stdout=out)
    assert ApiKey.objects.filter(client__name=name).count() == 2


@pytest.mark.parametrize(
    "arguments", [("x" * 51,), ("a", "--per-minute", "0"), ("a", "--client", "nobody")]
)
def test_command_refuses_invalid_arguments_with_one_sentence(arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        call_command("create_api_key", *arguments)
    assert not ApiKey.objects.exists()


def test_minute_log_counts_exactly_within_any_minute() -> None:
    log = MinuteLog()
    assert [log.add("a", 3, now=second) for second in (0.0, 10.0, 20.0)] == [0, 0, 0]
    assert log.add("a", 3, now=30.0) == 30.0
    assert log.add("b", 3, now=30.0) == 0.0
    assert log.add("a", 3, now=59.9) == pytest.approx(0.1)
    assert log.add("a", 3, now=60.0) == 0.0
    assert log.add("a", 3, now=60.0) == 10.0
