"""Describes the endpoints for OpenAI's clients."""

import json
from typing import Any

from drf_spectacular.extensions import OpenApiSerializerExtension
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import serializers

from batching.api.openai.requests import IDEMPOTENCY_HEADER, IGNORED, ROLES, TIERS
from chats.models import MAX_NAME_LENGTH
from llmbatch.openapi.describe import CHALLENGE, answer, answer_header, retry_after
from llmbatch.openapi.fields import NOT_BLANK
from llmbatch.openapi.forms import COUNT, TEXT, Schema, one_of_these, server_sent, whole
from llmbatch.openapi.operations.queries import FAILURES, REQUEST_ID
from llmbatch.openapi.refusals import describe_openai_refusals

TAGS = ["OpenAI"]
STATUSES = [400, 401, 403, 404, 409, 413, 415, 429, 502, 503, 504]
RETRY = answer_header("x-should-retry", "Whether OpenAI's clients should try again.", STATUSES)
PART = whole(type=one_of_these("text"), text=TEXT)
MESSAGE = whole(
    role=one_of_these(*ROLES), content={"anyOf": [TEXT, {"type": "array", "items": PART}]}
)
LIMIT = {
    "type": ["integer", "null"],
    "minimum": 1,
    "description": "One token is counted as four characters.",
}
FLAG = {"type": ["boolean", "null"]}
BODY: Schema = {
    "type": "object",
    "required": ["model", "messages"],
    "additionalProperties": False,
    "properties": {
        "model": {
            "type": "string",
            "pattern": r"\S",
            "description": "Any name; the model of the settings answers.",
        },
        "messages": {
            "type": "array",
            "minItems": 1,
            "items": MESSAGE,
            "description": "The last message must not have the role `assistant`.",
        },
        "stream": FLAG,
        "stream_options": {"type": ["object", "null"], "properties": {"include_usage": FLAG}},
        "service_tier": {
            "anyOf": [one_of_these(*TIERS), {"type": "null"}],
            "description": "`priority` is HIGH, `default` and `auto` are MEDIUM, `flex` is LOW.",
        },
        "user": {
            "type": ["string", "null"],
            "pattern": NOT_BLANK,
            "maxLength": MAX_NAME_LENGTH,
            "description": "The username.",
        },
        "max_completion_tokens": LIMIT,
        "max_tokens": LIMIT,
        "n": {"anyOf": [{"const": 1}, {"type": "null"}]},
        **{name: {"description": "Ignored."} for name in sorted(IGNORED)},
    },
}


class CompletionSerializer(serializers.Serializer[Any]):
    """Represents `BODY`; drf-spectacular treats a body without a serializer as optional."""


class CompletionBody(OpenApiSerializerExtension):
    target_class = f"{__name__}.CompletionSerializer"

    def map_serializer(self, auto_schema: Any, direction: str) -> Schema:
        return BODY


USAGE = whole(
    prompt_tokens=COUNT,
    completion_tokens=COUNT,
    total_tokens=COUNT,
    prompt_tokens_details=whole(cached_tokens=COUNT),
    completion_tokens_details=whole(reasoning_tokens=COUNT),
)
FINISHES = ("stop", "length", "content_filter")
CHOICE = whole(
    index=COUNT,
    message=whole(role=one_of_these("assistant"), content=TEXT, refusal={"type": "null"}),
    logprobs={"type": "null"},
    finish_reason=one_of_these(*FINISHES),
)
TIER = one_of_these(*(tier for tier in TIERS if tier != "auto"))
HEADER = {"id": TEXT, "created": {"type": "integer"}, "model": TEXT, "service_tier": TIER}
COMPLETION = whole(
    **HEADER,
    object=one_of_these("chat.completion"),
    choices={"type": "array", "items": CHOICE, "minItems": 1, "maxItems": 1},
    usage=USAGE,
)
DELTA = whole(
    index=COUNT,
    delta={"type": "object", "properties": {"role": one_of_these("assistant"), "content": TEXT}},
    logprobs={"type": "null"},
    finish_reason=one_of_these(*FINISHES, None),
)
CHUNK = whole(
    **HEADER,
    object=one_of_these("chat.completion.chunk"),
    choices={"type": "array", "items": DELTA, "maxItems": 1},
)
STREAM_ERROR = whole(
    error=whole(message=TEXT, type=TEXT, param={"type": ["string", "null"]}, code=TEXT)
)
EVENT = server_sent(CHUNK, STREAM_ERROR, last="[DONE]")
MODEL = whole(id=TEXT, object=one_of_these("model"), created=COUNT, owned_by=TEXT)
MODELS = whole(object=one_of_these("list"), data={"type": "array", "items": MODEL})

QUESTION = {
    "model": "any",
    "messages": [{"role": "user", "content": "Why is the sky blue?"}],
    "service_tier": "priority",
}
EXAMPLE_HEADER = {
    "id": f"chatcmpl-{REQUEST_ID}",
    "object": "chat.completion",
    "created": 1795394894,
    "model": "gemini-3.8-flash",
    "service_tier": "priority",
}
ANSWER_TEXT = "Because air scatters blue light more than red."
EXAMPLE_CHOICE = {
    "index": 0,
    "message": {"role": "assistant", "content": ANSWER_TEXT, "refusal": None},
    "logprobs": None,
    "finish_reason": "stop",
}
EXAMPLE_USAGE = {
    "prompt_tokens": 164,
    "completion_tokens": 60,
    "total_tokens": 224,
    "prompt_tokens_details": {"cached_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 24},
}
DELTAS: list[tuple[dict[str, Any], str | None]] = [
    ({"role": "assistant", "content": ANSWER_TEXT}, None),
    ({}, "stop"),
]
CHUNKS = [
    {
        **EXAMPLE_HEADER,
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}],
    }
    for delta, reason in DELTAS
]
FRAMES = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in CHUNKS) + "data: [DONE]\n\n"
EXAMPLE_MODEL = {"id": "gemini-3.8-flash", "object": "model", "created": 0, "owned_by": "google"}
ANSWERED = "The answer; with `stream`, chunks while the model writes it."

COMPLETE = extend_schema(
    tags=TAGS,
    operation_id="create_chat_completion",
    summary="Send a prompt with a client of OpenAI's",
    description="Waits and batches as POST /v1/query does. docs/openai.md lists every parameter.",
    request=CompletionSerializer,
    examples=[OpenApiExample("question", QUESTION, request_only=True)],
    parameters=[
        OpenApiParameter(
            IDEMPOTENCY_HEADER,
            {"type": "string", "maxLength": MAX_NAME_LENGTH},
            OpenApiParameter.HEADER,
            description="The `request_id`. Repeating it joins the request or replays its answer.",
        ),
        retry_after(429, 503),
        RETRY,
        CHALLENGE,
    ],
    responses={
        (200, "application/json"): answer(
            COMPLETION,
            ANSWERED,
            answer={**EXAMPLE_HEADER, "choices": [EXAMPLE_CHOICE], "usage": EXAMPLE_USAGE},
        ),
        (200, "text/event-stream"): answer(EVENT, ANSWERED, frames=FRAMES),
        **describe_openai_refusals(FAILURES),
    },
)

_REFUSALS = ["not_authenticated", "permission_denied"]

LIST = extend_schema(
    tags=TAGS,
    operation_id="list_models",
    summary="List the model that answers",
    parameters=[RETRY, CHALLENGE, retry_after(503)],
    responses={
        200: answer(
            MODELS, "A list with one model.", models={"object": "list", "data": [EXAMPLE_MODEL]}
        ),
        **describe_openai_refusals(_REFUSALS),
    },
)

SHOW = extend_schema(
    tags=TAGS,
    operation_id="get_model",
    summary="Get the model by its name",
    parameters=[
        OpenApiParameter("name", str, OpenApiParameter.PATH, description="May contain `/`."),
        RETRY,
        CHALLENGE,
        retry_after(503),
    ],
    responses={
        200: answer(MODEL, "The model.", model=EXAMPLE_MODEL),
        **describe_openai_refusals([*_REFUSALS, "not_found"]),
    },
)
