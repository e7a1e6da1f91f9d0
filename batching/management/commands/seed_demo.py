"""Fills the database with believable history, for demos and for measurements."""

import random
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from batching.demo.history import DEMO_OWNER, DemoHistory
from batching.demo.store import remove_history, store_history
from batching.demo.texts import USERNAME_PREFIX
from batching.management.arguments import whole_number
from batching.management.progress import format_counts, sum_chat_counts
from batching.store.lane_rules import make_rules
from chats.models import Chat
from settings_app.services import announce_change
from settings_app.snapshot import refresh_if_stale


class Command(BaseCommand):
    help = (
        "Writes demo history of the last weeks: chats of usernames that begin with demo-, their"
        " batches, model calls and figures per day. No model is called; every answer begins with"
        " [demo]. --remove deletes all of it and subtracts its figures; rows that the retention"
        " or prune has deleted stay counted, as for every request."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        count, weeks = whole_number(1, 100_000_000), whole_number(1, 520)
        parser.add_argument("--chats", type=count, help="number of requests to write")
        parser.add_argument("--weeks", type=weeks, default=6, help="weeks that end now (6)")
        parser.add_argument("--seed", type=int, default=1, help="seed of the random numbers (1)")
        parser.add_argument("--yes", action="store_true", help="write even if there are real chats")
        parser.add_argument("--remove", action="store_true", help="delete all demo history")

    def handle(self, *args: Any, **options: Any) -> None:
        chats, weeks = options["chats"], options["weeks"]
        if options["remove"] == (chats is not None):
            raise CommandError("Give either --chats or --remove.")
        if chats is None:
            return self._remove()
        real = Chat.objects.exclude(username__startswith=USERNAME_PREFIX).count()
        if real and not options["yes"]:
            raise CommandError(
                f"This database holds {real:,} chats that are not demo history: every page and"
                " figure would count both; give --yes to add to them."
            )
        snapshot, now = refresh_if_stale(), datetime.now(UTC)
        rules, chance = make_rules(snapshot), random.Random(options["seed"])
        history = DemoHistory(chats, weeks, now, rules, snapshot.model, chance).generate()
        stored = sum_chat_counts("Seeding", store_history(history), total=chats)
        self.stdout.write(f"Wrote {format_counts(stored)}.")
        if 0 < snapshot.retention_days < weeks * 7:
            self.stdout.write(
                f"A running gateway deletes what is older than {snapshot.retention_days} days"
                " (the setting retention_days)."
            )

    def _remove(self) -> None:
        total = Chat.objects.filter(owner=DEMO_OWNER).count()
        removed = sum_chat_counts("Removing", remove_history(), total=total)
        announce_change()  # The chat counts that processes have cached are too high now.
        self.stdout.write(f"Removed {format_counts(removed)}.")
