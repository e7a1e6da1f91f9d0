"""What the recorder holds of running chats, and what gathers there for one transaction."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from batching.engine.call import BatchItem, CallReport
from batching.engine.lanes import Priority
from batching.engine.runner import RunnableBatch
from chats.services import Finish, Requester


@dataclass(frozen=True, slots=True)
class RunningRequest:
    """What the recorder must know of a chat that runs. Times are the clock's seconds."""

    work: BatchItem
    requester: Requester
    accepted: float
    dispatched: float
    lane: Priority
    held_until: float
    """the end of its window, or when its batch was full"""


@dataclass(frozen=True, slots=True)
class Completion:
    """The end of one chat: what is stored, and what its client is told."""

    finish: Finish
    prompt: str
    requester: Requester
    outcome: dict[str, Any]
    request: RunningRequest
    released: float
    """when its last call gave the answer, or the failure was known"""

    def added_s(self, *, now: float) -> float | None:
        """The time until `now` that was neither the window nor the model's; None if it failed."""
        called = self.request.work.called
        if called is None or "error_code" in self.finish.values:
            return None
        return called - self.request.held_until + now - self.released


@dataclass(slots=True)
class PendingWrites:
    """What gathered for one transaction."""

    completions: dict[int, Completion] = field(default_factory=dict)
    reports: list[tuple[RunnableBatch, CallReport]] = field(default_factory=list)
    ended: list[RunnableBatch] = field(default_factory=list)
    suspects: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.completions) + len(self.reports) + len(self.ended) + len(self.suspects)

    @property
    def trace(self) -> dict[str, Any]:
        batches = {batch.id for batch in [*(b for b, _ in self.reports), *self.ended]}
        return requester_fields(
            [completion.requester for completion in self.completions.values()], batches
        )

    def take_apart(self) -> Iterator["PendingWrites"]:
        for chat_id, completion in self.completions.items():
            yield PendingWrites(completions={chat_id: completion})
        for report in self.reports:
            yield PendingWrites(reports=[report])
        for batch in self.ended:
            yield PendingWrites(ended=[batch])
        for chat_id, reason in self.suspects.items():
            yield PendingWrites(suspects={chat_id: reason})


def requester_fields(
    requesters: Iterable[Requester], batch_ids: Collection[int] = ()
) -> dict[str, Any]:
    """The log fields of several chats."""
    return {
        "request_ids": [requester.request_id for requester in requesters],
        "batch_ids": sorted(batch_ids),
    }
