"""Describes /v1/query: submit a prompt, read its state, cancel it."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiParameter

from batching.api.serializers import QuerySerializer
from batching.api.sse import format_frame
from batching.engine.errors import ERRORS_BY_CODE, Cancelled
from llmbatch.openapi.describe import answer, answer_header, operation
from llmbatch.openapi.documents import AcceptedSerializer, AnswerSerializer, StateSerializer
from llmbatch.openapi.forms import TEXT, one_of_these, server_sent, whole
from llmbatch.openapi.refusals import BODY_ERRORS

REQUEST_ID = "703c0f9611f34c75bf721acc765a7c00"
STATE_ERRORS = ["not_found", "already_dispatched", "ambiguous_request"]
FAILURES = [*BODY_ERRORS, "rate_limited"]
FAILURES += [code for code in ERRORS_BY_CODE if code not in STATE_ERRORS]

ANSWER: dict[str, Any] = {
    "request_id": REQUEST_ID,
    "username": "demo",
    "created_at": "2026-11-23T00:48:14.961650Z",
    "text": "Because air scatters blue light more than red.",
    "tokens_used": 224,
    "latency_ms": 551,
    "completed_at": "2026-11-23T00:48:15.512814Z",
    "queue_ms": 205,
    "finish_reason": "STOP",
    "usage": {
        "prompt_tokens": 164,
        "output_tokens": 36,
        "thoughts_tokens": 24,
        "cached_tokens": 0,
        "total_tokens": 224,
    },
    "batch_id": 1,
    "batch_size": 6,
}
ACCEPTED = {"request_id": REQUEST_ID, "status": "queued"}
QUEUED = ACCEPTED | {
    "username": "demo",
    "position": 3,
    "estimate_s": 1.4,
    "response": None,
    "error": None,
}
ENDED = QUEUED | {"position": None, "estimate_s": None}
DONE = ENDED | {"status": "done", "response": ANSWER}
CANCELLED = ENDED | {
    "status": "cancelled",
    "error": {"code": Cancelled.code, "detail": str(Cancelled())},
}

_END = {"type": "done"} | {name: value for name, value in ANSWER.items() if name != "text"}
EVENTS = (
    {"type": "text", "content": "Because air scatters blue"},
    {"type": "text", "content": " light more than red."},
    _END,
)
FRAMES = b"".join(format_frame(event) for event in EVENTS).decode()
EVENT = server_sent(
    whole(type=one_of_these("text"), content=TEXT),
    whole(type=one_of_these("restart")),
    {"type": "object", "properties": {"type": one_of_these("done")}, "required": list(_END)},
    whole(type=one_of_these("error"), code=TEXT, detail=TEXT, request_id=TEXT),
)
ANSWERED = (
    "The request's own answer.\n\nWith `Accept: text/event-stream`: frames of `data: {json}` and a"
    " blank line, while the model writes. A `text` event has the next piece of the answer in"
    " `content`; `restart` discards all earlier pieces; the last event is `done`, with all fields"
    " of the JSON answer except `text`, or `error` with `code`, `detail` and `request_id`. A"
    " request that is not accepted gets its usual error status."
)

PROMPT = {"username": "demo", "prompt": "Why is the sky blue?"}
OPTIONAL = {"request_id": "sky-1", "created_at": "2026-11-23T00:48:14Z", "timeout_s": 20}

SUBMIT = operation(
    "Prompts",
    "submit_query",
    "Send a prompt and wait for its answer",
    {
        (200, "application/json"): answer(AnswerSerializer, ANSWERED, answer=ANSWER),
        (200, "text/event-stream"): answer(EVENT, ANSWERED, frames=FRAMES),
        202: answer(
            AcceptedSerializer, "The request is stored (`Prefer: respond-async`).", stored=ACCEPTED
        ),
    },
    description="Waits for at most the latency target of its priority plus 30 s. Sending the same"
    " `request_id` and username again joins the running request or replays the stored answer,"
    " without another model call. With another prompt or priority it is 409 `request_conflict`.",
    request=QuerySerializer,
    bodies={
        "prompt": PROMPT | {"priority": "HIGH"},
        "every field": PROMPT | {"priority": 0} | OPTIONAL,
    },
    parameters=[
        OpenApiParameter(
            "Prefer",
            str,
            OpenApiParameter.HEADER,
            description="`respond-async` returns 202 as soon as the request is stored.",
        ),
        answer_header("Location", "The path of the request's state.", 202),
        answer_header("Preference-Applied", "`respond-async`", 202),
    ],
    errors=FAILURES,
)

_PARAMETERS = [
    OpenApiParameter(
        "request_id",
        str,
        OpenApiParameter.PATH,
        description="Percent-encoded; may contain `/`.",
        examples=[OpenApiExample("by name", "sky-1")],
    ),
    OpenApiParameter(
        "username", str, description="Needed if several users have a request with this ID."
    ),
]

STATE = operation(
    "Prompts",
    "get_query",
    "Get the state of a request, and its answer",
    {200: answer(StateSerializer, "The state of the request.", queued=QUEUED, done=DONE)},
    parameters=_PARAMETERS,
    errors=["not_found", "ambiguous_request"],
)

CANCEL = operation(
    "Prompts",
    "cancel_query",
    "Cancel a request that has not been dispatched",
    {200: answer(StateSerializer, "The request is cancelled.", cancelled=CANCELLED)},
    description="Waiting clients get 409 `cancelled`. Cancelling twice is not an error.",
    parameters=_PARAMETERS,
    errors=STATE_ERRORS,
)
