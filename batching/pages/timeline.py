"""The timeline of a batch: its bars, positioned in per cent, and the same as a list of events."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from batching.models import Batch, CallStatus, ModelCall, Trigger
from batching.pages.figures import format_number
from chats.models import Chat, Status

MIN_SPAN_S = 0.001
# In per cent, so that a segment without a duration can still be seen.
MIN_WIDTH = 0.3


class Segment(NamedTuple):
    css: str
    x: float
    width: float
    text: str


@dataclass(frozen=True, slots=True)
class Track:
    """One request or one call; `anchor` is the id of its section on the page."""

    label: str
    anchor: str
    segments: Sequence[Segment]
    text: str


class Event(NamedTuple):
    offset: str
    text: str


@dataclass(frozen=True, slots=True)
class Timeline:
    start: datetime
    length: str
    claim_x: float
    claim_text: str
    tracks: Sequence[Track]
    events: Sequence[Event]


@dataclass(frozen=True, slots=True)
class _Scale:
    start: datetime
    span_s: float

    def position(self, at: datetime) -> float:
        share = (at - self.start).total_seconds() / self.span_s
        return round(min(100.0, max(0.0, share * 100)), 2)

    def offset(self, at: datetime) -> str:
        return f"{(at - self.start).total_seconds():.3f} s"

    def segment(self, css: str, first: datetime, last: datetime, text: str) -> Segment:
        x = min(self.position(first), 100 - MIN_WIDTH)
        return Segment(css, x, max(MIN_WIDTH, round(self.position(last) - x, 2)), text)


def draw_timeline(
    batch: Batch, *, chats: Sequence[Chat], calls: Sequence[ModelCall], now: datetime
) -> Timeline:
    """From the first arrival to the last end. Whatever has not ended is drawn until `now`."""
    starts = [batch.created_at, *(chat.received_at for chat in chats)]
    ends = [batch.finished_at, *(c.completed_at for c in chats), *(_end_of(c) for c in calls)]
    span_s = (max(end or now for end in ends) - min(starts)).total_seconds()
    scale = _Scale(min(starts), max(span_s, MIN_SPAN_S))
    return Timeline(
        start=scale.start,
        length=f"{scale.span_s:.3f} s",
        claim_x=scale.position(batch.created_at),
        claim_text=_explain_trigger(batch),
        tracks=[
            *(_draw_item(scale, batch, chat, now=now) for chat in chats),
            *(_draw_call(scale, call, now=now) for call in calls),
        ],
        events=_list_events(scale, batch, chats, calls),
    )


def _end_of(call: ModelCall) -> datetime | None:
    if call.duration_ms is None and call.status != CallStatus.STARTED:
        return call.started_at
    return _find_time(call, call.duration_ms)


def _first_token_of(call: ModelCall) -> datetime | None:
    return _find_time(call, call.first_token_ms)


def _find_time(call: ModelCall, after_ms: int | None) -> datetime | None:
    return None if after_ms is None else call.started_at + timedelta(milliseconds=after_ms)


def _explain_trigger(batch: Batch) -> str:
    if batch.trigger == Trigger.FULL:
        full = batch.settings.get("max_batch", batch.size)
        return f"Sent full, with {batch.size} of {full} requests"
    window_s = batch.settings.get("window_s")
    length = "" if window_s is None else f" of {format_number(float(window_s), unit='s')}"
    late = f", {batch.lateness_ms:.1f} ms late" if batch.lateness_ms else ""
    return f"Sent at the end of the window{length}{late}, with {_count(batch.size, 'request')}"


def _draw_item(scale: _Scale, batch: Batch, chat: Chat, *, now: datetime) -> Track:
    sent, ended = batch.created_at, chat.completed_at or now
    waiting = scale.segment("tone-2", chat.received_at, sent, "waiting for its batch")
    answering = scale.segment(_css_of(chat), sent, ended, _describe_outcome(chat))
    arrived, waited = scale.offset(chat.received_at), format_number(chat.queue_ms, unit="ms")
    text = f"arrived at {arrived}, waited {waited}, {_describe_outcome(chat)}"
    if chat.completed_at:
        text += f" at {scale.offset(chat.completed_at)}"
    if chat.attempt > 1:
        text += f", {chat.attempt} attempts"
    return Track(chat.username, f"chat-{chat.pk}", [waiting, answering], text)


def _css_of(chat: Chat) -> str:
    if chat.status == Status.DONE:
        return "tone-3"
    return "tone-1" if chat.completed_at is None else "bad"


def _describe_outcome(chat: Chat) -> str:
    if chat.status == Status.DONE:
        return "answered"
    status = chat.get_status_display().lower()
    return f"{status} ({chat.error_code})" if chat.error_code else "no answer yet"


def _draw_call(scale: _Scale, call: ModelCall, *, now: datetime) -> Track:
    start, first_token, end = call.started_at, _first_token_of(call), _end_of(call) or now
    css = "bad" if call.status == CallStatus.FAILED else "tone-1"
    segments = [scale.segment(css, first_token or start, end, _describe_status(call))]
    text = f"{_count(len(call.item_ids), 'item')}, started at {scale.offset(start)}"
    if first_token:
        waiting = scale.segment("tone-2", start, first_token, "waiting for the first token")
        segments.insert(0, waiting)
        text += f", first token at {scale.offset(first_token)}"
    text += f", {_describe_status(call)} at {scale.offset(end)}" if _end_of(call) else ", running"
    return Track(f"Call {call.pk}, attempt {call.attempt}", f"call-{call.pk}", segments, text)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _describe_status(call: ModelCall) -> str:
    return f"{call.status} ({call.error_code})" if call.error_code else str(call.status)


def _list_events(
    scale: _Scale, batch: Batch, chats: Sequence[Chat], calls: Sequence[ModelCall]
) -> list[Event]:
    """The events in order. An answer comes before the end of its call, even at equal times."""
    events: list[tuple[datetime | None, str]] = [
        *((chat.received_at, f"{chat.username}'s request arrived") for chat in chats),
        (batch.created_at, _explain_trigger(batch)),
    ]
    for call in calls:
        attempt = "" if call.attempt == 1 else f", attempt {call.attempt}"
        items = _count(len(call.item_ids), "item")
        events.append((call.started_at, f"Call {call.pk} started ({call.kind}{attempt}, {items})"))
        events.append((_first_token_of(call), f"Call {call.pk}: first token"))
    for chat in chats:
        events.append((chat.completed_at, f"{chat.username}'s request: {_describe_outcome(chat)}"))
    for call in calls:
        events.append((_end_of(call), f"Call {call.pk} ended: {_describe_status(call)}"))
    events.append((batch.finished_at, f"The batch ended: {batch.get_outcome_display()}"))
    known = sorted(((at, text) for at, text in events if at), key=lambda event: event[0])
    return [Event(scale.offset(at), text) for at, text in known]
