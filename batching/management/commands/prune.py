"""Deletes old history, or one username's."""

import time
from argparse import ArgumentTypeError
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from django.core.management.base import BaseCommand, CommandError, CommandParser

from batching.analytics.rollup import roll_up_pending
from batching.management.progress import progress_bar
from batching.models import ModelCall
from batching.store.retention import Extent, count_extent, prune, scrub_calls, scrub_chats
from chats.models import Chat
from settings_app.models import MAX_RETENTION_DAYS
from settings_app.services import announce_change
from settings_app.snapshot import refresh_if_stale

T = TypeVar("T")


def parse_days(text: str) -> int:
    if not text.isdecimal() or int(text) > MAX_RETENTION_DAYS:
        raise ArgumentTypeError(f"a whole number from 0 to {MAX_RETENTION_DAYS}")
    return int(text)


class Command(BaseCommand):
    help = (
        "Deletes finished chats, and the batches and model calls that are left without any. The"
        " figures per day stay. Without options: what is older than the setting retention_days."
    )
    pause: Callable[[float], None] = staticmethod(time.sleep)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--days", type=parse_days, help="what is older than this many days")
        parser.add_argument(
            "--username",
            help="this username's chats alone, of any age unless --days is given; blanks the text"
            " of the model calls that carried them",
        )
        parser.add_argument(
            "--prompts",
            action="store_true",
            help="delete nothing, but blank every stored prompt and raw reply of what has ended",
        )
        parser.add_argument("--dry-run", action="store_true", help="only count")

    def handle(
        self,
        *args: Any,
        days: int | None,
        username: str | None,
        prompts: bool,
        dry_run: bool,
        **options: Any,
    ) -> None:
        if prompts:
            if dry_run or username is not None or days is not None:
                raise CommandError("--prompts goes with no other option.")
            return self._blank_all()
        extent = self._read_extent(days, username)
        while roll_up_pending():  # what is not counted yet would be lost to the analytics
            pass
        found = count_extent(extent)
        if dry_run:
            self._say("Would delete", found)
            return None
        if username is not None:
            self._scrub(extent)
        self._delete(extent, expected=found["chats"])
        if found["open"]:
            self.stdout.write(f"{found['open']:,} still open: run this again when they have ended.")

    def _read_extent(self, days: int | None, username: str | None) -> Extent:
        if days is None and username is None:
            days = refresh_if_stale().retention_days
            if not days:
                raise CommandError("retention_days is 0, which keeps everything: give --days.")
        before = None if days is None else datetime.now(UTC) - timedelta(days=days)
        return Extent(before=before, username=username)

    def _delete(self, extent: Extent, *, expected: int) -> None:
        removed: Counter[str] = Counter()
        with progress_bar("Deleting", total=expected, unit="chats") as bar:
            for part in self._give_way(prune(extent)):
                removed += part
                bar.update(part["chats"])
        announce_change()  # what processes remember of the number of chats is too much now
        self._say("Deleted", removed)

    def _scrub(self, extent: Extent) -> None:
        ids = set(extent.deletable_chats.values_list("pk", flat=True))
        with progress_bar("Blanking", total=ModelCall.objects.count(), unit="calls") as bar:
            for looked_at in self._give_way(scrub_calls(ids) if ids else ()):
                bar.update(looked_at)

    def _blank_all(self) -> None:
        with progress_bar("Blanking", total=Chat.objects.count(), unit="chats") as bar:
            blanked = 0
            for number in self._give_way(scrub_chats()):
                blanked += number
                bar.update(number)
        for _ in self._give_way(scrub_calls(None)):
            pass
        self.stdout.write(f"Blanked {blanked:,} prompts, and the texts of all ended model calls.")

    def _give_way(self, chunks: Iterable[T]) -> Iterator[T]:
        """Pauses as long as each chunk took, so that a running server gets at the database."""
        began = time.perf_counter()
        for chunk in chunks:
            yield chunk
            self.pause(time.perf_counter() - began)
            began = time.perf_counter()

    def _say(self, verb: str, counted: Counter[str]) -> None:
        self.stdout.write(
            f"{verb} {counted['chats']:,} chats, {counted['batches']:,} batches,"
            f" {counted['calls']:,} model calls."
        )
