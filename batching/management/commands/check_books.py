"""Checks that outcomes, attempts, tokens and daily figures agree with the rows they follow from."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from batching.analytics.books import check_books


class Command(BaseCommand):
    help = (
        "Recomputes the outcomes of batches, the attempts and tokens of requests and the figures"
        " per day from the rows, and prints each contradiction. Exits with 1 if there is any. It"
        " may run beside the gateway; running batches are left out."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        count = 0
        for count, problem in enumerate(check_books(), 1):  # noqa: B007 - counts the problems
            self.stdout.write(problem)
        if count:
            raise CommandError(f"{count:,} contradictions were found.")
        self.stdout.write("The books agree.")
