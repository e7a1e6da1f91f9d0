"""Five wrong passwords lock a username for one address, and lock nothing else."""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import timedelta
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.contrib.auth import get_user_model
from django.contrib.auth.backends import ModelBackend
from django.core.management import call_command
from django.db import connection
from django.test import Client, RequestFactory
from django.utils import timezone

from settings_app.access.login_throttle import (
    ADDRESS_LIMIT,
    UNKNOWN_ADDRESS,
    count_login,
    find_address,
)
from settings_app.access.tests.rows import create_api_key
from settings_app.tests.stored import search_database

PASSWORD = "the-right-one-of-the-tests"
WRONG = "a-wrong-one-of-the-tests"
LIMIT = 5

pytestmark = pytest.mark.django_db
Login = Callable[..., Any]


@pytest.fixture
def ann() -> Any:
    return get_user_model().objects.create_superuser("ann", password=PASSWORD)


@pytest.fixture
def login(ann: Any) -> Login:
    def post(password: str, *, name: str = "ann", address: str = "192.0.2.1", **extra: Any) -> Any:
        form = {"username": name, "password": password, "next": "/admin/"}
        return Client().post("/admin/login/", form, REMOTE_ADDR=address, **extra)

    return post


def fail(login: Login, times: int, **where: Any) -> list[int]:
    return [login(WRONG, **where).status_code for _ in range(times)]


def test_fifth_wrong_password_locks_even_for_the_right_one(login: Login) -> None:
    assert fail(login, LIMIT) == [200, 200, 200, 200, 429]
    refused = login(PASSWORD)
    assert refused.status_code == 429
    assert "sessionid" not in refused.cookies


def test_right_password_within_the_limit_logs_in_and_resets_the_count(login: Login) -> None:
    for _ in range(3):
        assert fail(login, LIMIT - 1) == [200] * (LIMIT - 1)
        assert login(PASSWORD).status_code == 302
    assert not AccessAttempt.objects.exists()


def test_page_explains_the_lock_and_how_to_lift_it(login: Login) -> None:
    fail(login, LIMIT)
    page = login(PASSWORD)
    html = page.content.decode()
    for words in ("Too many wrong logins", "5 logins", "For 15 minutes", "./gateway axes_reset"):
        assert words in html
    assert 14 * 60 < int(page["Retry-After"]) <= 15 * 60
    assert "no-store" in page["Cache-Control"]


def test_lock_ends_after_fifteen_minutes_despite_further_logins(login: Login) -> None:
    fail(login, LIMIT)
    late = timezone.now() - timedelta(minutes=14, seconds=30)
    AccessAttempt.objects.update(attempt_time=late)
    assert fail(login, 3) == [429] * 3
    assert AccessAttempt.objects.get().attempt_time == late, "a refused try prolongs nothing"
    assert int(login(PASSWORD)["Retry-After"]) <= 30
    AccessAttempt.objects.update(attempt_time=late - timedelta(minutes=1))
    assert login(PASSWORD).status_code == 302


def test_old_failures_do_not_count(login: Login) -> None:
    fail(login, LIMIT - 1)
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=16))
    assert fail(login, LIMIT) == [200, 200, 200, 200, 429]


def test_axes_reset_lifts_the_lock(login: Login, capsys: pytest.CaptureFixture[str]) -> None:
    fail(login, LIMIT)
    call_command("axes_reset")
    assert login(PASSWORD).status_code == 302


def test_other_names_and_other_addresses_are_not_locked(login: Login) -> None:
    get_user_model().objects.create_superuser("bob", password=PASSWORD)
    fail(login, LIMIT)
    assert login(PASSWORD, name="bob").status_code == 302
    assert login(PASSWORD, address="192.0.2.2").status_code == 302
    assert login(PASSWORD).status_code == 429


@pytest.mark.parametrize(
    "other",
    [
        {"HTTP_USER_AGENT": "another browser"},
        {"HTTP_X_FORWARDED_FOR": "198.51.100.7"},
        {"HTTP_X_REAL_IP": "198.51.100.7"},
        {"name": " ann "},
    ],
)
def test_forged_headers_allow_no_further_logins(login: Login, other: dict[str, str]) -> None:
    fail(login, LIMIT)
    assert login(PASSWORD, **other).status_code == 429


def test_address_is_locked_after_twenty_made_up_names(
    login: Login, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answered = [login(WRONG, name=f"name {n}").status_code for n in range(ADDRESS_LIMIT + 3)]
    assert answered == [200] * ADDRESS_LIMIT + [429] * 3
    assert AccessAttempt.objects.count() == ADDRESS_LIMIT, "refused logins leave no rows"
    assert len([r for r in caplog.records if getattr(r, "action", "") == "login_locked"]) == 1
    checked: list[str] = []
    monkeypatch.setattr(ModelBackend, "authenticate", lambda *_, **form: checked.append("hashed"))
    page = login(PASSWORD)
    assert (page.status_code, checked) == (429, [])
    assert "20 logins failed from your address" in page.content.decode()
    assert 14 * 60 < int(page["Retry-After"]) <= 15 * 60
    monkeypatch.undo()
    assert login(PASSWORD, address="192.0.2.2").status_code == 302
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=16))
    assert login(PASSWORD).status_code == 302


def test_right_logins_do_not_lock_an_address(login: Login) -> None:
    assert [login(PASSWORD).status_code for _ in range(ADDRESS_LIMIT + 1)][-1] == 302


def test_unknown_name_is_locked_like_a_known_one(login: Login) -> None:
    assert fail(login, LIMIT, name="nobody") == fail(login, LIMIT)


FORWARDED = {
    "203.0.113.6:50000": "203.0.113.6",
    "[2001:db8:1:2::6]": "2001:db8:1:2::",
    "[2001:db8:1:2::6]:50000": "2001:db8:1:2::",
    '"[2001:db8:1:2::6]:50000"': "2001:db8:1:2::",
    "fe80::1%eth0": "fe80::",
    "[fe80::1%25eth0]:50000": "fe80::",
    "[::ffff:203.0.113.6]:50000": "203.0.113.6",
    "::ffff:203.0.113.6": "203.0.113.6",
    "198.51.100.7,203.0.113.6:50000": "203.0.113.6",
    "198.51.100.7, , 203.0.113.6 ,": "203.0.113.6",
}
NO_ADDRESSES = ["unknown", "_hidden", "203.0.113.6:", "203.0.113.6:x", "[]:1", "[::1", "::1]", "[["]


@pytest.mark.parametrize("forwarded", FORWARDED)
def test_forwarded_address_may_have_a_port_brackets_and_a_zone(
    settings: Any, forwarded: str
) -> None:
    assert address_of(settings, "127.0.0.1", forwarded, proxy=True) == FORWARDED[forwarded]


@pytest.mark.parametrize("forwarded", NO_ADDRESSES)
def test_what_is_no_address_counts_as_the_proxy(settings: Any, forwarded: str) -> None:
    assert address_of(settings, "127.0.0.1", forwarded, proxy=True) == "127.0.0.1"


@pytest.mark.parametrize(
    ("forwarded", "proxies", "address"),
    [
        ("192.0.2.9, 203.0.113.6:50000, 198.51.100.7", 1, "198.51.100.7"),
        ("192.0.2.9, 203.0.113.6:50000, 198.51.100.7", 2, "203.0.113.6"),
        ("203.0.113.6, 198.51.100.7", 3, "203.0.113.6"),
        ("203.0.113.6", 2, "203.0.113.6"),
    ],
)
def test_behind_several_proxies_the_first_of_their_entries_counts(
    settings: Any, forwarded: str, proxies: int, address: str
) -> None:
    settings.TRUSTED_PROXIES = proxies
    assert address_of(settings, "127.0.0.1", forwarded, proxy=True) == address


def address_of(settings: Any, peer: str, forwarded: str = "", *, proxy: bool) -> str:
    settings.TLS_PROXY = proxy
    headers = {"HTTP_X_FORWARDED_FOR": forwarded} if forwarded else {}
    return find_address(RequestFactory().get("/", REMOTE_ADDR=peer, **headers))


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxy", "address"),
    [
        ("192.0.2.1", "", False, "192.0.2.1"),
        ("192.0.2.1", "198.51.100.7", False, "192.0.2.1"),
        ("127.0.0.1", "198.51.100.7", True, "198.51.100.7"),
        ("127.0.0.1", "203.0.113.9, 198.51.100.7", True, "198.51.100.7"),
        ("127.0.0.1", "198.51.100.7, nonsense", True, "127.0.0.1"),
        ("127.0.0.1", "", True, "127.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "", False, "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::1", "", False, "2001:db8:1:2::"),
        ("::ffff:192.0.2.1", "", False, "192.0.2.1"),
        ("fe80::1%eth0", "", False, "fe80::"),
        ("", "", False, UNKNOWN_ADDRESS),
    ],
)
def test_forwarded_address_counts_only_behind_a_tls_proxy(
    settings: Any, peer: str, forwarded: str, proxy: bool, address: str
) -> None:
    assert address_of(settings, peer, forwarded, proxy=proxy) == address


def test_behind_a_tls_proxy_clients_are_counted_separately(login: Login, settings: Any) -> None:
    settings.TLS_PROXY = True
    assert fail(login, LIMIT, HTTP_X_FORWARDED_FOR="10.9.9.9, 198.51.100.7")[-1] == 429
    assert login(PASSWORD, HTTP_X_FORWARDED_FOR="10.8.8.8, 198.51.100.7").status_code == 429
    assert login(PASSWORD, HTTP_X_FORWARDED_FOR="198.51.100.8").status_code == 302


class Gate:
    """Blocks every password check until it is opened."""

    opened = threading.Event()
    tested: list[str] = []


class GatedBackend(ModelBackend):
    def authenticate(self, request: Any, **credentials: Any) -> Any:
        Gate.tested.append(credentials["password"])
        assert Gate.opened.wait(90)
        return super().authenticate(request, **credentials)


@pytest.fixture
def gate(settings: Any) -> Iterator[type[Gate]]:
    backend = f"{__name__}.{GatedBackend.__name__}"
    settings.AUTHENTICATION_BACKENDS = [settings.AUTHENTICATION_BACKENDS[0], backend]
    Gate.opened.clear()
    Gate.tested.clear()
    yield Gate
    Gate.opened.set()


@pytest.mark.django_db(transaction=True)
def test_twenty_parallel_guesses_check_no_more_passwords_than_the_limit(
    login: Login, gate: type[Gate]
) -> None:
    def guess(number: int) -> int:
        try:
            return login(f"guess {number}", HTTP_USER_AGENT=f"browser {number}").status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(20) as pool:
        try:
            guesses = as_completed([pool.submit(guess, number) for number in range(20)], timeout=90)
            refused = [next(guesses).result() for _ in range(20 - LIMIT)]
            assert refused == [429] * (20 - LIMIT), "answered while the others still wait"
            assert len(gate.tested) == LIMIT
        finally:
            gate.opened.set()
    assert len(gate.tested) == LIMIT
    assert login(PASSWORD).status_code == 429


@pytest.mark.django_db(transaction=True)
def test_row_deleted_between_the_statements_refuses_no_login(monkeypatch: Any) -> None:
    create, taken = AccessAttempt.objects.bulk_create, []

    def create_and_lose(*args: Any, **options: Any) -> None:
        create(*args, **options)
        if not taken:
            taken.append(AccessAttempt.objects.all().delete())

    monkeypatch.setattr(AccessAttempt.objects, "bulk_create", create_and_lose)
    assert count_login("ann", "192.0.2.1", now=timezone.now())
    assert taken
    assert AccessAttempt.objects.get().failures_since_start == 1


def test_api_keys_are_neither_locked_nor_counted(login: Login, settings: Any) -> None:
    settings.API_ACCESS = "key"
    _, key = create_api_key(name="ops", is_staff=True)
    fail(login, LIMIT)

    def read(bearer: str) -> int:
        headers = {"Authorization": f"Bearer {bearer}"}
        return Client().get("/v1/settings", headers=headers, REMOTE_ADDR="192.0.2.1").status_code

    counted = list(AccessAttempt.objects.values())
    assert [read("wrong") for _ in range(2 * LIMIT)] == [401] * 2 * LIMIT
    assert read(key) == 200
    assert list(AccessAttempt.objects.values()) == counted


def test_open_session_works_while_its_name_is_locked(login: Login, ann: Any) -> None:
    client = Client()
    client.force_login(ann)
    fail(login, LIMIT, address="127.0.0.1")
    assert client.get("/admin/").status_code == 200


def test_passwords_are_in_no_table_and_no_log(
    login: Login, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    fail(login, LIMIT)
    login(PASSWORD)
    login(PASSWORD, address="192.0.2.2")
    assert search_database("192.0.2.1") == ["axes_accessattempt"], "the search finds what is there"
    for password in (PASSWORD, WRONG):
        assert search_database(password) == []
        assert password not in caplog.text
    [line] = [r for r in caplog.records if getattr(r, "action", "") == "login_locked"]
    assert line.getMessage() == (
        "Logins as 'ann' from 192.0.2.1 are refused for 15 minutes, after 5 failures."
    )


def test_old_rows_are_deleted_at_the_next_login(login: Login) -> None:
    for number in range(7):
        login(WRONG, name=f"name {number}")
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=16))
    login(WRONG, name="another")
    assert [row.username for row in AccessAttempt.objects.all()] == ["another"]


def test_admin_shows_failed_logins_read_only(login: Login, ann: Any) -> None:
    fail(login, 2)
    client = Client()
    client.force_login(ann)
    page = "/admin/axes/accessattempt/"
    assert "192.0.2.1" in client.get(page).content.decode()
    row = AccessAttempt.objects.get()
    for path in ("add/", f"{row.pk}/change/", f"{row.pk}/delete/"):
        assert client.post(page + path, {"post": "yes"}).status_code == 403
    assert "axes/accesslog" not in client.get("/admin/").content.decode()
