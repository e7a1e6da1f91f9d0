"""Describes /v1/query: submit a prompt, read its state, cancel it."""

import json
from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema

from batching.api.serializers import QuerySerializer
from llmbatch.openapi.describe import CHALLENGE, answer, answer_header, retry_after
from llmbatch.openapi.documents import AcceptedSerializer, AnswerSerializer, StateSerializer
from llmbatch.openapi.forms import TEXT, one_of_these, server_sent, whole
from llmbatch.openapi.refusals import describe_refusals

TAGS = ["Prompts"]
REQUEST_ID = "703c0f9611f34c75bf721acc765a7c00"

FAILURES = [
    "invalid",
    "not_authenticated",
    "permission_denied",
    "request_conflict",
    "cancelled",
    "too_large",
    "unsupported_media_type",
    "rate_limited",
    "blocked",
    "truncated",
    "missing_answer",
    "upstream_error",
    "upstream_rejected_key",
    "queue_full",
    "shutting_down",
    "no_api_key",
    "upstream_unavailable",
    "timeout",
]

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
IDENTITY = {"request_id": REQUEST_ID, "username": "demo"}
QUEUED = IDENTITY | {
    "status": "queued",
    "position": 3,
    "estimate_s": 1.4,
    "response": None,
    "error": None,
}
DONE = QUEUED | {"status": "done", "position": None, "estimate_s": None, "response": ANSWER}
CANCELLED = DONE | {
    "status": "cancelled",
    "response": None,
    "error": {
        "code": "cancelled",
        "detail": "The request was cancelled before it was sent to the model.",
    },
}

_END = {name: value for name, value in ANSWER.items() if name != "text"}
FRAMES = "".join(
    f"data: {json.dumps(frame)}\n\n"
    for frame in (
        {"type": "text", "content": "Because air scatters blue"},
        {"type": "text", "content": " light more than red."},
        {"type": "done", **_END},
    )
)
EVENT = server_sent(
    whole(type=one_of_these("text"), content=TEXT),
    whole(type=one_of_these("restart")),
    {
        "type": "object",
        "properties": {"type": one_of_these("done")},
        "required": ["type", *_END],
    },
    whole(type=one_of_these("error"), code=TEXT, detail=TEXT, request_id=TEXT),
)
ANSWERED = (
    "The request's own answer.\n\nWith `Accept: text/event-stream`: frames of `data: {json}` and a"
    " blank line, while the model writes. A `text` event has the next piece of the answer in"
    " `content`; `restart` discards all earlier pieces; the last event is `done`, with all fields"
    " of the JSON answer except `text`, or `error` with `code`, `detail` and `request_id`. A"
    " request that is not accepted gets its usual error status."
)

BODIES = [
    OpenApiExample(
        "prompt",
        {"username": "demo", "prompt": "Why is the sky blue?", "priority": "HIGH"},
        request_only=True,
    ),
    OpenApiExample(
        "every field",
        {
            "username": "demo",
            "prompt": "Why is the sky blue?",
            "priority": 0,
            "request_id": "sky-1",
            "created_at": "2026-11-23T00:48:14Z",
            "timeout_s": 20,
        },
        request_only=True,
    ),
]

SUBMIT = extend_schema(
    tags=TAGS,
    operation_id="submit_query",
    summary="Send a prompt and wait for its answer",
    description=(
        "Waits for at most the latency target of its priority plus 30 s. Sending the same"
        " `request_id` and username again joins the running request or replays the stored answer,"
        " without another model call. With another prompt or priority it is 409"
        " `request_conflict`."
    ),
    request=QuerySerializer,
    examples=BODIES,
    parameters=[
        OpenApiParameter(
            "Prefer",
            str,
            OpenApiParameter.HEADER,
            description="`respond-async` returns 202 as soon as the request is stored.",
        ),
        answer_header("Location", "The path of the request's state.", [202]),
        answer_header("Preference-Applied", "`respond-async`", [202]),
        retry_after(429, 503),
        CHALLENGE,
    ],
    responses={
        (200, "application/json"): answer(AnswerSerializer, ANSWERED, answer=ANSWER),
        (200, "text/event-stream"): answer(EVENT, ANSWERED, frames=FRAMES),
        202: answer(
            AcceptedSerializer, "The request is stored (`Prefer: respond-async`).", stored=ACCEPTED
        ),
        **describe_refusals(FAILURES),
    },
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
    CHALLENGE,
    retry_after(503),
]

STATE = extend_schema(
    tags=TAGS,
    operation_id="get_query",
    summary="Get the state of a request, and its answer",
    parameters=_PARAMETERS,
    responses={
        200: answer(StateSerializer, "The state of the request.", queued=QUEUED, done=DONE),
        **describe_refusals(
            ["not_authenticated", "permission_denied", "not_found", "ambiguous_request"]
        ),
    },
)

CANCEL = extend_schema(
    tags=TAGS,
    operation_id="cancel_query",
    summary="Cancel a request that has not been dispatched",
    description="Waiting clients get 409 `cancelled`. Cancelling twice is not an error.",
    parameters=_PARAMETERS,
    responses={
        200: answer(StateSerializer, "The request is cancelled.", cancelled=CANCELLED),
        **describe_refusals(
            [
                "not_authenticated",
                "permission_denied",
                "not_found",
                "already_dispatched",
                "ambiguous_request",
            ]
        ),
    },
)
