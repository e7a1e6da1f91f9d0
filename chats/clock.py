"""The database's clock: all rows are written on it, and it alone decides leases and deadlines."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db import connection
from django.db.models import DateTimeField, Value
from django.db.models.functions import Now

SAMPLE_INTERVAL_S = 1.0
# Clocks that differ by more than before were set, or one of them stood still.
JUMP_S = 1.0
MAX_JUMPS = 10


@dataclass(frozen=True, slots=True)
class Offset:
    """The database's clock minus the monotonic clock, since `since` on the monotonic clock."""

    seconds: float
    since: float


class DatabaseClock:
    """Relates the database's clock to the monotonic clock of this process.

    SQLite has no clock of its own: there it is the wall clock of this process. Postgres's clock is
    known from samples. Until the first one, the wall clock takes its place.
    """

    def __init__(
        self,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._sampled = False
        self._offsets: tuple[Offset, ...] = ()

    def now(self) -> datetime:
        """The current time, to store it or to compare it with stored ones."""
        return datetime.fromtimestamp(self._read(), UTC)

    def sql_now(self) -> Any:
        """The same as an expression for a statement: Postgres then reads its own clock."""
        if connection.vendor == "postgresql":
            return Now()
        return Value(self.now(), output_field=DateTimeField())

    def to_monotonic(self, at: datetime) -> float:
        """When the monotonic clock showed what the database's clock showed `at`; never later than
        now. A jump of the database's clock since then does not count."""
        self._read()
        latest, stamp = self._monotonic(), at.timestamp()
        for offset in reversed(self._offsets):
            if offset.since <= stamp - offset.seconds <= latest + JUMP_S:
                return min(stamp - offset.seconds, latest)
        return latest

    @property
    def steady_s(self) -> float:
        """For how long the clock has not jumped, as far as this process knows."""
        self._read()
        return self._monotonic() - self._offsets[-1].since

    @property
    def skew_s(self) -> float:
        """By how much the wall clock of this process is ahead of the database's clock."""
        return self._wall() - self._read() if self._sampled else 0.0

    def sample(self) -> None:
        """Reads the database's clock. Call it in a database thread, about once a second."""
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                began = self._monotonic()
                cursor.execute("SELECT extract(epoch FROM clock_timestamp())::float8")
                [(stamp,)] = cursor.fetchall()
            self.add_sample(stamp, began=began)

    def add_sample(self, stamp: float, *, began: float) -> None:
        """The database's clock showed `stamp` between `began` and now."""
        low, high = stamp - self._monotonic(), stamp - began
        if self._sampled:
            self._bound(low, high)
        else:
            self._offsets = (_first_offset(low, high),)
            self._sampled = True

    def _read(self) -> float:
        if not self._sampled:
            began = self._monotonic()
            stamp = self._wall()
            self._bound(stamp - self._monotonic(), stamp - began)
        return self._monotonic() + self._offsets[-1].seconds

    def _bound(self, low: float, high: float) -> None:
        """Moves the offset only if it is outside these bounds, so a slow sample does no harm."""
        if not self._offsets:
            self._offsets = (_first_offset(low, high),)
            return
        *earlier, last = self._offsets
        seconds = min(max(last.seconds, low), high)
        if abs(seconds - last.seconds) <= JUMP_S:
            self._offsets = (*earlier, Offset(seconds, last.since))
        else:
            new = Offset(seconds, since=self._monotonic())
            self._offsets = (*earlier, last, new)[-MAX_JUMPS:]


def _first_offset(low: float, high: float) -> Offset:
    return Offset((low + high) / 2, since=float("-inf"))


CLOCK = DatabaseClock()
