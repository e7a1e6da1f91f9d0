"""Creates the first superuser of a new database."""

import secrets
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError

NAME = "admin"


class Command(BaseCommand):
    help = f"Creates the superuser {NAME!r} with a random password, unless a superuser exists."

    def handle(self, *args: Any, **options: Any) -> None:
        users = get_user_model().objects
        if users.filter(is_superuser=True).exists():
            return
        if users.filter(username=NAME).exists():
            raise CommandError(
                f"There is no superuser, and the name {NAME!r} is taken: use createsuperuser."
            )
        password = secrets.token_urlsafe(12)
        users.create_superuser(NAME, password=password)
        self.stdout.write(f"Admin account: user {NAME}, password {password} (shown only now).")
