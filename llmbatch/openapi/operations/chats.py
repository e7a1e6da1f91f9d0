"""Describes /v1/chat."""

from chats.serializers import ChatParameters
from llmbatch.openapi.describe import answer, operation
from llmbatch.openapi.documents import ChatPageSerializer
from llmbatch.openapi.operations.queries import ANSWER

NAMES = {name: ANSWER[name] for name in ("request_id", "username", "created_at")}
STORED = ("text", "tokens_used", "latency_ms", "completed_at")
CHAT = {
    "timestamp": ANSWER["created_at"],
    "batch_id": 1,
    "status": "done",
    "request": NAMES | {"prompt": "Why is the sky blue?", "priority": 2},
    "response": NAMES | {name: ANSWER[name] for name in STORED},
    "suspect": None,
    "error": None,
}
PAGE = {
    "chats": [CHAT],
    "count": 1204,
    "next": "http://localhost:8000/v1/chat?limit=1&before=1204",
    "previous": None,
}

LIST = operation(
    "Records",
    "list_chats",
    "List stored requests and their answers",
    {200: answer(ChatPageSerializer, "A page.", page=PAGE)},
    description="The first page has the newest chats, the most recent as its last; `next` is the"
    " older page. Without `status` only chats that have ended are listed. `from` and `to`"
    " (exclusive) bound the time of acceptance; `search` finds a part of the prompt or the answer."
    " An API key lists only its own client's chats. A parameter without a value counts as absent.",
    parameters=[ChatParameters],
    errors=["invalid"],
)
