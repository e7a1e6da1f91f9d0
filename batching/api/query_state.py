"""GET and DELETE /v1/query/{request_id}: where an accepted request stands, and taking it back."""

from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from batching.messages import Sender
from batching.store.cancellation import cancel_chat, find_one
from batching.store.queue import estimate_wait_s, queue_position
from batching.store.responses import describe_request, parse_stored_response
from batching.telemetry import log_context
from chats.models import Chat, Status
from settings_app.access.auth import KeyOrOpenAccess, ListedOriginForWrites, client_of


class QueryStateView(APIView):
    permission_classes = [KeyOrOpenAccess, ListedOriginForWrites]

    def get(self, request: Request, request_id: str) -> Response:
        return Response(describe_state(find_asked(request, request_id)))

    def delete(self, request: Request, request_id: str) -> Response:
        chat = find_asked(request, request_id)
        send = Sender(get_channel_layer()).send
        for channel, message in cancel_chat(chat):
            async_to_sync(send)(channel, message)
        return Response(describe_state(find_asked(request, request_id)))


def find_asked(request: Request, request_id: str) -> Chat:
    """Raises RequestNotFound or AmbiguousRequest."""
    username = request.query_params.get("username")
    log_context.bind(request_ids=[request_id])
    return find_one(request_id, client_id=client_of(request), username=username)


def describe_state(chat: Chat) -> dict[str, Any]:
    outcome = parse_stored_response(chat) or {}
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
