"""What this process tells those who watch: small events, and none while nobody watches.

An event is JSON as it reaches a browser. It holds ids, usernames and times, never a prompt or an
answer. Times are ages, for each process has a clock of its own.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from batching.engine.call import BatchItem, CallReport, PreparedCall
from batching.engine.planner import Batch as PlannedBatch
from batching.engine.planner import QueuedItem
from batching.engine.runner import RunnableBatch
from chats.services import Finish

Event = dict[str, Any]

MAX_EVENTS = 5000
"""what gathers between two looks; beyond it the watchers are shown everything anew"""


class Reporter:
    """Its methods may be called from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._watched_until = 0.0

    @property
    def watched(self) -> bool:
        return self._clock() < self._watched_until

    def watch(self, *, seconds: float) -> None:
        if not self.watched:
            self._events.clear()
        self._watched_until = self._clock() + seconds

    def rest(self) -> None:
        """Nobody watches any more."""
        self._watched_until = 0.0
        self._events.clear()

    def take(self, most: int) -> list[Event]:
        """The oldest events that nobody took yet."""
        count = min(most, len(self._events))
        return [self._events.popleft() for _ in range(count)]

    def accepted(self, items: Iterable[QueuedItem]) -> None:
        if self.watched:
            now = self._clock()
            self._tell("accepted", items=[describe_item(item, now) for item in items])

    def left(self, ids: Sequence[int], reason: str) -> None:
        """They left the queue without a batch."""
        if ids and self.watched:
            self._tell("left", ids=list(ids), reason=reason)

    def dispatched(self, batch: RunnableBatch, planned: PlannedBatch) -> None:
        if self.watched:
            now, claimed = self._clock(), {work.id for work in batch.items}
            items = [describe_item(item, now) for item in planned.items if item.id in claimed]
            self._tell(
                "dispatched",
                batch_id=batch.id,
                lane=planned.priority.name,
                trigger=str(planned.trigger),
                items=items,
            )

    def call_started(
        self, batch: RunnableBatch, call: PreparedCall, items: Sequence[BatchItem]
    ) -> None:
        if self.watched:
            self._tell("call_started", batch_id=batch.id, call_id=call.id, size=len(items))

    def call_ended(self, batch: RunnableBatch, report: CallReport) -> None:
        if self.watched:
            outcome = report.error.code if report.error else report.finish_reason
            self._tell(
                "call_ended",
                batch_id=batch.id,
                call_id=report.call.id,
                duration_ms=round(report.duration_s * 1000),
                outcome=outcome,
            )

    def chat_ended(self, finish: Finish) -> None:
        if self.watched:
            self._tell(
                "item_ended",
                id=finish.chat_id,
                status=finish.values["status"],
                code=finish.values.get("error_code", ""),
                latency_ms=finish.values["latency_ms"],
            )

    def batch_ended(self, batch: RunnableBatch) -> None:
        if self.watched:
            self._tell("batch_ended", batch_id=batch.id)

    def _tell(self, kind: str, **fields: Any) -> None:
        if len(self._events) == MAX_EVENTS:
            self._events.clear()
            self._events.append({"kind": "lost"})
        self._events.append({"kind": kind, **fields})


def describe_item(item: QueuedItem, now: float) -> Event:
    return {
        "id": item.id,
        "lane": item.priority.name,
        "username": item.username,
        "age_ms": round((now - item.accepted) * 1000),
        "due_in_ms": round((item.due - now) * 1000),
    }


REPORTER = Reporter()
