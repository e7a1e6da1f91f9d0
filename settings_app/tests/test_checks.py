"""The messages of `./gateway check`, with and without `--deploy`."""

from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.checks import Tags, run_checks


def found(*, deploy: bool) -> set[str]:
    messages = run_checks(tags=[Tags.security], include_deployment_checks=deploy)
    return {m.id for m in messages if m.id and m.id.startswith("settings_app")}


@pytest.fixture(autouse=True)
def _sound_production(settings: Any) -> None:
    settings.DEBUG = False
    settings.API_ACCESS = "key"
    settings.SETTINGS_ENCRYPTION_KEYS = [Fernet.generate_key().decode(), "x" * 16]


def test_good_production_settings_get_no_message() -> None:
    assert found(deploy=True) == set()


@pytest.mark.parametrize("key", ["", "  ", "\udcff"])
def test_key_that_cannot_be_used_is_an_error_everywhere(settings: Any, key: str) -> None:
    settings.SETTINGS_ENCRYPTION_KEYS = ["a good passphrase", key]
    assert "settings_app.E001" in found(deploy=False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEY", "change-me-to-50-random-characters"),
        ("SETTINGS_ENCRYPTION_KEYS", ["x" * 16, "change-me-to-32-random-characters"]),
    ],
)
def test_placeholder_of_the_documents_is_an_error_everywhere(
    settings: Any, name: str, value: Any
) -> None:
    setattr(settings, name, value)
    assert found(deploy=False) == {"settings_app.E002"}


def test_missing_encryption_keys_are_a_warning_only_in_production(settings: Any) -> None:
    settings.SETTINGS_ENCRYPTION_KEYS = []
    assert found(deploy=False) == set()
    assert found(deploy=True) == {"settings_app.W001"}


def test_short_passphrase_is_a_warning_only_in_production(settings: Any) -> None:
    settings.SETTINGS_ENCRYPTION_KEYS = ["x" * 15]
    assert found(deploy=False) == set()
    assert found(deploy=True) == {"settings_app.W002"}


def test_open_access_is_a_warning_only_in_production(settings: Any) -> None:
    settings.API_ACCESS = "open"
    assert found(deploy=False) == set()
    assert found(deploy=True) == {"settings_app.W003"}
    settings.DEBUG = True
    assert found(deploy=True) == set()
