"""Describes the endpoints for OpenAI's clients."""

from functools import partial
from typing import Any

from drf_spectacular.extensions import OpenApiSerializerExtension
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers

from batching.api.openai.requests import (
    IDEMPOTENCY_HEADER,
    IGNORED,
    ROLES,
    TIERS,
    parse_completion,
)
from batching.api.openai.responses import describe_completion, describe_head
from batching.api.sse import format_frame
from chats.models import MAX_NAME_LENGTH
from llmbatch.openapi.describe import answer, operation
from llmbatch.openapi.fields import NOT_BLANK
from llmbatch.openapi.forms import COUNT, TEXT, Schema, one_of_these, server_sent, whole
from llmbatch.openapi.operations.queries import ANSWER, FAILURES

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
MODEL_NAME = "gemini-3.8-flash"
_REQUESTED = parse_completion(QUESTION, request_id=None)
_HEAD = describe_head(_REQUESTED, ANSWER, model=MODEL_NAME, kind="chat.completion.chunk")
_DELTAS: list[tuple[dict[str, str], str | None]] = [
    ({"role": "assistant", "content": ANSWER["text"]}, None),
    ({}, "stop"),
]
CHUNKS = [
    {**_HEAD, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]}
    for delta, reason in _DELTAS
]
FRAMES = b"".join(format_frame(chunk) for chunk in CHUNKS).decode() + "data: [DONE]\n\n"
EXAMPLE_MODEL = {"id": MODEL_NAME, "object": "model", "created": 0, "owned_by": "google"}
ANSWERED = "The answer; with `stream`, chunks while the model writes it."

_operation = partial(operation, "OpenAI", as_openai=True)

COMPLETE = _operation(
    "create_chat_completion",
    "Send a prompt with a client of OpenAI's",
    {
        (200, "application/json"): answer(
            COMPLETION,
            ANSWERED,
            answer=describe_completion(_REQUESTED, ANSWER, model=MODEL_NAME),
        ),
        (200, "text/event-stream"): answer(EVENT, ANSWERED, frames=FRAMES),
    },
    description="Waits and batches as POST /v1/query does. docs/openai.md lists every parameter.",
    request=CompletionSerializer,
    bodies={"question": QUESTION},
    parameters=[
        OpenApiParameter(
            IDEMPOTENCY_HEADER,
            {"type": "string", "maxLength": MAX_NAME_LENGTH},
            OpenApiParameter.HEADER,
            description="The `request_id`. Repeating it joins the request or replays its answer.",
        )
    ],
    errors=FAILURES,
)

LIST = _operation(
    "list_models",
    "List the model that answers",
    {
        200: answer(
            MODELS, "A list with one model.", models={"object": "list", "data": [EXAMPLE_MODEL]}
        ),
    },
)

SHOW = _operation(
    "get_model",
    "Get the model by its name",
    {200: answer(MODEL, "The model.", model=EXAMPLE_MODEL)},
    parameters=[
        OpenApiParameter("name", str, OpenApiParameter.PATH, description="May contain `/`.")
    ],
    errors=["not_found"],
)
