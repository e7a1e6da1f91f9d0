"""Passwords are hashed one at a time, with a low priority, in Django's own format."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher, check_password, make_password

import llmbatch
from settings_app.access import passwords

HASHER = "settings_app.access.passwords.BackgroundPBKDF2"


def test_hash_is_djangos_and_is_checked(settings: Any) -> None:
    settings.PASSWORD_HASHERS = [HASHER]
    encoded = make_password("right")
    assert encoded.startswith("pbkdf2_sha256$")
    assert check_password("right", encoded)
    assert not check_password("wrong", encoded)
    assert PBKDF2PasswordHasher().verify("right", encoded)


def test_the_settings_choose_it() -> None:
    assert f'["{HASHER}"]' in (Path(llmbatch.__file__).parent / "settings.py").read_text()


def test_parallel_logins_hash_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    running, most, priorities = [0], [0], set()

    def encode(self: Any, password: str, salt: str, iterations: int | None = None) -> str:
        running[0] += 1
        most[0] = max(most[0], running[0])
        priorities.add(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        threading.Event().wait(0.01)
        running[0] -= 1
        return ""

    monkeypatch.setattr(PBKDF2PasswordHasher, "encode", encode)
    hasher = passwords.BackgroundPBKDF2()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: hasher.encode(f"p{n}", "salt"), range(16)))
    assert most == [1]
    if sys.platform == "linux":
        assert min(priorities) > os.getpriority(os.PRIO_PROCESS, 0)
