#!/usr/bin/env python
"""Runs the commands of the gateway, of Django and of this project; `./gateway` starts it."""

import os
import sys

from llmbatch import VERSION

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llmbatch.settings")
    if sys.argv[-1] == "--version" or sys.argv[1:] == ["version"]:
        sys.stdout.write(f"LLM Batch API {VERSION}\n")  # Django would print its own version.
        sys.exit()
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line
    from django.db import OperationalError

    try:
        execute_from_command_line(["gateway", *sys.argv[1:]])
    except ImproperlyConfigured as error:
        sys.exit(str(error))
    except OperationalError as error:
        if "--traceback" in sys.argv:
            raise
        sys.exit(f"The database of DATABASE_URL cannot be used: {' '.join(str(error).split())}")
