"""A batch on a time line: where each bar lies, in per cent, and the same as a list of events."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from batching.models import Batch, CallStatus, ModelCall, Trigger
from batching.pages.charts import format_number
from chats.models import Chat, Status

LEAST_SPAN_S = 0.001
WIDTH_OF_NOTHING = 0.3
"""in per cent: what took no time can still be seen"""


@dataclass(frozen=True, slots=True)
class Segment:
    css: str
    x: float
    width: float
    text: str


@dataclass(frozen=True, slots=True)
class Track:
    """One request or one call; `anchor` is where the page tells it in full."""

    label: str
    anchor: str
    segments: Sequence[Segment]
    text: str


@dataclass(frozen=True, slots=True)
class Event:
    at: datetime
    offset: str
    text: str


@dataclass(frozen=True, slots=True)
class Timeline:
    start: datetime
    length: str
    claim_x: float
    claim_text: str
    items: Sequence[Track]
    calls: Sequence[Track]
    events: Sequence[Event]


@dataclass(frozen=True, slots=True)
class _Scale:
    start: datetime
    span_s: float

    def place(self, moment: datetime) -> float:
        share = (moment - self.start).total_seconds() / self.span_s
        return round(min(100.0, max(0.0, share * 100)), 2)

    def offset_s(self, moment: datetime) -> str:
        return f"{(moment - self.start).total_seconds():.3f} s"

    def segment(self, css: str, first: datetime, last: datetime, text: str) -> Segment:
        x = min(self.place(first), 100 - WIDTH_OF_NOTHING)
        return Segment(css, x, max(WIDTH_OF_NOTHING, round(self.place(last) - x, 2)), text)


def draw_timeline(
    batch: Batch, *, chats: Sequence[Chat], calls: Sequence[ModelCall], now: datetime
) -> Timeline:
    """From the first arrival to the last end; what has not ended lasts until `now`."""
    starts = [batch.created_at, *(chat.received_at for chat in chats)]
    ends = [batch.finished_at or now, *_list_ends(chats, calls, now=now)]
    span_s = (max(ends) - min(starts)).total_seconds()
    scale = _Scale(min(starts), max(span_s, LEAST_SPAN_S))
    return Timeline(
        start=scale.start,
        length=f"{scale.span_s:.3f} s",
        claim_x=scale.place(batch.created_at),
        claim_text=_explain_trigger(batch),
        items=[_draw_item(scale, batch, chat, now=now) for chat in chats],
        calls=[_draw_call(scale, call, now=now) for call in calls],
        events=_list_events(scale, batch, chats, calls),
    )


def _list_ends(
    chats: Iterable[Chat], calls: Iterable[ModelCall], *, now: datetime
) -> Iterable[datetime]:
    yield from (chat.completed_at or now for chat in chats)
    yield from (_end_of(call) or now for call in calls)


def _end_of(call: ModelCall) -> datetime | None:
    if call.duration_ms is not None:
        return call.started_at + timedelta(milliseconds=call.duration_ms)
    return None if call.status == CallStatus.STARTED else call.started_at


def _first_token_of(call: ModelCall) -> datetime | None:
    if call.first_token_ms is None:
        return None
    return call.started_at + timedelta(milliseconds=call.first_token_ms)


def _explain_trigger(batch: Batch) -> str:
    if batch.trigger == Trigger.FULL:
        return f"Left full, with {batch.size} of {batch.settings.get('max_batch', batch.size)}"
    window_s = batch.settings.get("window_s")
    ended = "" if window_s is None else f" of {format_number(float(window_s), unit='s')}"
    late = f", {batch.lateness_ms:.1f} ms late" if batch.lateness_ms else ""
    return f"Left because the window{ended} had ended{late}, with {batch.size}"


def _draw_item(scale: _Scale, batch: Batch, chat: Chat, *, now: datetime) -> Track:
    left, ended = batch.created_at, chat.completed_at or now
    first = scale.segment("tone-2", chat.received_at, left, "waited for the batch to leave")
    second = scale.segment(_css_of(chat), left, ended, _ending_of(chat))
    arrived, waited = scale.offset_s(chat.received_at), format_number(chat.queue_ms, unit="ms")
    text = f"arrived at {arrived}, waited {waited}, {_ending_of(chat)}"
    if chat.completed_at:
        text += f" at {scale.offset_s(chat.completed_at)}"
    if chat.attempt > 1:
        text += f", {chat.attempt} attempts"
    return Track(chat.username, f"chat-{chat.pk}", [first, second], text)


def _css_of(chat: Chat) -> str:
    if chat.status == Status.DONE:
        return "tone-3"
    return "tone-1" if chat.completed_at is None else "bad"


def _ending_of(chat: Chat) -> str:
    if chat.status == Status.DONE:
        return "answered"
    return f"{chat.get_status_display().lower()} ({chat.error_code})" if chat.error_code else "open"


def _draw_call(scale: _Scale, call: ModelCall, *, now: datetime) -> Track:
    first_token, end = _first_token_of(call), _end_of(call) or now
    failed = call.status == CallStatus.FAILED
    css = "bad" if failed else "tone-1"
    segments = [scale.segment(css, first_token or call.started_at, end, _state_of(call))]
    if first_token:
        wait = "waited for the first token"
        segments.insert(0, scale.segment("tone-2", call.started_at, first_token, wait))
    text = f"{_count_items(call)}, from {scale.offset_s(call.started_at)}"
    if first_token:
        text += f", first token at {scale.offset_s(first_token)}"
    text += f", {_state_of(call)} at {scale.offset_s(end)}" if _end_of(call) else ", running"
    return Track(f"Call {call.pk}, attempt {call.attempt}", f"call-{call.pk}", segments, text)


def _count_items(call: ModelCall) -> str:
    return "1 item" if len(call.item_ids) == 1 else f"{len(call.item_ids)} items"


def _state_of(call: ModelCall) -> str:
    return f"{call.status} ({call.error_code})" if call.error_code else str(call.status)


def _list_events(
    scale: _Scale, batch: Batch, chats: Sequence[Chat], calls: Sequence[ModelCall]
) -> list[Event]:
    told: list[tuple[datetime | None, str]] = [
        *((chat.received_at, f"{chat.username}'s request arrived") for chat in chats),
        (batch.created_at, _explain_trigger(batch)),
    ]
    for call in calls:
        name = f"Call {call.pk}"
        again = "" if call.attempt == 1 else f", attempt {call.attempt}"
        told += [
            (call.started_at, f"{name} began ({call.kind}{again}, {_count_items(call)})"),
            (_first_token_of(call), f"{name}: first token"),
        ]
    told += [
        (chat.completed_at, f"{chat.username}'s request: {_ending_of(chat)}") for chat in chats
    ]
    told += [(_end_of(call), f"Call {call.pk} ended: {_state_of(call)}") for call in calls]
    told.append((batch.finished_at, f"The batch ended: {batch.get_outcome_display()}"))
    known = [(at, text) for at, text in told if at is not None]
    known.sort(key=lambda event: event[0])
    return [Event(at, scale.offset_s(at), text) for at, text in known]
