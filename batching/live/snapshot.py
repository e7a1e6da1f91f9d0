"""Reads the board from the database: at the first watcher, and again to correct lost events."""

from collections.abc import Callable, Iterator
from datetime import datetime

from django.db.models import Count, Q

from batching.engine.lanes import Priority
from batching.live.board import MAX_OUTCOMES, MAX_RUNNING, Board, RunningBatch, WaitingRequest
from batching.models import Batch, CallStatus, ModelCall, Outcome
from batching.telemetry.live_events import Event
from chats.clock import CLOCK
from chats.models import Chat, Status

# Requests of each lane's queue. The others are counted.
MAX_LISTED = 500

ToClock = Callable[[datetime], float]


def read_board(now: float) -> Board:
    """`now` is the current monotonic time, into which the timestamps of the rows are converted."""
    present = CLOCK.now()

    def to_clock(at: datetime) -> float:
        return now - (present - at).total_seconds()

    board = Board()
    board.waiting = {request.id: request for request in _read_waiting(to_clock)}
    queued = Chat.objects.filter(status=Status.QUEUED).order_by()
    listed = board.count_waiting()
    for priority, count in queued.values_list("priority").annotate(Count("pk")):
        name = Priority(priority).name
        board.unlisted[name] = max(0, count - listed[name])
    board.running = _read_running(to_clock)
    board.outcomes.extend(_read_outcomes())
    return board


def _read_waiting(to_clock: ToClock) -> Iterator[WaitingRequest]:
    columns = ("id", "username", "received_at", "due_at")
    for priority in Priority:
        queued = Chat.objects.filter(status=Status.QUEUED, priority=priority).order_by("id")
        for key, username, received, due in queued.values_list(*columns)[:MAX_LISTED]:
            yield WaitingRequest(key, priority.name, username, to_clock(received), to_clock(due))


def _read_running(to_clock: ToClock) -> dict[int, RunningBatch]:
    columns = ("id", "priority", "trigger", "created_at")
    batches = Batch.objects.filter(outcome=Outcome.RUNNING).order_by("-id")[:MAX_RUNNING]
    running = {
        key: RunningBatch(key, Priority(priority).name, trigger, to_clock(created), {})
        for key, priority, trigger, created in reversed(batches.values_list(*columns))
    }
    chats = Chat.objects.filter(batch__in=list(running)).order_by("id")
    rows = chats.values_list("id", "username", "batch", "status", "error_code")
    for key, name, batch, status, code in rows:
        running[batch].items[key] = name
        if status != Status.RUNNING:
            running[batch].ended[key] = code
    calls = ModelCall.objects.filter(batch__in=list(running)).order_by("id")
    for key, batch, status, started in calls.values_list("id", "batch", "status", "started_at"):
        running[batch].calls_made += 1
        if status == CallStatus.STARTED:
            running[batch].calls[key] = to_clock(started)
    return running


def _read_outcomes() -> Iterator[Event]:
    ended = Batch.objects.exclude(outcome=Outcome.RUNNING).order_by("-id")[:MAX_OUTCOMES]
    batches = Batch.objects.filter(pk__in=list(ended.values_list("pk", flat=True))).annotate(
        failed=Count("chats", filter=~Q(chats__status=Status.DONE), distinct=True),
        calls_made=Count("calls", distinct=True),
    )
    for batch in batches.order_by("-id"):
        duration = batch.finished_at - batch.created_at if batch.finished_at else None
        yield {
            "batch_id": batch.pk,
            "lane": Priority(batch.priority).name,
            "size": batch.size,
            "answered": batch.size - batch.failed,
            "failed": batch.failed,
            "calls": batch.calls_made,
            "duration_ms": None if duration is None else round(duration.total_seconds() * 1000),
        }
