"""Formats answers, chunks of answers and errors as OpenAI's API does."""

import json
from collections.abc import AsyncGenerator, Mapping
from datetime import datetime
from typing import Any

from django.http import HttpResponse

from batching.api.openai.requests import CompletionRequest
from batching.api.sse import EventStream, format_frame
from batching.gateway.events import Event

PATHS = ("/v1/chat/completions", "/v1/models")
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    409: "conflict_error",
    429: "rate_limit_error",
}
_FINISHES = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
}
# After any other error, a retry by OpenAI's client would only cost tokens again.
RETRYABLE_CODES = ("rate_limited", "queue_full", "shutting_down", "upstream_unavailable")
# These clients ignore a longer `Retry-After` and send the request again after a few seconds.
MAX_RETRY_AFTER_S = 60
CHARS_PER_TOKEN = 4
CHANGED = "The model began another answer after a part of this one was sent; send it again."


def shorten(text: str, limit: int | None) -> str:
    """Cuts the text after about `limit` tokens; only the model service could count exactly."""
    return text if limit is None else text[: limit * CHARS_PER_TOKEN]


def describe_completion(
    requested: CompletionRequest, answer: Mapping[str, Any], *, model: str
) -> Event:
    text = shorten(answer["text"], requested.max_tokens)
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None}
    cut = len(text) < len(answer["text"])
    return {
        **describe_head(requested, answer, model=model, kind="chat.completion"),
        "choices": [choice | {"finish_reason": _format_finish_reason(answer, cut=cut)}],
        "usage": describe_usage(answer["usage"]),
    }


def describe_usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Thoughts count as completion tokens, as in OpenAI's API."""
    completion = usage["output_tokens"] + usage["thoughts_tokens"]
    return {
        "prompt_tokens": usage["prompt_tokens"],
        "completion_tokens": completion,
        "total_tokens": usage["prompt_tokens"] + completion,
        "prompt_tokens_details": {"cached_tokens": usage["cached_tokens"]},
        "completion_tokens_details": {"reasoning_tokens": usage["thoughts_tokens"]},
    }


def describe_head(
    requested: CompletionRequest, request: Mapping[str, Any], *, model: str, kind: str
) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{request['request_id']}",
        "object": kind,
        "created": int(datetime.fromisoformat(request["created_at"]).timestamp()),
        "model": model,
        "service_tier": requested.tier,
    }


def _format_finish_reason(answer: Mapping[str, Any], *, cut: bool) -> str:
    return "length" if cut else _FINISHES.get(answer["finish_reason"], "stop")


class CompletionStream(EventStream):
    """Formats the events of one answer as chunks. `accepted` is the event that came first."""

    def __init__(
        self,
        events: AsyncGenerator[Event, None],
        *,
        accepted: Event,
        requested: CompletionRequest,
        model: str,
    ) -> None:
        super().__init__(events)
        self._head = describe_head(requested, accepted, model=model, kind="chat.completion.chunk")
        self._requested = requested
        self._sent = ""
        self._whole = ""
        self._begun = self._broken = False

    def format_event(self, event: Event) -> bytes:
        """Returns b"" for an event that has no counterpart in OpenAI's API."""
        if self._broken:
            return b""
        match event["type"]:
            case "text":
                self._whole += event["content"]
                return self._format_more()
            case "restart":
                # The new text must begin with what was sent, which cannot be taken back.
                self._whole = ""
            case "done":
                return self._format_more() + self._format_end(event)
            case "error":
                return self._break_off(event["code"], event["detail"])
        return b""

    def _format_more(self) -> bytes:
        text = shorten(self._whole, self._requested.max_tokens)
        if not (text.startswith(self._sent) or self._sent.startswith(text)):
            return self._break_off("upstream_error", CHANGED)
        more, role = text[len(self._sent) :], {} if self._begun else {"role": "assistant"}
        if not more:
            return b""
        self._begun, self._sent = True, self._sent + more
        return self._format_choice({**role, "content": more}, None)

    def _format_end(self, event: Event) -> bytes:
        if self._broken or not self._whole.startswith(self._sent):
            return b"" if self._broken else self._break_off("upstream_error", CHANGED)
        cut = len(self._sent) < len(self._whole)
        frames = self._format_choice({}, _format_finish_reason(event, cut=cut))
        if self._requested.include_usage:
            usage = describe_usage(event["usage"])
            frames += format_frame({**self._head, "choices": [], "usage": usage})
        return frames + b"data: [DONE]\n\n"

    def _format_choice(self, delta: dict[str, Any], finish: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        usage = {"usage": None} if self._requested.include_usage else {}
        return format_frame({**self._head, "choices": [choice], **usage})

    def _break_off(self, code: str, detail: str) -> bytes:
        self._broken = True
        return format_frame({"error": _describe_error(detail, code, status=502)})


def in_callers_form(response: HttpResponse, path: str) -> HttpResponse:
    """Converts an error that no view has converted, if the path belongs to OpenAI's API."""
    return in_openai_form(response) if path.startswith(PATHS) else response


def in_openai_form(response: HttpResponse) -> HttpResponse:
    """Converts an error document of the API to the form of OpenAI's errors."""
    if response.status_code < 400:
        return response
    document = json.loads(response.content)
    code = document.get("code", "")
    error = _describe_error(document["detail"], code, status=response.status_code)
    error["param"] = next(iter(document.get("errors", {})), None)
    response.content = json.dumps({"error": error}, ensure_ascii=False).encode()
    soon = int(response.get("Retry-After", "0")) <= MAX_RETRY_AFTER_S
    response["x-should-retry"] = "true" if code in RETRYABLE_CODES and soon else "false"
    return response


def _describe_error(detail: str, code: str, *, status: int) -> dict[str, Any]:
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"message": detail, "type": kind, "param": None, "code": code}
