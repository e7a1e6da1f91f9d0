"""The requests that run in this process, and the results that wait for the next transaction."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from batching.engine.items import BatchItem, CallReport
from batching.engine.lanes import Priority
from batching.engine.runner import RunnableBatch
from chats.services import Finish, Requester


@dataclass(frozen=True, slots=True)
class RunningRequest:
    """A request whose batch runs here. Times are seconds of the monotonic clock.

    `window_end`: when its window ended, or the earlier time at which its batch was full.
    """

    item: BatchItem
    requester: Requester
    lane: Priority
    accepted: float
    dispatched: float
    window_end: float


@dataclass(frozen=True, slots=True)
class Completion:
    """The end of a request: the columns to store and the outcome to send to its client.

    `released`: when the answer or the failure was known.
    """

    finish: Finish
    request: RunningRequest
    outcome: dict[str, Any]
    released: float

    def added_s(self, *, now: float) -> float | None:
        """The time until `now` beside the window and the model's time; None for a failure."""
        called = self.request.item.called
        if called is None or "error_code" in self.finish.values:
            return None
        return called - self.request.window_end + now - self.released


@dataclass(slots=True)
class PendingWrites:
    """What one transaction stores. `suspicions`: why a leak check failed, by chat id."""

    completions: dict[int, Completion] = field(default_factory=dict)
    reports: list[tuple[RunnableBatch, CallReport]] = field(default_factory=list)
    ended_batches: list[RunnableBatch] = field(default_factory=list)
    suspicions: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        parts = (self.completions, self.reports, self.ended_batches, self.suspicions)
        return sum(len(part) for part in parts)

    @property
    def log_fields(self) -> dict[str, Any]:
        requests = [completion.request for completion in self.completions.values()]
        return format_log_fields(requests, self.batch_ids)

    @property
    def batch_ids(self) -> set[int]:
        """The batches that have ended or had a call that has."""
        return {batch.id for batch in [*(batch for batch, _ in self.reports), *self.ended_batches]}

    def split(self) -> Iterator["PendingWrites"]:
        """Returns each entry on its own."""
        for chat_id, completion in self.completions.items():
            yield PendingWrites(completions={chat_id: completion})
        for report in self.reports:
            yield PendingWrites(reports=[report])
        for batch in self.ended_batches:
            yield PendingWrites(ended_batches=[batch])
        for chat_id, reason in self.suspicions.items():
            yield PendingWrites(suspicions={chat_id: reason})


def format_log_fields(
    requests: Iterable[RunningRequest], batch_ids: Collection[int] = ()
) -> dict[str, Any]:
    """The log fields of a line that concerns several requests."""
    return {
        "request_ids": [request.item.request_id for request in requests],
        "batch_ids": sorted(batch_ids),
    }
