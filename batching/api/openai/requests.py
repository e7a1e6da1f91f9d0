"""Parses the body of POST /v1/chat/completions. docs/openai.md lists the parameters."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from rest_framework.exceptions import ValidationError

from batching.api.serializers import parse_query
from batching.engine.lanes import Priority
from batching.gateway.admission import Query

# The username of a request without `user`.
NAMELESS = "openai"
IDEMPOTENCY_HEADER = "Idempotency-Key"
TIERS = {
    "priority": Priority.HIGH,
    "default": Priority.MEDIUM,
    "auto": Priority.MEDIUM,
    "flex": Priority.LOW,
}
ROLES = ("system", "developer", "user", "assistant")
CONVERSATION = (
    "Reply as the assistant to the last message of this conversation, a JSON list of messages:\n"
)
_READ = {"model", "messages", "stream", "stream_options", "service_tier", "user", "n"}
_READ |= {"max_tokens", "max_completion_tokens"}
# These would apply to the whole call, which many requests share, or to OpenAI's own service.
IGNORED = {"temperature", "top_p", "frequency_penalty", "presence_penalty", "seed", "verbosity"}
IGNORED |= {"reasoning_effort", "parallel_tool_calls", "store", "metadata", "safety_identifier"}
IGNORED |= {"prompt_cache_key", "prompt_cache_retention"}
REFUSED = {
    "tools": "Tools cannot be offered: a reply is text.",
    "tool_choice": "Tools cannot be offered: a reply is text.",
    "functions": "Functions cannot be offered: a reply is text.",
    "function_call": "Functions cannot be offered: a reply is text.",
    "response_format": "Only text; ask for another form in the prompt.",
    "stop": "Stop sequences would end the answers of other requests too.",
    "logprobs": "The model service returns none for one answer of a reply.",
    "top_logprobs": "The model service returns none for one answer of a reply.",
    "logit_bias": "It would change the answers of other requests too.",
    "modalities": "Only text.",
    "audio": "Only text.",
    "prediction": "Not supported.",
    "web_search_options": "Not supported.",
}
# Values of refused parameters that are accepted, because they change nothing.
_HARMLESS: dict[str, tuple[Any, ...]] = {
    "response_format": ({"type": "text"},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "modalities": (["text"],),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "stop": ([],),
}


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A parsed request. The response repeats `tier`; its text ends at about `max_tokens`."""

    query: Query
    max_tokens: int | None
    tier: str
    stream: bool
    include_usage: bool


def parse_completion(data: Any, *, request_id: str | None) -> CompletionRequest:
    """Raises ValidationError with the parameters' own names."""
    if not isinstance(data, dict):
        raise ValidationError({"body": ["Must be a JSON object."]})
    data = {name: value for name, value in data.items() if value is not None}
    _refuse_unknown(data)
    tier = data.get("service_tier", "auto")
    if not isinstance(tier, str) or tier not in TIERS:
        raise ValidationError({"service_tier": [f"Must be one of {', '.join(TIERS)}."]})
    _check_model(data.get("model"))
    query = _make_query(data, TIERS[tier], request_id=request_id)
    return CompletionRequest(
        query=replace(query, streamed=_parse_flag(data, "stream")),
        max_tokens=_parse_limit(data),
        tier="default" if tier == "auto" else tier,
        stream=_parse_flag(data, "stream"),
        include_usage=_parse_flag(_parse_options(data), "include_usage"),
    )


def _refuse_unknown(data: Mapping[str, Any]) -> None:
    for name, value in data.items():
        if name in REFUSED and value not in _HARMLESS.get(name, ()):
            raise ValidationError({name: [REFUSED[name]]})
        if name not in _READ | IGNORED | REFUSED.keys():
            raise ValidationError({name: ["This parameter is not known."]})
    if data.get("n", 1) != 1:
        raise ValidationError({"n": ["Must be 1: a request gets one answer."]})


def _check_model(model: Any) -> None:
    """Accepts any name: staff choose the model, and the response names it."""
    if not isinstance(model, str) or not model.strip():
        raise ValidationError({"model": ["Must be the name of a model."]})


def _make_query(data: Mapping[str, Any], priority: Priority, *, request_id: str | None) -> Query:
    named = {"username": "user", "prompt": "messages", "request_id": IDEMPOTENCY_HEADER}
    fields = {
        "username": data.get("user", NAMELESS),
        "prompt": format_prompt(data.get("messages")),
        "priority": int(priority),
        "request_id": request_id,
    }
    try:
        return parse_query(fields)
    except ValidationError as error:
        errors = error.detail if isinstance(error.detail, dict) else {}
        raise ValidationError({named.get(k, k): v for k, v in errors.items()}) from None


def format_prompt(messages: Any) -> str:
    """Returns the prompt for a conversation; a single user message is the prompt itself.

    The messages are formatted as JSON, so that the text of one cannot pretend to be another one.
    """
    if not isinstance(messages, list) or not messages:
        raise ValidationError({"messages": ["Must be a list of at least one message."]})
    read = [_parse_message(index, message) for index, message in enumerate(messages)]
    if read[-1]["role"] == "assistant":
        raise ValidationError({"messages": ["The last message must not be the assistant's."]})
    if len(read) == 1 and read[0]["role"] == "user":
        return read[0]["content"]
    return CONVERSATION + json.dumps(read, ensure_ascii=False)


def _parse_message(index: int, message: Any) -> dict[str, str]:
    where = f"messages[{index}]"
    if not isinstance(message, dict):
        raise ValidationError({where: ["Must be a JSON object."]})
    role = message.get("role")
    if role not in ROLES:
        raise ValidationError({f"{where}.role": [f"Must be one of {', '.join(ROLES)}."]})
    for name in ("tool_calls", "function_call", "audio"):
        if message.get(name):
            raise ValidationError({f"{where}.{name}": [REFUSED.get(name, REFUSED["tools"])]})
    return {"role": role, "content": _parse_content(f"{where}.content", message.get("content"))}


def _parse_content(where: str, content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ValidationError({where: ["Must be text or a list of text parts."]})
    texts = []
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text":
            raise ValidationError({where: ["May contain only parts of type text."]})
        if not isinstance(part.get("text"), str):
            raise ValidationError({where: ["A part of type text needs a text."]})
        texts.append(part["text"])
    return "".join(texts)


def _parse_limit(data: Mapping[str, Any]) -> int | None:
    """Returns the smaller one of the two parameters that limit the output."""
    limits = []
    for name in ("max_completion_tokens", "max_tokens"):
        if name in data:
            if type(data[name]) not in (int, float) or data[name] < 1 or data[name] % 1:
                raise ValidationError({name: ["Must be a whole number of at least 1."]})
            limits.append(int(data[name]))
    return min(limits, default=None)


def _parse_options(data: Mapping[str, Any]) -> Mapping[str, Any]:
    options = data.get("stream_options", {})
    if not isinstance(options, dict):
        raise ValidationError({"stream_options": ["Must be a JSON object."]})
    return options


def _parse_flag(data: Mapping[str, Any], name: str) -> bool:
    flag = data.get(name)
    if flag is not None and not isinstance(flag, bool):
        raise ValidationError({name: ["Must be true or false."]})
    return bool(flag)
