"""The API's one error form, `{"detail", "code", "errors"?}`, and the one place that makes it."""

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.exceptions import (
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
)
from django.http import Http404, HttpRequest, HttpResponse
from rest_framework import exceptions

from batching.engine.errors import GatewayError
from batching.store.threads import AWAY, explain_away
from batching.telemetry.metrics import count_api_error

logger = logging.getLogger(__name__)

_CODES = {
    400: "invalid",
    401: "not_authenticated",
    403: "permission_denied",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
    429: "rate_limited",
}
_DETAILS = {
    400: "The request is not valid.",
    403: "You may not do this.",
    404: "There is nothing at this path.",
    405: "This path does not know this method.",
    413: "The body is larger than 1 MB.",
}


def json_error(
    status: int,
    *,
    code: str | None = None,
    detail: str | None = None,
    errors: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> HttpResponse:
    """The error document; whatever is not given is derived from the status."""
    document: dict[str, Any] = {
        "detail": detail or _DETAILS.get(status, "The gateway could not do this."),
        "code": code or _CODES.get(status, "internal_error" if status >= 500 else "invalid"),
    }
    count_api_error(document["code"])
    if errors:
        document["errors"] = errors
    body = json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")
    return HttpResponse(
        body, status=status, content_type="application/json", headers=dict(headers or {})
    )


def handle_exception(
    exception: Exception, context: Mapping[str, Any] | None = None
) -> HttpResponse:
    """DRF's `EXCEPTION_HANDLER`: every exception of every API view ends here."""
    if isinstance(exception, AWAY):
        exception = explain_away(exception)
    match exception:
        case GatewayError():
            headers = {}
            if exception.retry_after_s is not None:
                headers["Retry-After"] = str(max(1, round(exception.retry_after_s)))
            return json_error(
                exception.status, code=exception.code, detail=str(exception), headers=headers
            )
        case exceptions.ValidationError():
            errors = _errors_by_field(exception.detail)
            return json_error(400, detail=_first_sentence(errors), errors=errors)
        case exceptions.ParseError() | UnicodeError() | RecursionError():
            return json_error(400, detail="The body is not valid JSON.")
        case Http404() | exceptions.NotFound():
            return json_error(404)
        case PermissionDenied():
            return json_error(403)
        case RequestDataTooBig():
            return json_error(413)
        case SuspiciousOperation():
            return json_error(400)
        case exceptions.APIException():
            return _describe_api_exception(exception)
    request = (context or {}).get("request")
    logger.error(
        "An API view failed.", exc_info=exception, extra={"path": getattr(request, "path", "")}
    )
    return json_error(
        500, detail="The gateway failed on this request; the server log has the cause."
    )


def _describe_api_exception(exception: exceptions.APIException) -> HttpResponse:
    headers = {}
    status = exception.status_code
    if getattr(exception, "auth_header", None):
        headers["WWW-Authenticate"] = exception.auth_header
    if getattr(exception, "wait", None):
        headers["Retry-After"] = str(int(exception.wait))
    known = isinstance(exception.detail, str) and status in _CODES
    return json_error(status, detail=str(exception.detail) if known else None, headers=headers)


def _errors_by_field(detail: Any) -> dict[str, Any]:
    """Every message under its field; what concerns the whole body stands under `body`."""
    if isinstance(detail, Mapping):
        return {
            ("body" if field == "non_field_errors" else str(field)): (
                _errors_by_field(value) if isinstance(value, Mapping) else [str(v) for v in value]
            )
            for field, value in detail.items()
        }
    return {"body": [str(message) for message in detail]}


def _first_sentence(errors: Mapping[str, Any], prefix: str = "") -> str:
    for field, messages in errors.items():
        name = f"{prefix}{field}"
        if isinstance(messages, Mapping):
            return _first_sentence(messages, f"{name}.")
        return f"{name}: {messages[0]}"
    return _DETAILS[400]


def is_api_path(path: str) -> bool:
    return path in ("/v1", "/health") or path.startswith(("/v1/", "/health/"))


class JsonErrorMiddleware:
    """Turns whatever error Django itself words (a bad host, an unknown path) into the one form."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        if iscoroutinefunction(self):
            return self._call_async(request)
        return _in_json(request, self.get_response(request))

    async def _call_async(self, request: HttpRequest) -> HttpResponse:
        return _in_json(request, await self.get_response(request))


def _in_json(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    kind = response.headers.get("Content-Type", "")
    if response.status_code < 400 or "json" in kind or not is_api_path(request.path_info):
        return response
    kept = {name: response[name] for name in ("Allow", "WWW-Authenticate") if name in response}
    return json_error(response.status_code, headers=kept)
