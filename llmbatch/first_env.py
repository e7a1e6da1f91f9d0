"""Writes the first `.env` of a checkout: DEBUG is on, and the secrets are random."""

import os
import secrets
import sys


def write_first_env(path: str) -> None:
    """Creates the file with mode 0600; raises FileExistsError if it exists."""
    lines = [
        "# Written by `make run`. docs/configuration.md lists every variable.",
        "DJANGO_DEBUG=true",
        f"DJANGO_SECRET_KEY={secrets.token_urlsafe(50)}",
        f"SETTINGS_ENCRYPTION_KEYS={secrets.token_urlsafe(32)}",
        "# GEMINI_API_KEY=",
    ]
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    try:
        write_first_env(sys.argv[1])
    except OSError as error:
        sys.exit(f"{sys.argv[1]} cannot be created here: {error.strerror}.")
