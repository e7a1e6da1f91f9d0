"""Deletes old history, or one username's."""

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

from django.core.management.base import BaseCommand, CommandError, CommandParser

from batching.analytics.rollup import roll_up_pending
from batching.management.arguments import whole_number
from batching.management.progress import format_counts, progress_bar, sum_chat_counts
from batching.models import ModelCall
from batching.store.retention import Extent, count_extent, prune, scrub_calls, scrub_chats
from chats.clock import CLOCK
from chats.models import Chat
from settings_app.models import MAX_RETENTION_DAYS, ApiClient
from settings_app.services import announce_change
from settings_app.snapshot import refresh_if_stale

T = TypeVar("T")


class Command(BaseCommand):
    help = (
        "Deletes ended chats, and the batches and model calls that have none left. The figures per"
        " day stay. Without options, it deletes what is older than the setting retention_days."
    )
    pause: Callable[[float], None] = staticmethod(time.sleep)

    def add_arguments(self, parser: CommandParser) -> None:
        days = whole_number(0, MAX_RETENTION_DAYS)
        parser.add_argument("--days", type=days, help="delete chats older than this many days")
        parser.add_argument(
            "--username",
            help="delete only this username's chats, of any age unless --days is given; blank the"
            " text of the model calls that carried them",
        )
        parser.add_argument(
            "--client",
            help="the name of the API client whose username it is; needed where several clients"
            " have chats of that username",
        )
        parser.add_argument(
            "--prompts",
            action="store_true",
            help="delete nothing, but blank each prompt and raw reply of ended chats and calls",
        )
        parser.add_argument("--dry-run", action="store_true", help="count, and delete nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        days, username, dry_run = options["days"], options["username"], options["dry_run"]
        client = options["client"]
        if options["prompts"]:
            if dry_run or [days, username, client] != [None] * 3:
                raise CommandError("--prompts takes no other option.")
            return self._blank_all()
        if username is None and client is not None:
            raise CommandError("--client needs --username.")
        extent = self._read_extent(days, username, client)
        while roll_up_pending():  # Rows that are deleted uncounted would be lost to the analytics.
            pass
        found = count_extent(extent)
        if dry_run:
            self.stdout.write(f"Would delete {format_counts(found)}.")
            return None
        if username is not None:
            self._scrub(extent)
        self._delete(extent, expected=found["chats"])
        if found["open"]:
            self.stdout.write(f"{found['open']:,} still open: run this again when they have ended.")

    def _read_extent(self, days: int | None, username: str | None, client: str | None) -> Extent:
        if days is None and username is None:
            days = refresh_if_stale().retention_days
            if not days:
                raise CommandError("retention_days is 0, which keeps everything: give --days.")
        CLOCK.sample()
        before = None if days is None else CLOCK.now() - timedelta(days=days)
        client_id = None if username is None else find_client(username, client)
        return Extent(before=before, username=username, client_id=client_id)

    def _delete(self, extent: Extent, *, expected: int) -> None:
        removed = sum_chat_counts("Deleting", self._give_way(prune(extent)), total=expected)
        announce_change()  # The chat counts that processes have cached are too high now.
        self.stdout.write(f"Deleted {format_counts(removed)}.")

    def _scrub(self, extent: Extent) -> None:
        ids = set(extent.deletable_chats.values_list("pk", flat=True))
        self._blank("calls", scrub_calls(ids) if ids else (), total=ModelCall.objects.count())

    def _blank_all(self) -> None:
        blanked = self._blank("chats", scrub_chats(), total=Chat.objects.count())
        self._blank("calls", scrub_calls(None), total=ModelCall.objects.count())
        self.stdout.write(f"Blanked {blanked:,} prompts, and the texts of all ended model calls.")

    def _blank(self, unit: str, chunks: Iterable[int], *, total: int) -> int:
        done = 0
        with progress_bar("Blanking", total=total, unit=unit) as bar:
            for number in self._give_way(chunks):
                done += number
                bar.update(number)
        return done

    def _give_way(self, chunks: Iterable[T]) -> Iterator[T]:
        """Pauses as long as each chunk took, so that a running server can use the database."""
        began = time.perf_counter()
        for chunk in chunks:
            yield chunk
            self.pause(time.perf_counter() - began)
            began = time.perf_counter()


def find_client(username: str, name: str | None) -> int | None:
    """Returns the id of the client whose username is meant; None if nobody has chats of it.

    Raises CommandError if there is no such client, or if several have chats of the username.
    """
    if name is not None:
        found = ApiClient.objects.filter(name=name).values_list("pk", flat=True).first()
        if found is None:
            raise CommandError(f"There is no API client {name!r}.")
        return found
    clients = Chat.objects.filter(username=username).order_by("client")
    owners = list(clients.values_list("client", "client__name").distinct())
    if len(owners) > 1:
        names = ", ".join(repr(owner) for _, owner in owners)
        raise CommandError(
            f"Several API clients have chats of {username!r}: name one with --client ({names})."
        )
    return owners[0][0] if owners else None
