"""Encryption at rest, and the rotation of its keys."""

from typing import Any

import pytest
from cryptography.fernet import Fernet

from settings_app.crypto import DecryptionFailed, decrypt, encrypt

FERNET_KEY = Fernet.generate_key().decode()
SECRET = "AIzaSy-secret"


@pytest.fixture(
    params=[[FERNET_KEY], ["a passphrase"], ["Füchse 🦊"], []],
    ids=["Fernet key", "passphrase", "not ASCII", "DJANGO_SECRET_KEY"],
)
def keys(request: pytest.FixtureRequest, settings: Any) -> list[str]:
    settings.SETTINGS_ENCRYPTION_KEYS = request.param
    return request.param


def test_decrypt_reverses_encrypt(keys: list[str]) -> None:
    token = encrypt(SECRET)
    assert SECRET not in token
    assert decrypt(token) == SECRET


def test_two_encryptions_of_one_text_differ(keys: list[str]) -> None:
    assert encrypt(SECRET) != encrypt(SECRET)


def test_fernet_key_is_used_as_it_is(settings: Any) -> None:
    settings.SETTINGS_ENCRYPTION_KEYS = [FERNET_KEY]
    assert Fernet(FERNET_KEY).decrypt(encrypt(SECRET)).decode() == SECRET


def test_first_key_encrypts_and_all_decrypt(settings: Any) -> None:
    settings.SETTINGS_ENCRYPTION_KEYS = ["old passphrase"]
    old_token = encrypt(SECRET)
    settings.SETTINGS_ENCRYPTION_KEYS = [FERNET_KEY, "old passphrase"]
    assert decrypt(old_token) == SECRET
    assert Fernet(FERNET_KEY).decrypt(encrypt(SECRET)).decode() == SECRET


@pytest.mark.parametrize("lost", [["a lost passphrase"], []])
def test_lost_key_is_reported(settings: Any, lost: list[str]) -> None:
    settings.SETTINGS_ENCRYPTION_KEYS = lost
    token = encrypt(SECRET)
    settings.SETTINGS_ENCRYPTION_KEYS = ["another passphrase"]
    with pytest.raises(DecryptionFailed, match="enter it again") as raised:
        decrypt(token)
    assert SECRET not in str(raised.value)


def test_without_encryption_keys_the_secret_key_is_used(settings: Any) -> None:
    settings.SETTINGS_ENCRYPTION_KEYS = []
    token = encrypt(SECRET)
    settings.SECRET_KEY = "another secret key of some length"
    with pytest.raises(DecryptionFailed):
        decrypt(token)
