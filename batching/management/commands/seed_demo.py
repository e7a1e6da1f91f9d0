"""Fills the database with believable history, for demos and for measurements."""

import random
from argparse import ArgumentTypeError
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from batching.demo.history import Plan, generate_history
from batching.demo.rows import DemoBatch
from batching.demo.store import count_demo_chats, count_real_chats, remove_history, store_history
from batching.management.progress import progress_bar
from batching.store.lane_rules import make_rules
from settings_app.services import announce_change
from settings_app.snapshot import refresh_if_stale

CHATS_A_TRANSACTION = 1000  # a running server waits about 0.2 s for the write lock
MAX_CHATS, MAX_WEEKS = 100_000_000, 520


class Command(BaseCommand):
    help = (
        "Writes demo history of the last weeks: chats of usernames that begin with demo-, their"
        " batches, model calls and figures per day. No model is asked; every answer begins with"
        " [demo]. --remove takes all of it away again and subtracts its figures; only what the"
        " retention or prune has deleted meanwhile stays counted, as it does for every request."
    )
    transaction_size = CHATS_A_TRANSACTION

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--chats", type=_read_chats, help="how many requests to make up")
        parser.add_argument(
            "--weeks", type=_read_weeks, default=6, help="over how many weeks until now (6)"
        )
        parser.add_argument(
            "--seed", type=int, default=1, help="another number gives another history (1)"
        )
        parser.add_argument("--yes", action="store_true", help="also beside chats that are real")
        parser.add_argument("--remove", action="store_true", help="delete all demo history")

    def handle(
        self,
        *args: Any,
        chats: int | None,
        weeks: int,
        seed: int,
        yes: bool,
        remove: bool,
        **options: Any,
    ) -> None:
        if remove == (chats is not None):
            raise CommandError("Give either --chats or --remove.")
        with _no_query_log():
            if chats is None:
                return self._remove()
            real = count_real_chats()
            if real and not yes:
                raise CommandError(
                    f"This database holds {real:,} chats that are not demo history: every page and"
                    " figure would count both; give --yes to add to them."
                )
            self._seed(chats, weeks=weeks, seed=seed)

    def _seed(self, chats: int, *, weeks: int, seed: int) -> None:
        snapshot = refresh_if_stale()
        plan = Plan(chats, weeks, datetime.now(UTC), make_rules(snapshot), snapshot.model)
        history = generate_history(random.Random(seed), plan)
        stored: Counter[str] = Counter()
        with progress_bar("Seeding", total=chats, unit="chats") as bar:
            for entries in _gather(history, self.transaction_size):
                store_history(entries)
                part = _count(entries)
                stored += part
                bar.update(part["chats"])
        self._say("Made up", stored)
        if 0 < snapshot.retention_days < weeks * 7:
            self.stdout.write(
                f"A running gateway deletes what is older than {snapshot.retention_days} days"
                " (the setting retention_days)."
            )

    def _remove(self) -> None:
        removed: Counter[str] = Counter()
        with progress_bar("Removing", total=count_demo_chats(), unit="chats") as bar:
            for part in remove_history():
                removed += part
                bar.update(part["chats"])
        announce_change()  # what processes remember of the number of chats is too much now
        self._say("Removed", removed)

    def _say(self, verb: str, counted: Counter[str]) -> None:
        self.stdout.write(
            f"{verb} {counted['chats']:,} chats, {counted['batches']:,} batches,"
            f" {counted['calls']:,} model calls."
        )


def _read_chats(text: str) -> int:
    return _read_number(text, most=MAX_CHATS)


def _read_weeks(text: str) -> int:
    return _read_number(text, most=MAX_WEEKS)


def _read_number(text: str, *, most: int) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise ArgumentTypeError(f"a whole number from 1 to {most}")
    return int(text)


def _gather(entries: Iterable[DemoBatch], size: int) -> Iterator[list[DemoBatch]]:
    """Groups of `size` chats or a few more."""
    group: list[DemoBatch] = []
    chats = 0
    for entry in entries:
        group.append(entry)
        chats += len(entry.chats)
        if chats >= size:
            yield group
            group, chats = [], 0
    if group:
        yield group


def _count(entries: Iterable[DemoBatch]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for entry in entries:
        counted["chats"] += len(entry.chats)
        counted["batches"] += entry.batch is not None
        counted["calls"] += len(entry.calls)
    return counted


@contextmanager
def _no_query_log() -> Iterator[None]:
    """Under DEBUG Django keeps the text of every statement, here some megabytes each."""
    debug = settings.DEBUG
    settings.DEBUG = False
    try:
        yield
    finally:
        settings.DEBUG = debug
