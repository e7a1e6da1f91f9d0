"""The machine as the database has it: where watching begins, and what lost events left undone."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from django.db.models import Count

from batching.engine.lanes import Priority
from batching.live.board import MAX_OUTCOMES, MAX_RUNNING, Board, Running, Waiting
from batching.models import Batch, CallStatus, ModelCall, Outcome
from batching.telemetry.live_events import Event
from chats.models import Chat, Status

MAX_LISTED = 500
"""of each lane's queue; the rest is counted"""

ToClock = Callable[[datetime], float]


def read_board(now: float) -> Board:
    """`now` is the monotonic time of this moment; the rows' times are turned into such."""
    moment = datetime.now(UTC)

    def to_clock(at: datetime) -> float:
        return now - (moment - at).total_seconds()

    board = Board()
    for item in _read_waiting(to_clock):
        board.waiting[item.id] = item
    queued = Chat.objects.filter(status=Status.QUEUED).order_by()
    listed = board.count_waiting()
    for priority, count in queued.values_list("priority").annotate(Count("pk")):
        name = Priority(priority).name
        board.unlisted[name] = max(0, count - listed[name])
    board.running = _read_running(to_clock)
    board.outcomes.extend(_read_outcomes())
    return board


def _read_waiting(to_clock: ToClock) -> Iterator[Waiting]:
    columns = ("id", "username", "received_at", "due_at")
    for priority in Priority:
        queued = Chat.objects.filter(status=Status.QUEUED, priority=priority).order_by("id")
        for key, username, received, due in queued.values_list(*columns)[:MAX_LISTED]:
            yield Waiting(key, priority.name, username, to_clock(received), to_clock(due))


def _read_running(to_clock: ToClock) -> dict[int, Running]:
    columns = ("id", "priority", "trigger", "created_at")
    batches = Batch.objects.filter(outcome=Outcome.RUNNING).order_by("-id")[:MAX_RUNNING]
    running = {
        key: Running(key, Priority(priority).name, trigger, to_clock(created), {})
        for key, priority, trigger, created in reversed(batches.values_list(*columns))
    }
    chats = Chat.objects.filter(batch__in=list(running)).order_by("id")
    for key, name, batch, status, code in chats.values_list(
        "id", "username", "batch", "status", "error_code"
    ):
        running[batch].items[key] = name
        if status != Status.RUNNING:
            running[batch].ended[key] = code
    calls = ModelCall.objects.filter(batch__in=list(running)).order_by("id")
    for key, batch, status, started in calls.values_list("id", "batch", "status", "started_at"):
        running[batch].calls_made += 1
        if status == CallStatus.STARTED:
            running[batch].calls[key] = to_clock(started)
    return running


def _read_outcomes() -> list[Event]:
    ended = Batch.objects.exclude(outcome=Outcome.RUNNING).order_by("-id")[:MAX_OUTCOMES]
    batches = list(ended.only("id", "priority", "size", "created_at", "finished_at"))
    keys = [batch.pk for batch in batches]
    calls = ModelCall.objects.filter(batch__in=keys).order_by().values_list("batch")
    made = dict(calls.annotate(Count("pk")))
    failed: dict[int, int] = defaultdict(int)
    chats = Chat.objects.filter(batch__in=keys).exclude(status=Status.DONE).order_by()
    failed |= dict(chats.values_list("batch").annotate(Count("pk")))
    return [
        {
            "batch_id": batch.pk,
            "lane": Priority(batch.priority).name,
            "size": batch.size,
            "answered": batch.size - failed[batch.pk],
            "failed": failed[batch.pk],
            "calls": made.get(batch.pk, 0),
            "duration_ms": _measure(batch),
        }
        for batch in batches
    ]


def _measure(batch: Batch) -> int | None:
    if batch.finished_at is None:
        return None
    return round((batch.finished_at - batch.created_at).total_seconds() * 1000)
