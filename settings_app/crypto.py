"""Encrypts the model key at rest."""

import base64
import binascii
import hashlib
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

_KDF_ROUNDS = 100_000
_KDF_SALT = b"llmbatch settings encryption"


class DecryptionFailed(Exception):
    """The stored key cannot be decrypted with any of SETTINGS_ENCRYPTION_KEYS; enter it again."""

    def __init__(self) -> None:
        super().__init__((type(self).__doc__ or "").strip())


def encrypt(text: str) -> str:
    return _cipher().encrypt(text.encode()).decode()


def decrypt(token: str) -> str:
    try:
        return _cipher().decrypt(token.encode()).decode()
    except (InvalidToken, UnicodeDecodeError):
        raise DecryptionFailed from None


def _cipher() -> MultiFernet:
    """Encrypts with the first of SETTINGS_ENCRYPTION_KEYS and decrypts with any of them.

    Without such keys DJANGO_SECRET_KEY is used.
    """
    return _build_cipher(tuple(settings.SETTINGS_ENCRYPTION_KEYS) or (settings.SECRET_KEY,))


@lru_cache(maxsize=4)
def _build_cipher(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(_as_fernet_key(key)) for key in keys])


def _as_fernet_key(key: str) -> bytes:
    """Returns a Fernet key unchanged, and derives one from any other text."""
    try:
        if len(base64.urlsafe_b64decode(key)) == 32:
            return key.encode()
    except (binascii.Error, ValueError):
        pass
    digest = hashlib.pbkdf2_hmac("sha256", key.encode(), _KDF_SALT, _KDF_ROUNDS)
    return base64.urlsafe_b64encode(digest)
