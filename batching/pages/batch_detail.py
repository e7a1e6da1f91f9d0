"""What happened to one batch: its items with their answers, and every model call for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from batching.models import Batch, ModelCall
from batching.pages.figures import format_number
from batching.pages.timeline import Timeline, draw_timeline
from chats.models import Chat

TOKEN_KINDS = ("prompt", "output", "thoughts", "cached")

Facts = Sequence[tuple[str, Any]]


@dataclass(frozen=True)
class ItemDetail:
    chat: Chat
    facts: Facts
    calls: Sequence[ModelCall]


@dataclass(frozen=True)
class CallDetail:
    call: ModelCall
    facts: Facts


@dataclass(frozen=True)
class BatchDetail:
    items: Sequence[ItemDetail]
    calls: Sequence[CallDetail]
    timeline: Timeline


def describe_batch(batch: Batch, *, now: datetime) -> BatchDetail:
    """Costs two queries."""
    calls = list(batch.calls.order_by("id"))
    chats = list(batch.chats.order_by("id"))
    return BatchDetail(
        items=[_describe_item(chat, calls) for chat in chats],
        calls=[_describe_call(call) for call in calls],
        timeline=draw_timeline(batch, chats=chats, calls=calls, now=now),
    )


def _describe_item(chat: Chat, calls: Sequence[ModelCall]) -> ItemDetail:
    return ItemDetail(
        chat=chat,
        facts=[
            ("in queue", format_number(chat.queue_ms, unit="ms")),
            ("latency", format_number(chat.latency_ms, unit="ms")),
            ("attempts", chat.attempt),
            ("finish reason", chat.finish_reason or "–"),
            ("tokens reported", _format_tokens(chat)),
            *(
                (f"settled {kind} tokens", format_number(getattr(chat, f"settled_{kind}")))
                for kind in TOKEN_KINDS
            ),
        ],
        calls=[call for call in calls if chat.pk in call.item_ids],
    )


def _format_tokens(chat: Chat) -> str:
    """The count in the client's answer: an estimate if the answer was released early."""
    return _format_count(chat.tokens_used, estimated=(chat.usage or {}).get("estimated", False))


def _format_count(count: int | None, *, estimated: bool) -> str:
    return format_number(count) + (" (estimated)" if estimated else "")


def _describe_call(call: ModelCall) -> CallDetail:
    return CallDetail(
        call=call,
        facts=[
            ("first token", format_number(call.first_token_ms, unit="ms")),
            ("duration", format_number(call.duration_ms, unit="ms")),
            ("finish reason", call.finish_reason or "–"),
            *(
                (
                    f"{kind} tokens",
                    _format_count(getattr(call, f"{kind}_tokens"), estimated=call.estimated),
                )
                for kind in TOKEN_KINDS
            ),
            ("perhaps billed", "yes" if call.perhaps_billed else "no"),
            ("items", ", ".join(map(str, call.item_ids)) or "–"),
        ],
    )
