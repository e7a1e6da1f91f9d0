"""Makes every error response of the API; its form is `{"detail", "code", "errors"?}`."""

import json
import logging
import sys
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse
from django.template import loader
from django.views.defaults import server_error
from rest_framework import exceptions

from batching.engine.errors import GatewayError
from batching.store.threads import CONNECTION_ERRORS, log_unavailable
from batching.telemetry.metrics import API_ERRORS

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
    405: "This path does not support this method.",
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
    """Returns an error response. What the caller omits is derived from the status."""
    document: dict[str, Any] = {
        "detail": detail or _DETAILS.get(status, "The gateway could not do this."),
        "code": code or _CODES.get(status, "internal_error" if status >= 500 else "invalid"),
    }
    API_ERRORS.labels(document["code"]).inc()
    if errors:
        document["errors"] = errors
    body = json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")
    return HttpResponse(
        body, status=status, content_type="application/json", headers=dict(headers or {})
    )


def handle_exception(
    exception: Exception, context: Mapping[str, Any] | None = None
) -> HttpResponse:
    """DRF's `EXCEPTION_HANDLER`: turns any exception of an API view into a response."""
    if isinstance(exception, CONNECTION_ERRORS):
        exception = log_unavailable(exception)
    match exception:
        case GatewayError():
            return _describe_gateway_error(exception)
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


def page_error(request: HttpRequest) -> HttpResponse:
    """Django's `handler500`: the page has the status 503 if the database fails."""
    error = sys.exc_info()[1]
    if not isinstance(error, CONNECTION_ERRORS):
        return server_error(request)
    unavailable = log_unavailable(error)
    page = loader.render_to_string("500.html", {"cause": unavailable})
    return HttpResponse(page, status=unavailable.status, headers=_describe_wait(unavailable))


def _describe_gateway_error(error: GatewayError) -> HttpResponse:
    headers = _describe_wait(error)
    return json_error(error.status, code=error.code, detail=str(error), headers=headers)


def _describe_wait(error: GatewayError) -> dict[str, str]:
    if error.retry_after_s is None:
        return {}
    return {"Retry-After": str(max(1, round(error.retry_after_s)))}


def _describe_api_exception(exception: exceptions.APIException) -> HttpResponse:
    headers = {}
    status = exception.status_code
    if auth_header := getattr(exception, "auth_header", None):
        headers["WWW-Authenticate"] = auth_header
    if wait := getattr(exception, "wait", None):
        headers["Retry-After"] = str(int(wait))
    known = isinstance(exception.detail, str) and status in _CODES
    return json_error(status, detail=str(exception.detail) if known else None, headers=headers)


def _errors_by_field(detail: Any) -> dict[str, Any]:
    """Lists the messages by field. `body` holds those about the whole body."""
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
