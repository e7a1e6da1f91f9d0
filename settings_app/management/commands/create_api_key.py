"""A key for a program, without the admin."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from settings_app.access.api_keys import create_api_key
from settings_app.models import ApiClient, ApiKey


class Command(BaseCommand):
    help = "Creates an API key and prints it once; it is stored as a hash."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="which program it is for")
        parser.add_argument("--owner", default="", help="who answers for it")
        parser.add_argument(
            "--client", help="an existing client, whose chats the key shares; default: a new one"
        )
        parser.add_argument("--staff", action="store_true", help="settings and analytics too")
        parser.add_argument("--per-minute", type=int, help="prompts within any minute")

    def handle(
        self,
        *args: Any,
        name: str,
        owner: str,
        client: str | None,
        staff: bool,
        per_minute: int | None,
        **options: Any,
    ) -> None:
        values = {"name": name, "owner": owner, "requests_per_minute": per_minute}
        try:
            ApiKey(**values).clean_fields(exclude=["id", "prefix", "hashed_key", "client"])
        except ValidationError as error:
            raise CommandError("; ".join(error.messages)) from None
        found = ApiClient.objects.filter(name=client).first() if client else None
        if client and found is None:
            raise CommandError(f"There is no client named {client!r}.")
        row, key = create_api_key(**values, client=found, is_staff=staff)
        self.stdout.write(f"{key}")
        self.stderr.write(f"The key of {row.name}, client {row.client.name}. It is shown only now.")
