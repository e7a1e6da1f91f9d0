"""The events of this process that the live page shows. None is kept while nobody watches.

An event is JSON in the form that browsers receive. It holds ids, usernames and ages, never a prompt
or an answer. Ages replace timestamps, because each process has a clock of its own.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

Event = dict[str, Any]

# Events that wait to be taken. If there are more, the watchers receive the whole state instead.
MAX_EVENTS = 5000


class Reporter:
    """Keeps events while somebody watches. Its methods may be called from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._watched_until = 0.0
        self._lock = threading.Lock()

    @property
    def watched(self) -> bool:
        return self._clock() < self._watched_until

    def watch(self, *, seconds: float) -> None:
        if not self.watched:
            self._events.clear()
        self._watched_until = self._clock() + seconds

    def stop(self) -> None:
        self._watched_until = 0.0
        self._events.clear()

    def take(self, most: int) -> list[Event]:
        """Removes and returns the oldest events."""
        with self._lock:
            return take_events(self._events, most)

    def report(self, kind: str, **fields: Any) -> None:
        if self.watched:
            with self._lock:
                append_event(self._events, {"kind": kind, **fields})


def append_event(events: deque[Event], event: Event) -> None:
    """Appends to at most MAX_EVENTS events. One more replaces them all by a `lost` event."""
    if len(events) >= MAX_EVENTS:
        events.clear()
        events.append({"kind": "lost"})
    events.append(event)


def take_events(events: deque[Event], most: int) -> list[Event]:
    """Removes and returns the oldest events, at most `most`."""
    return [events.popleft() for _ in range(min(most, len(events)))]


REPORTER = Reporter()
