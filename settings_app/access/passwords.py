"""Hashes passwords one at a time and with a low priority, because a hash takes a whole core."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from django.contrib.auth.hashers import PBKDF2PasswordHasher

# Other threads of the process get three times as much of a busy core.
NICENESS = 5


def _lower_priority() -> None:
    if sys.platform == "linux":  # elsewhere it would apply to the whole process
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.nice(0) + NICENESS)


_THREAD = ThreadPoolExecutor(1, thread_name_prefix="password", initializer=_lower_priority)


class BackgroundPBKDF2(PBKDF2PasswordHasher):
    """Django's default algorithm, in a thread of its own."""

    def encode(self, password: str, salt: str, iterations: int | None = None) -> str:
        return _THREAD.submit(super().encode, password, salt, iterations).result()
