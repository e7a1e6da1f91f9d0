"""GET and DELETE /v1/query/{request_id}: where an accepted request stands, and taking it back."""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from batching.engine.errors import AlreadyDispatched, AmbiguousRequest, Cancelled
from batching.messages import BATCHING_CHANNEL, cancelled_message, finished_message
from batching.store.cancellation import cancel_chats
from batching.store.queue import estimate_wait_s, find_chats, queue_position
from batching.store.responses import describe_error, describe_request, read_outcome
from batching.telemetry import log_context
from chats.models import Chat, Status
from settings_app.access.auth import KeyOrOpenAccess, ListedOriginForWrites, client_of

logger = logging.getLogger("batching")

SEND_TIMEOUT_S = 1.0


class QueryStateView(APIView):
    permission_classes = [KeyOrOpenAccess, ListedOriginForWrites]

    def get(self, request: Request, request_id: str) -> Response:
        return Response(describe_state(find_asked(request, request_id)))

    def delete(self, request: Request, request_id: str) -> Response:
        chat = find_asked(request, request_id)
        for channel, message in cancel_chat(chat):
            async_to_sync(_tell)(channel, message)
        return Response(describe_state(find_asked(request, request_id)))


def find_asked(request: Request, request_id: str) -> Chat:
    """Raises NotFound or AmbiguousRequest."""
    username = request.query_params.get("username")
    log_context.note(request_ids=[request_id])
    return find_one(request_id, client_id=client_of(request), username=username)


def find_one(request_id: str, *, client_id: int | None, username: str | None) -> Chat:
    """Raises NotFound or AmbiguousRequest."""
    if "\x00" in request_id + (username or ""):
        raise NotFound()
    chats = find_chats(request_id, client_id=client_id, username=username)
    if not chats:
        raise NotFound()
    if len(chats) > 1:
        raise AmbiguousRequest()
    return chats[0]


def cancel_one(
    request_id: str, *, client_id: int | None, username: str | None
) -> list[tuple[str, dict[str, Any]]]:
    """As `cancel_chat`, of the one request with this id; raises what `find_one` raises, too."""
    return cancel_chat(find_one(request_id, client_id=client_id, username=username))


def cancel_chat(chat: Chat) -> list[tuple[str, dict[str, Any]]]:
    """Cancels what is still queued; raises AlreadyDispatched.

    Gives channels and the messages for them, by which planner and waiters learn of it.
    """
    if chat.status == Status.CANCELLED:
        return []
    error = Cancelled()
    with transaction.atomic():
        cancelled = cancel_chats(
            [chat.pk], now=datetime.now(UTC), code=error.code, detail=str(error)
        )
        if not cancelled:
            raise AlreadyDispatched()
        # It was found without a lock: by now it may be another life, of another process's client.
        chat.refresh_from_db(fields=["origin", "received_at"])
    told = {chat.pk: {"error": describe_error(error.code, str(error)), "life": chat.life}}
    return [
        (BATCHING_CHANNEL, cancelled_message(cancelled)),
        (chat.origin, finished_message(told)),
    ]


async def _tell(channel: str, message: dict[str, Any]) -> None:
    """If it is lost, the claim looks at the row, and the waiter's process reads it again."""
    try:
        async with asyncio.timeout(SEND_TIMEOUT_S):
            await get_channel_layer().send(channel, message)
    except Exception as error:
        logger.warning("A message to %s was lost (%s).", channel, type(error).__name__)


def describe_state(chat: Chat) -> dict[str, Any]:
    outcome = read_outcome(chat) or {}
    queued = chat.status == Status.QUEUED
    return {
        "request_id": chat.request_id,
        "username": chat.username,
        "status": chat.status,
        "position": queue_position(chat) if queued else None,
        "estimate_s": estimate_wait_s(chat) if queued else None,
        "response": _describe_response(chat, outcome["answer"]) if "answer" in outcome else None,
        "error": _describe_error(outcome["error"]) if "error" in outcome else None,
    }


def _describe_response(chat: Chat, answer: dict[str, Any]) -> dict[str, Any]:
    return describe_request(chat) | answer


def _describe_error(error: dict[str, Any]) -> dict[str, Any]:
    return {"code": error["code"], "detail": error["detail"]}
