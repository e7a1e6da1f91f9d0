"""Creates an API key from the command line."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from settings_app.access.api_keys import store_api_key
from settings_app.history import COMMAND
from settings_app.models import ApiClient, ApiKey


class Command(BaseCommand):
    help = "Creates an API key and prints it. The key cannot be shown again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="name of the program that uses the key")
        parser.add_argument("--owner", default="", help="contact person")
        parser.add_argument(
            "--client", help="existing client whose chats the key may see (default: a new client)"
        )
        parser.add_argument(
            "--staff", action="store_true", help="also allow settings and analytics"
        )
        parser.add_argument("--per-minute", type=int, help="maximum prompts in any minute")

    def handle(self, *args: Any, name: str, client: str | None, **options: Any) -> None:
        row = ApiKey(name=name, owner=options["owner"], is_staff=options["staff"])
        row.requests_per_minute = options["per_minute"]
        try:
            row.clean_fields(exclude=["id", "prefix", "hashed_key", "client"])
        except ValidationError as error:
            raise CommandError("; ".join(error.messages)) from None
        if client:
            found = ApiClient.objects.filter(name=client).first()
            if found is None:
                raise CommandError(f"There is no client named {client!r}.")
            row.client = found
        self.stdout.write(store_api_key(row, by=COMMAND))
        self.stderr.write(f"The key of {row.name}, client {row.client.name}. It is shown only now.")
