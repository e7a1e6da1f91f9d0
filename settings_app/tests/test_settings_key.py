"""The model key in /v1/settings is masked, encrypted, cleared and kept."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from settings_app.crypto import encrypt
from settings_app.models import GatewaySettings
from settings_app.snapshot import refresh_snapshot
from settings_app.tests.stored import KEY, OTHER_KEY, everything_stored

Call = Callable[..., Any]

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("open_access")]


def test_key_is_masked_to_its_last_four_characters(read: Call, change: Call) -> None:
    response = change({"api_key": KEY})
    assert read()["api_key"] == "***wxyz"
    assert KEY not in response.content.decode()


def test_short_key_is_masked_completely(read: Call, change: Call) -> None:
    change({"api_key": "seven77"})
    assert refresh_snapshot().api_key == "seven77"
    assert read()["api_key"] == "***"


def test_blanks_around_a_pasted_key_are_dropped(change: Call) -> None:
    change({"api_key": f" {KEY}\n"})
    assert refresh_snapshot().api_key == KEY


def test_mask_of_the_current_key_changes_nothing(change: Call) -> None:
    change({"api_key": KEY})
    before = everything_stored()
    response = change({"api_key": "***wxyz"})
    assert everything_stored() == before
    assert response.status_code == 200


def test_mask_of_the_environments_key_stores_nothing(change: Call, settings: Any) -> None:
    settings.GEMINI_API_KEY = KEY
    refresh_snapshot()
    assert change({"api_key": "***wxyz"}).status_code == 200
    assert GatewaySettings.objects.get().api_key_encrypted == ""


@pytest.mark.parametrize("mask", ["***abcd", "***", "***wxy", "***wxyz1", "****wxyz"])
def test_any_other_mask_is_refused(change: Call, mask: str) -> None:
    change({"api_key": KEY})
    before = everything_stored()
    response = change({"api_key": mask})
    assert everything_stored() == before
    assert response.status_code == 400
    assert "api_key" in response.json()["errors"]


def test_mask_without_any_key_is_refused(change: Call) -> None:
    assert change({"api_key": "***wxyz"}).status_code == 400
    assert GatewaySettings.objects.get().api_key_encrypted == ""


def test_empty_key_clears_the_stored_one(read: Call, change: Call) -> None:
    change({"api_key": KEY})
    change({"api_key": ""})
    assert GatewaySettings.objects.get().api_key_encrypted == ""
    assert read()["api_key"] is None


def test_without_a_stored_key_that_of_the_environment_is_used(
    read: Call, change: Call, settings: Any
) -> None:
    settings.GEMINI_API_KEY = OTHER_KEY
    change({"api_key": KEY})
    assert read()["api_key"] == "***wxyz"
    change({"api_key": ""})
    assert read()["api_key"] == "***1234"


def test_null_key_changes_nothing(change: Call) -> None:
    change({"api_key": KEY})
    assert change({"api_key": None}).status_code == 200
    assert refresh_snapshot().api_key == KEY


def test_key_is_encrypted_in_the_database(change: Call) -> None:
    change({"api_key": KEY})
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM settings_app_gatewaysettings")
        row = repr(cursor.fetchall())
    assert "gAAAA" in row
    assert not any(KEY[start : start + 8] in row for start in range(len(KEY) - 8))


def test_key_stays_out_of_answers_logs_and_representations(
    client: Client, change: Call, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    answers = [
        change({"api_key": KEY, "model": "gemini-q"}),
        client.get("/v1/settings"),
        change({"api_key": KEY, "model": "no model"}),
        change({"api_key": KEY + " spoilt"}),
        change({"api_key": [KEY]}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 400, 400, 400]
    assert "Settings were changed" in caplog.text
    said = caplog.text + repr(refresh_snapshot()) + "".join(a.content.decode() for a in answers)
    assert KEY not in said


def test_key_that_cannot_be_decrypted_is_reported_and_not_used(read: Call, settings: Any) -> None:
    settings.SETTINGS_ENCRYPTION_KEYS = ["a passphrase that was lost"]
    GatewaySettings.objects.update(api_key_encrypted=encrypt(KEY))
    settings.SETTINGS_ENCRYPTION_KEYS = ["another passphrase"]
    settings.GEMINI_API_KEY = OTHER_KEY
    snapshot = refresh_snapshot()
    assert snapshot.api_key is None
    assert "cannot be decrypted" in snapshot.key_problem
    document = read()
    assert document["api_key"] is None
    assert "cannot be decrypted" in document["api_key_problem"]
